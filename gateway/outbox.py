"""The outbox: what happened, into the table, once.

A session's journal is emptied into it. One transaction writes an event, the status it changes and a
delivery for each endpoint that wants it, so that no event is stored whose webhooks are not owed;
the entries of all sessions that come in while one transaction is under way share the next.

Deliveries are born claimed by this gateway and handed to its dispatcher in memory: the first
attempt, which is nearly always the last, needs neither a queue nor a claim of its own. If the
process dies before it, the claim lapses and the due-index gives the delivery to whoever looks.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final, Protocol, Self

import msgspec

from gateway.aws import Aws
from gateway.directory import Directory
from gateway.frames import Entry
from gateway.gather import Gather, Outcomes, Turn
from gateway.metrics import Metrics
from gateway.recording import LARGEST_REQUEST, Change, change_of, fold, without
from gateway.stamps import Stamps
from gateway.vigil import Sight
from shared.delivery import Delivery
from shared.errors import Contended, Unavailable
from shared.ids import EventId, SessionId
from shared.logs import fields
from shared.session import Pairing, Reason, Session, Trigger, after
from shared.store import sessions
from shared.store.dynamo import LARGEST_TRANSACTION
from shared.store.sessions import Observation
from shared.webhook import Endpoint

log = logging.getLogger(__name__)

TRIES: Final = 8
"""Each refusal leaves something out, and the table cannot know more than that of us."""
FLUSH_SECONDS: Final = 3.0
"""How long the last transactions may take on the way out."""

GIVEN_UP: Final = 60.0
"""Seconds after which entries that are not handed in again are no longer waited for: a recorder
comes again in half a minute, unless its session is another gateway's by now."""


class Deliverer(Protocol):
    """What the outbox needs of the dispatcher."""

    def born(self, delivery: Delivery, endpoint: Endpoint) -> Delivery:
        """A new delivery as it comes into the table: claimed, due, or held."""
        ...

    def hand_over(self, delivery: Delivery, body: bytes) -> None:
        """It is in the table: if it was born claimed, attempt it as soon as it is its turn."""
        ...


@dataclass(slots=True)
class _Owed:
    """A session with something to be stored. Times in monotonic seconds."""

    since: float
    hands: int = 0
    """How many are waiting for their entries now."""
    tried_at: float = 0.0


class Outbox:
    """Records entries and pairing offers. Open between `async with` and its end."""

    def __init__(
        self,
        *,
        aws: Aws,
        directory: Directory,
        deliverer: Deliverer,
        fenced: Callable[[Session], None],
        metrics: Metrics,
        now: Callable[[], int],
    ) -> None:
        """`fenced` is told of a session that a later lease has written."""
        self._aws = aws
        self._directory = directory
        self._deliverer = deliverer
        self._fenced = fenced
        self._metrics = metrics
        self._now = now
        self._stamps = Stamps(aws, now)
        self._behind: set[SessionId] = set()
        """Sessions of which something is to be handed in again: until then nothing that followed
        it may be stored, or the log would have it first."""
        self._owed: dict[SessionId, _Owed] = {}
        self._decided = 0
        self._gather = Gather(self._flush, _Room, _turn)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._gather)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Store what is waiting, if AWS answers: the rest is still in the journals."""
        try:
            async with asyncio.timeout(FLUSH_SECONDS):
                await self._stack.aclose()
        except TimeoutError:
            log.warning("outbox.cut_off", extra=fields(waiting=self.waiting))

    @property
    def waiting(self) -> int:
        """How many entries wait for their transaction."""
        return len(self._gather)

    @property
    def owed(self) -> int:
        """Of how many sessions something waits to be stored, or to be handed in again."""
        return len(self._owed)

    def draining(self) -> Sight:
        """How the storing goes: entries stored or refused, and how long the oldest has waited."""
        now = time.monotonic()
        for session_id, owed in list(self._owed.items()):
            if not owed.hands and now - owed.tried_at > GIVEN_UP:
                del self._owed[session_id]
        waits = max((now - owed.since for owed in self._owed.values()), default=0.0)
        return Sight(self._decided, waits, idle=not self._owed)

    def store_anew(self) -> None:
        """Cut off the transaction that is under way; what is in it is handed in again."""
        self._gather.cut_off()

    async def record(self, session: Session, entries: Sequence[Entry]) -> None:
        """Return once the entries are stored; entries stored before change nothing.

        Raises:
            Unavailable: AWS did not answer. Some may be stored: hand all of them in again.
            Contended: likewise, because of other writers.
        """
        owed = self._owed.setdefault(session.id, _Owed(time.monotonic()))
        owed.hands += 1
        try:
            await self._record(session, entries)
        except (Unavailable, Contended):
            raise
        except Exception:
            self._decide(session, 1)
            raise
        else:
            self._decide(session, len(entries))
        finally:
            owed.hands -= 1
            owed.tried_at = time.monotonic()

    async def record_late(self, session: Session, entry: Entry) -> None:
        """Store an entry out of its turn: its event, deliveries and message's status.

        The session's state has gone on since. Raises what `record` does.
        """
        endpoints = await self._directory.endpoints(session.tenant_id)
        change = change_of(session, entry.event, endpoints, self._now(), self._deliverer.born)
        await self._gather.add(msgspec.structs.replace(change, seen=None))

    def _decide(self, session: Session, entries: int) -> None:
        self._decided += entries
        self._owed.pop(session.id, None)

    async def _record(self, session: Session, entries: Sequence[Entry]) -> None:
        endpoints = await self._directory.endpoints(session.tenant_id)
        now = self._now()
        self._behind.discard(session.id)
        stored = [
            self._gather.add(change_of(session, entry.event, endpoints, now, self._deliverer.born))
            for entry in entries
        ]
        outcomes = await asyncio.gather(*stored, return_exceptions=True)
        for outcome in outcomes:
            if outcome is not None:
                raise outcome

    async def offer(self, session: Session, pairing: Pairing) -> None:
        """Show a pairing attempt's QR and code."""
        await self._aws.run(sessions.offer(session.tenant_id, session.id, pairing))

    async def store_away(self, session: Session) -> None:
        """Say that a session's journal cannot be had: the event follows when it can be counted."""
        state = after(session.state, Trigger.DROP)
        if state is None:
            return
        seen = Observation(
            state=state, at=self._now(), epoch=session.epoch, reason=Reason.STORE_UNAVAILABLE
        )
        await self._aws.run(sessions.observe(session.tenant_id, session.id, seen).alone())

    async def _flush(self, changes: Sequence[Change]) -> Outcomes:
        if any(change.session.id in self._behind for change in changes):
            return await self._without_late(changes)
        try:
            repeated = await self._store(changes)
        except (Unavailable, Contended):
            self._behind |= {change.session.id for change in changes}
            raise
        except Exception as error:
            if len(changes) == 1:
                log.exception(
                    "event.refused",
                    extra=fields(event_id=changes[0].event.id, type=changes[0].event.type),
                )
                return [error]
            # One of them is at fault, and the others must not wait for it.
            return [each for change in changes for each in await self._alone(change)]
        for change in changes:
            if change.event.id not in repeated:
                self._stored(change)
        return [None] * len(changes)

    async def _without_late(self, changes: Sequence[Change]) -> Outcomes:
        """Store those of sessions of which nothing has to come before."""
        why = Unavailable("dynamodb", "transact_write_items", "what came before is not stored")
        behind = [change.session.id in self._behind for change in changes]
        rest = [change for change, late in zip(changes, behind, strict=True) if not late]
        outcomes = iter(await self._flush(rest) if rest else ())
        return [why if late else next(outcomes) for late in behind]

    async def _alone(self, change: Change) -> Outcomes:
        try:
            return await self._flush([change])
        except (Unavailable, Contended) as error:
            return [error]

    async def _store(self, changes: Sequence[Change]) -> frozenset[EventId]:
        """Write the changes; the events among them that were stored before."""
        actions = fold(changes)
        repeated: frozenset[EventId] = frozenset()
        for _ in range(TRIES):
            refusal = await self._stamps.run([action.write for action in actions])
            if refusal is None:
                return repeated
            left = without(actions, refusal)
            repeated |= left.repeated
            for session in left.fenced:
                log.warning(
                    "session.fenced", extra=fields(session_id=session.id, epoch=session.epoch)
                )
                self._fenced(session)
            actions = left.actions
            if not actions:
                return repeated
        raise Contended(f"a transaction was refused {TRIES} times")

    def _stored(self, change: Change) -> None:
        self._metrics.events.labels(type=change.event.type).inc()
        if change.message is not None:
            self._metrics.messages.labels(status=change.message[1].status.value).inc()
        log.info(
            "event.recorded",
            extra=fields(
                event_id=change.event.id,
                type=change.event.type,
                tenant_id=change.event.tenant_id,
                session_id=change.event.session_id,
                deliveries=len(change.deliveries),
            ),
        )
        if change.deliveries:
            body = change.event.body.encode()
            for delivery in change.deliveries:
                self._deliverer.hand_over(delivery, body)


def _turn(change: Change) -> Turn:
    """Tenants take turns; a session's events keep their order."""
    return change.session.tenant_id, change.session.id


class _Room:
    """Of a transaction: so many writes and bytes."""

    def __init__(self) -> None:
        self._actions = self._size = 0

    def fits(self, change: Change) -> bool:
        return (
            self._actions + change.actions <= LARGEST_TRANSACTION
            and self._size + change.size <= LARGEST_REQUEST
        )

    def take(self, change: Change) -> None:
        self._actions += change.actions
        self._size += change.size
