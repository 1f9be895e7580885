"""Carrying out commands: what each asks of the supervisor and of the table.

The session's row says what the tenant wants now; a command is the reason to look. So a repeated or
overtaken command does no harm: a start is not made for a session that was meanwhile stopped, and a
deletion that was begun goes on where it ended.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol, assert_never
from weakref import WeakValueDictionary

import msgspec

from gateway.aws import Aws
from gateway.bans import Bans
from gateway.changes import LOGGED_OUT, RESET, STOPPED, UNREMOVED, Change
from gateway.erasure import erase_session, erase_tenant
from gateway.host.refusals import EXPIRED
from gateway.keeper import HostStatus
from shared import clock, commands, ids, queue
from shared.commands import (
    Command,
    DeleteSession,
    Lifecycle,
    LogOutSession,
    PurgeTenant,
    ResetSession,
    SendMessage,
    StartSession,
    StopSession,
)
from shared.errors import Contended, Foreign, NotHeld, Unavailable
from shared.ids import CommandId, SessionId, TenantId
from shared.logs import fields
from shared.message import Failure, FailureCode
from shared.session import (
    ALIVE,
    RESUMABLE,
    Desired,
    Session,
    SessionState,
    Trigger,
    after,
    ban_ends,
    linked,
)
from shared.store import sessions, tenants
from shared.store.dynamo import Range
from shared.tenant import TenantStatus

log = logging.getLogger(__name__)

PURGE_WAVE: Final = 100
"""Sessions of a deleted tenant in deletion at a time: each may need a host to log out."""
PURGE_PAUSE: Final = 2.0
"""Seconds between looks at what is left of a deleted tenant."""
PURGE_LOOKS: Final = 300
"""Looks of one order: then another takes its place, because a queue parks what comes back often."""
PURGE_GRACE: Final = 45 * clock.SECOND
"""A stopped key is remembered for ten seconds and a request takes thirty: until both are over, one
of the tenant's may still write a row."""
CONNECT_SECONDS: Final = 20.0
"""How long a stopped session may take to connect before it is logged out without WhatsApp."""
CONNECT_LOOK: Final = 0.1


class Hosts(Protocol):
    """What we need of the supervisor."""

    async def start(
        self,
        session: Session,
        phone_number: str | None = None,
        *,
        restart: bool = False,
        ordered: bool = False,
    ) -> None:
        """Hold the session; nothing if it is held, unless `restart`."""
        ...

    async def stop(
        self, session_id: SessionId, *, log_out: bool = False, quiet: bool = False
    ) -> None:
        """Return when its host is gone and its journal is drained."""
        ...

    async def erase(self, session: Session) -> None:
        """Erase its credentials and journal."""
        ...

    async def send(self, command: SendMessage) -> None:
        """Return when the outcome is recorded. Raises NotHeld."""
        ...

    async def mark(self, session: Session, change: Change) -> None:
        """Record a change of a session without a host. Raises NotHeld if it has one."""
        ...

    async def refuse(self, session: Session, command: SendMessage, failure: Failure) -> None:
        """Record that a message failed whose session has no host. Raises NotHeld if it has one."""
        ...

    def holds(self, session_id: SessionId) -> bool:
        """Whether a host of ours holds it."""
        ...

    def snapshot(self) -> Sequence[HostStatus]:
        """Every session held here."""
        ...


@dataclass(frozen=True, slots=True)
class _Begun:
    session: Session
    at: int
    """When it was last started here (ms)."""


class Orders:
    """Carries out commands for the sessions of held shards."""

    def __init__(
        self,
        *,
        aws: Aws,
        hosts: Hosts,
        keys: Sequence[bytes],
        epoch: Callable[[int], int | None],
        now: Callable[[], int],
        bans: Bans,
    ) -> None:
        """`keys` sign commands; `epoch` is a shard's fencing token while we hold it."""
        self._aws = aws
        self._keys = keys
        self._hosts = hosts
        self._epoch = epoch
        self._now = now
        self._bans = bans
        self._begun: dict[SessionId, _Begun] = {}
        # A session's is gone with the last that waits for it.
        self._turns: WeakValueDictionary[SessionId, asyncio.Lock] = WeakValueDictionary()

    def acts_for(self, shard: int) -> bool:
        """Whether we hold this shard at this moment."""
        return self._epoch(shard) is not None

    async def carry_out(self, command: Command, shard: int) -> str:
        """Do what the command asks; what came of it, in a word.

        Raises:
            Foreign: its session is not its tenant's, or not on this shard.
            NotHeld, Unavailable, Contended: try it again later.
        """
        if self._epoch(shard) is None:
            raise NotHeld
        match command:
            case SendMessage():
                return await self._send(command, shard)
            case PurgeTenant():
                return await self._purge(command, shard)
            case (
                StartSession() | StopSession() | LogOutSession() | ResetSession() | DeleteSession()
            ):
                turn = self._turn(command.session_id)
                async with turn:
                    session = await self._owned(command, shard)
                    return "gone" if session is None else await self._lifecycle(command, session)
            case _:
                assert_never(command)

    async def give_up(self, command: SendMessage, shard: int) -> None:
        """Say that a message failed for which nothing we tried went well.

        A host that has it, and did not get it done, is replaced. Raises what `carry_out` does.
        """
        turn = self._turn(command.session_id)
        async with turn:
            session = await self._owned(command, shard)
            if session is None:
                return
            held = self._hosts.holds(session.id)
            if held:
                await self._hosts.stop(session.id, quiet=True)
            await self._refuse(session, command, _WORN_OUT)
            if held:
                with suppress(NotHeld):
                    await self._start(session, _unlinked_number(session))

    async def resume(self, session: Session) -> None:
        """Bring a session of a shard just won to what its tenant wants.

        What is known of it comes from an index, a little late: its row is read again, so that an
        order carried out meanwhile is not undone.
        """
        turn = self._turn(session.id)
        async with turn:
            if self._hosts.holds(session.id):
                return
            row = await self._aws.run(sessions.read(session.tenant_id, session.id))
            if row is None:
                return
            match row.desired:
                case Desired.RUNNING if row.state in RESUMABLE:
                    await self._start(row, _unlinked_number(row))
                case Desired.RUNNING:
                    self._bans.heed(row)
                case Desired.DELETED:
                    await self._delete(row)
                case Desired.STOPPED if row.state in ALIVE:
                    # Its gateway died between the order and the stop.
                    await self._stop(row)
                case _:
                    pass

    async def end_bans(self) -> None:
        """Start the sessions whose ban is over, if their tenants still want them to run."""
        for session in self._bans.over(self._now()):
            turn = self._turn(session.id)
            async with turn:
                row = await self._aws.run(sessions.read(session.tenant_id, session.id))
                ends = None if row is None else ban_ends(row)
                if row is None or ends is None:
                    self._bans.forget(session.id)
                elif ends > self._now():
                    self._bans.heed(row)
                else:
                    log.info("session.ban_over", extra=fields(session_id=session.id))
                    self._bans.forget(session.id)
                    with suppress(NotHeld):
                        await self._start(row, ordered=True)

    async def obey(self, session_id: SessionId) -> None:
        """Do for a session whose messages wait what was ordered behind them in the queue.

        It is stopped if its tenant no longer wants it to run. While it has no connection, which may
        be what they wait for, it is begun again if its tenant asked for that or changed its proxy.
        """
        begun = self._begun.get(session_id)
        if begun is None:
            return
        row = await self._aws.run(sessions.read(begun.session.tenant_id, session_id))
        if row is None or row.desired is not Desired.RUNNING:
            await self._hosts.stop(session_id)
        elif self._hosts.holds(session_id) and not self._is_connected(session_id):
            ordered = row.pending and row.updated_at > begun.at
            if ordered or row.proxy != begun.session.proxy:
                await self._start(row, _unlinked_number(row), restart=True, ordered=True)

    async def leave(self, shard: int) -> None:
        """Stop the hosts of a shard, without a word to its tenants: another gateway goes on."""
        begun = [each.session for each in self._begun.values()]
        leaving = [session for session in begun if session.shard == shard]
        results = await asyncio.gather(
            *(self._hosts.stop(session.id, quiet=True) for session in leaving),
            return_exceptions=True,
        )
        for session, result in zip(leaving, results, strict=True):
            self._begun.pop(session.id, None)
            if isinstance(result, BaseException):
                log.error("session.not_left", extra=fields(session_id=session.id), exc_info=result)
        self._bans.leave(shard)

    async def _owned(self, command: Command, shard: int) -> Session | None:
        """The command's session, None where it is gone. Raises Foreign."""
        begun = self._begun.get(command.session_id)
        if begun is not None and begun.session.tenant_id != command.tenant_id:
            raise Foreign("the session is another tenant's")
        row = await self._aws.run(sessions.read(command.tenant_id, command.session_id))
        if row is not None:
            if row.shard != shard:
                raise Foreign("the session is on another shard")
            return row
        others = await self._aws.run(sessions.find(shard, command.session_id))
        if any(other.tenant_id != command.tenant_id for other in others.rows):
            raise Foreign("the session is another tenant's")
        return None

    def _turn(self, session_id: SessionId) -> asyncio.Lock:
        return self._turns.setdefault(session_id, asyncio.Lock())

    async def _lifecycle(self, command: Lifecycle, session: Session) -> str:
        match command:
            case StartSession() if session.desired is not Desired.RUNNING:
                return "overtaken"
            case StopSession() if session.desired is Desired.RUNNING:
                return "overtaken"
            case StartSession():
                moved = await self._obey_start(command, session)
            case StopSession():
                moved = await self._stop(session)
            case LogOutSession():
                moved = await self._log_out(session)
            case ResetSession():
                moved = await self._reset(session)
            case DeleteSession():
                await self._delete(session)
                moved = True
            case _:
                assert_never(command)
        if not moved:
            # Whoever ordered it waits for a word, and there will be no event.
            epoch = self._fenced(session).epoch
            heed = sessions.heed(session.tenant_id, session.id, self._now(), epoch)
            await self._aws.run(heed)
        return "done"

    async def _obey_start(self, command: StartSession, session: Session) -> bool:
        """Whether the session is started by that, or again; False where there is nothing to do."""
        held = self._hosts.holds(session.id)
        begun = self._begun.get(session.id)
        number = command.phone_number
        restart = command.restart or command.redial
        if command.redial and not held and session.state not in RESUMABLE:
            return True  # it is at rest, and nobody waits for a word
        if restart:
            if held and begun is not None and command.issued_at <= begun.at:
                # One of many: a later start has done what it asks.
                if command.redial and begun.session.proxy == session.proxy:
                    return True
                if not command.redial and number is None:
                    return False
            number = number or _unlinked_number(session)
        elif not held and (ban_ends(session) or 0) > self._now():
            # WhatsApp would only say again until when. A restart asks it nevertheless.
            self._bans.heed(session)
            return False
        await self._start(session, number, restart=restart, ordered=True)
        return restart or not held

    async def _start(
        self,
        session: Session,
        phone_number: str | None = None,
        *,
        restart: bool = False,
        ordered: bool = False,
    ) -> None:
        fenced = self._fenced(session)
        self._bans.forget(session.id)
        begun = self._begun.get(session.id)
        goes_on = begun is not None and not restart and self._hosts.holds(session.id)
        at = begun.at if begun is not None and goes_on else self._now()
        # Before the start: whoever leaves the shard meanwhile must know of the host.
        self._begun[session.id] = _Begun(fenced, at)
        await self._hosts.start(fenced, phone_number, restart=restart, ordered=ordered)

    async def _stop(self, session: Session) -> bool:
        """Whether there was anything to stop."""
        held = self._hosts.holds(session.id)
        means = after(session.state, Trigger.STOP) is not None
        if held:
            await self._hosts.stop(session.id)
        elif means:
            await self._hosts.mark(self._fenced(session), STOPPED)
        self._forget(session)
        return held or means

    async def _log_out(self, session: Session, *, silent: bool = False) -> bool:
        """Remove the device from the account: that takes a socket, so a stopped one is started.

        `silent` tells nobody where there was no device to remove. Whether anything changed.
        """
        row = session
        # While it is banned, WhatsApp refuses the login that this takes.
        if linked(row) and row.state is not SessionState.BANNED and not self._hosts.holds(row.id):
            await self._start(row, ordered=True)
            await self._connected(row.id)
            if not self._hosts.holds(row.id):
                row = await self._aws.run(sessions.read(row.tenant_id, row.id)) or row
        moved = row is not session
        if self._hosts.holds(row.id):
            moved = True
            await self._hosts.stop(row.id, log_out=True)
        elif row.state is not SessionState.LOGGED_OUT and not silent:
            moved = True
            change = UNREMOVED if linked(row) else LOGGED_OUT
            await self._hosts.mark(self._fenced(row), change)
        self._forget(row)
        return moved

    async def _reset(self, session: Session) -> bool:
        """Erase the device's credentials; WhatsApp is not asked. Whether anything changed."""
        await self._hosts.stop(session.id, quiet=True)
        self._forget(session)
        await self._hosts.mark(self._fenced(session), RESET)
        return after(session.state, RESET.trigger) is not None

    def _forget(self, session: Session) -> None:
        self._begun.pop(session.id, None)
        self._bans.forget(session.id)

    async def _connected(self, session_id: SessionId) -> None:
        """Return when the session is connected, or has had its time for it."""
        for _ in range(round(CONNECT_SECONDS / CONNECT_LOOK)):
            if self._is_connected(session_id) in {None, True}:
                return
            await asyncio.sleep(CONNECT_LOOK)

    def _is_connected(self, session_id: SessionId) -> bool | None:
        """Whether a session that is held here is connected; None for any other."""
        statuses = {status.session_id: status for status in self._hosts.snapshot()}
        status = statuses.get(session_id)
        return None if status is None else status.connected

    async def _delete(self, session: Session) -> None:
        await self._log_out(session, silent=True)
        await self._hosts.erase(session)
        await erase_session(self._aws, session.tenant_id, session.id)
        log.info(
            "session.erased",
            extra=fields(tenant_id=session.tenant_id, session_id=session.id),
        )

    async def _purge(self, command: PurgeTenant, shard: int) -> str:
        tenant_id = command.tenant_id
        tenant = await self._aws.run(tenants.read(tenant_id))
        if tenant is None:
            return "gone"
        if tenant.status is not TenantStatus.DELETING:
            raise Foreign("the tenant is not being deleted")
        ordered: set[SessionId] = set()
        for _ in range(PURGE_LOOKS):
            try:
                left = await self._delete_some(tenant_id, ordered)
                if not left and self._now() >= command.issued_at + PURGE_GRACE:
                    await erase_tenant(self._aws, tenant_id)
                    log.info("tenant.erased", extra=fields(tenant_id=tenant_id))
                    return "done"
            except (Unavailable, Contended) as error:
                log.warning("purge.delayed", extra=fields(tenant_id=tenant_id, cause=str(error)))
            await asyncio.sleep(PURGE_PAUSE)
        await self._order(shard, _renewed(command, self._now()))
        return "continued"

    async def _delete_some(self, tenant_id: TenantId, ordered: set[SessionId]) -> bool:
        """Order a deleted tenant's oldest sessions deleted, but those in `ordered`, which grows.

        Whether there was any session left.
        """
        rows = Range(limit=PURGE_WAVE, newest_first=False)
        page = await self._aws.run(sessions.every(tenant_id, rows))
        fresh = [session for session in page.rows if session.id not in ordered]
        await asyncio.gather(*(self._order_deletion(session) for session in fresh))
        ordered.update(session.id for session in fresh)
        return bool(page.rows)

    async def _order_deletion(self, session: Session) -> None:
        now = self._now()
        await self._aws.run(sessions.desire(session.tenant_id, session.id, Desired.DELETED, now))
        command = DeleteSession(
            id=CommandId(clock.mint(ids.COMMAND)),
            tenant_id=session.tenant_id,
            session_id=session.id,
            issued_at=now,
            expires_at=now + commands.LIFETIME,
        )
        await self._order(session.shard, command)

    async def _order(self, shard: int, command: Command) -> None:
        text = commands.encode(self._keys, command)
        await self._aws.run(queue.send_command(shard, command.session_id, command.id, text))

    async def _send(self, command: SendMessage, shard: int) -> str:
        begun = self._begun.get(command.session_id)
        if begun is not None and begun.session.tenant_id != command.tenant_id:
            raise Foreign("the session is another tenant's")
        if begun is not None and self._hosts.holds(begun.session.id):
            try:
                await self._hosts.send(command)
            except NotHeld:
                pass  # it ended meanwhile: its row says whether it is to go on
            else:
                return "done"
        # All that a host left unsent come here at once: they take turns, first come first served,
        # so that none passes another while the row is read and a host is made.
        turn = self._turn(command.session_id)
        async with turn:
            return await self._send_anew(command, shard)

    async def _send_anew(self, command: SendMessage, shard: int) -> str:
        """Send for a session that has no host here, if it should have one."""
        session = await self._owned(command, shard)
        if session is None:
            return "gone"
        if self._now() >= command.expires_at:
            return await self._refuse(session, command, EXPIRED)
        if session.desired is not Desired.RUNNING or session.state not in RESUMABLE:
            return await self._refuse(session, command, _ENDED)
        await self._start(session, _unlinked_number(session))
        await self._hosts.send(command)
        return "done"

    async def _refuse(self, session: Session, command: SendMessage, failure: Failure) -> str:
        """Tell a message that no host will send that it failed."""
        await self._hosts.refuse(self._fenced(session), command, failure)
        return failure.code.value

    def _fenced(self, session: Session) -> Session:
        """The session under the token of our lease. Raises NotHeld once it has passed on."""
        epoch = self._epoch(session.shard)
        if epoch is None:
            raise NotHeld
        return msgspec.structs.replace(session, epoch=epoch)


def _unlinked_number(session: Session) -> str | None:
    """The number to go on asking a pairing code for; None where a device is linked."""
    return None if linked(session) else session.phone_number


def _renewed(command: PurgeTenant, now: int) -> PurgeTenant:
    """The same order with its time before it again; when it was first issued stays."""
    return msgspec.structs.replace(
        command, id=CommandId(clock.mint(ids.COMMAND)), expires_at=now + commands.LIFETIME
    )


_ENDED: Final = Failure(
    code=FailureCode.SESSION_ENDED,
    detail="The session was not running when its turn came.",
    blame="request",
    retryable=True,
)

_WORN_OUT: Final = Failure(
    code=FailureCode.NOT_CONNECTED,
    detail="It could not be handed over in a hundred tries, for a fault on our side.",
    blame="zapgate",
    retryable=True,
)
