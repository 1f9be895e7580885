"""One session held by this gateway: its host, started again while it should live.

The keeper records what the host journals, hands it the orders, watches that it does not fall
silent, and, when the host is gone, reads the journal itself: what a killed host left there is
recorded all the same.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeVar, assert_never

import msgspec

from gateway.backoff import pause
from gateway.changes import LOGGED_OUT, STOPPED, UNREMOVED, Change
from gateway.frames import (
    Begin,
    Entry,
    Farewell,
    FromHost,
    Offer,
    Ping,
    Pulse,
    Ready,
    Recorded,
    RequestCode,
    Send,
    Settled,
    Stop,
    Watch,
)
from gateway.gate import Claim
from gateway.host.journal import Journal
from gateway.host.ledger import PAGE
from gateway.host.proxies import Trouble
from gateway.host.proxies import change as in_trouble
from gateway.host.refusals import ENDED
from gateway.host.sender import settle_interrupted
from gateway.host.store import EXIT_STORE, Damaged, StoreFailed
from gateway.house import House, last_words
from gateway.nursery import Child, Unborn
from gateway.proxies import NoWay, Way
from gateway.recorder import Recorder
from shared.commands import SendMessage
from shared.errors import Contended, Malformed, NotHeld, Unavailable
from shared.events import MessageChange, SessionChange
from shared.ids import MessageId, SessionId, TenantId
from shared.logs import fields
from shared.message import MessageStatus
from shared.session import ALIVE, RESUMABLE, Reason, Session, SessionState, Trigger

log = logging.getLogger(__name__)

BEGINNING: Final = RESUMABLE | {SessionState.STOPPED}
"""States that go on for a tenant who wants the session to run: WhatsApp has not ended it."""
READY_LIMIT: Final = 30.0
"""Seconds from the fork to a loaded library."""
WATCH: Final = 1.0
"""Seconds between two looks at a host."""
PINGS: Final = 10
"""Looks for a renewal a lease time: a host must hear of it while there is much of the last one."""
STOP_LIMIT: Final = 45.0
"""Seconds a host gets to end in order: more than its own limits add up to."""
QUIET_STOP_LIMIT: Final = 8.0
"""Seconds if it goes on elsewhere: a send that is cut off is uncertain, but a gateway that is on
its way out, or has lost its lease, has no longer."""
EXIT_LIMIT: Final = 3.0
"""Seconds between a host's last frame and its end."""
QUIET_DRAIN_LIMIT: Final = 5.0
"""Seconds a quiet stop waits for the entries to be stored: what is left waits in the journal."""

HOST_DIED: Final = Change(trigger=Trigger.DROP, reason=Reason.HOST_DIED)
STORE_AWAY: Final = Change(trigger=Trigger.DROP, reason=Reason.STORE_UNAVAILABLE)
STARTED: Final = Change(trigger=Trigger.START)

ENDED_FOR: Final = {
    Watch.PULSE: "the process stood still and was ended",
    Watch.SEND: "a message was stuck in the process, and it was ended",
    Watch.TAKE: "an event was stuck in the process, and it was ended",
}
"""Why a host did not end by itself, for its tenant."""

T = TypeVar("T")


class HostStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A session and its host, for health and metrics."""

    session_id: SessionId
    tenant_id: TenantId
    state: SessionState
    pid: int | None
    pulse_age: float | None
    """Seconds since the host last said that it lives."""
    connected: bool
    sending_for: float
    journal_depth: int
    restarts: int
    heard_ago: float | None = None
    """Seconds since a byte came from WhatsApp, None without a connection."""


@dataclass(slots=True)
class _Order:
    command: SendMessage
    done: "asyncio.Future[None]"


@dataclass(slots=True)
class _Life:
    """What is known of the host that runs now."""

    child: Child
    pulse: Pulse | None = None
    pulse_at: float = field(default_factory=time.monotonic)
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    farewell: Farewell | None = None
    connected_at: float | None = None
    logged_in: asyncio.Event = field(default_factory=asyncio.Event)
    """Whether it was connected at any time."""
    reached: bool = False
    """Whether WhatsApp answered: with a login, or an offer to pair."""
    killed: Watch | None = None


class Keeper:
    """Holds one session until it ends or is stopped."""

    def __init__(
        self, house: House, session: Session, phone_number: str | None, *, ordered: bool = False
    ) -> None:
        """`ordered`: its tenant asked for it, so it begins whatever had ended it before."""
        self._house = house
        self._ordered = ordered
        self._claim = Claim(session.tenant_id, session.connected_at, ordered)
        self._ahead = session
        """As the journal told it when it was last read."""
        self._phone_number = phone_number
        self._life: _Life | None = None
        self._stop: Stop | None = None
        self._nudge = asyncio.Event()
        self._orders: dict[MessageId, _Order] = {}
        self._recorder = Recorder(
            session, house.record, house.offer, house.aside.put, self._on_recorded
        )
        self._restarts = 0
        self._ended = False
        self.store_is_away = False
        """Its part of the device store could not be read when that was last tried."""
        self.unfinished = False
        """Whether it ended with something still to be journalled."""
        self._failures = 0
        self.done = asyncio.Event()

    @property
    def session(self) -> Session:
        """As the recorded entries tell it."""
        return self._recorder.session

    @property
    def ending(self) -> bool:
        """Whether it holds its session no longer, and only clears up."""
        return self._stop is not None or self._ended

    @property
    def stopped(self) -> bool:
        """Whether it was told to stop."""
        return self._stop is not None

    def status(self) -> HostStatus:
        life = self._life
        pulse = None if life is None else life.pulse
        return HostStatus(
            session_id=self.session.id,
            tenant_id=self.session.tenant_id,
            state=self.session.state,
            pid=None if life is None else life.child.pid,
            pulse_age=None if life is None else time.monotonic() - life.pulse_at,
            connected=pulse is not None and pulse.connected,
            sending_for=0.0 if pulse is None else pulse.sending_for,
            journal_depth=self._recorder.depth if pulse is None else pulse.journal_depth,
            restarts=self._restarts,
            heard_ago=None if pulse is None else pulse.heard_ago,
        )

    # What others ask.

    async def send(self, command: SendMessage) -> None:
        """Order a message; returns once its outcome is recorded. Raises NotHeld."""
        if self.ending:
            raise NotHeld("the session is at its end here")
        self.hurry()
        order = self._orders.get(command.message_id)
        if order is None:
            done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            # Whoever asked may be gone when it fails; that is then nobody's news.
            done.add_done_callback(lambda future: future.cancelled() or future.exception())
            order = self._orders[command.message_id] = _Order(command, done)
            if self._life is not None:
                self._life.child.channel.post(Send(command=command))
        await asyncio.shield(order.done)

    def hurry(self) -> None:
        """Somebody waits for the session: let it go before those that merely resume."""
        self._claim.ordered = True

    def request_code(self, phone_number: str) -> None:
        """A pairing code for this number, if the session is pairing or comes to it."""
        self.hurry()
        self._phone_number = phone_number
        if self._life is not None:
            self._life.child.channel.post(RequestCode(phone_number=phone_number))

    def stop(self, stop: Stop) -> None:
        """End the host; `done` says when it is gone and its journal drained."""
        if self._stop is None or (self._stop.quiet and not stop.quiet):
            self._stop = stop
        self.hurry()
        self._nudge.set()
        if self._life is not None:
            self._life.child.channel.post(self._stop)

    # The life of the session.

    async def run(self) -> None:
        """Hold the session until it ends for good or is stopped."""
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._recorder.record()),
                group.create_task(self._recorder.publish()),
            ]
            try:
                try:
                    await self._hold()
                finally:
                    self._house.weather.left(self.session.id)
                self._ended = True
                await self._finish()
            finally:
                self._ended = True
                self._release(NotHeld("the session is not held here any more"))
                self.done.set()
                for task in tasks:
                    task.cancel()

    async def _hold(self) -> None:
        def begin(journal: Journal) -> None:
            # The row may be behind the journal of a host that ended with its gateway: what was
            # logged out meanwhile is not to be paired again unasked.
            if self._ordered or journal.session.state in BEGINNING:
                journal.change(STARTED, self._house.now())

        await self._on_journal(begin)
        if self._ahead.state not in ALIVE:
            return
        first = True
        # To log out takes a connection: a session stopped before its first host still gets one.
        while self._stop is None or (first and self._stop.log_out):
            first = False
            await self._live()
            if self._stop is not None or self._ahead.state not in ALIVE:
                return
            self._failures += 1
            self._restarts += 1
            weather = self._house.weather
            jitter = random.random()  # noqa: S311 (not a secret)
            seconds = weather.pause(self.session.id, self._failures, jitter)
            log.warning(
                "host.restarting",
                extra=fields(session_id=self.session.id, failures=self._failures, seconds=seconds),
            )
            # Woken it is by what happens from now on, and once.
            self._calm()
            await self._nudged(seconds)
            self._calm()

    async def _live(self) -> None:
        """One host, from its fork to its end."""
        try:
            way = await self._house.proxies.way(self.session, self._failures)
        except NoWay as error:
            self._house.weather.left(self.session.id)
            await self._on_journal(partial(self._tell, error.trouble))
            return
        try:
            self._claim.connected_at = self.session.connected_at
            async with self._house.gate.passage(self._claim):
                self._claim.ordered = False
                if self._stop is not None and not self._stop.log_out:
                    return
                until = self._house.until(self.session)
                if until is None:
                    log.warning("host.not_leased", extra=fields(session_id=self.session.id))
                    return
                life = _Life(await self._house.nursery.fork())
                reader = asyncio.ensure_future(self._read(life))
                pings = asyncio.ensure_future(self._ping(life))
                guard = asyncio.ensure_future(self._guard(life))
                try:
                    self._begin(life, until, way)
                    await _first(life.ready.wait(), reader, READY_LIMIT)
                except BaseException:
                    life.child.kill()
                    for task in (reader, pings, guard):
                        task.cancel()
                    raise
        except Unborn as error:
            log.error("host.unborn", extra=fields(session_id=self.session.id, why=str(error)))  # noqa: TRY400 (the text says all)
            return
        try:
            await self._watch(life, reader)
        finally:
            pings.cancel()
            guard.cancel()
            life.child.kill()
            self._life = None
            await life.child.channel.close()
        status = await life.child.ended()
        log.info(
            "host.ended",
            extra=fields(
                session_id=self.session.id,
                pid=life.child.pid,
                status=status,
                asked=life.farewell is not None and life.farewell.asked,
            ),
        )
        await self._after(life, status)

    def _tell(self, trouble: Trouble, journal: Journal) -> None:
        log.warning(
            "host.no_way", extra=fields(session_id=self.session.id, trouble=trouble.name.lower())
        )
        journal.change(in_trouble(trouble), self._house.now())

    def _begin(self, life: _Life, until: float, way: Way) -> None:
        settings = self._house.settings
        life.child.channel.post(
            Begin(
                session=self.session,
                store=settings.device_store,
                scratch=str(self._house.folder(self.session)),
                phone_number=self._phone_number,
                prelude=settings.host_prelude,
                proxy=way.url,
                proxied=way.own,
                journal_sync=settings.journal_sync,
                journal_mode=settings.journal_mode,
                until=until,
                limits=self._house.limits,
            )
        )
        life.child.channel.post(Recorded(sequence=self._recorder.last))
        for order in self._orders.values():
            life.child.channel.post(Send(command=order.command))
        self._life = life
        if self._stop is not None:
            life.child.channel.post(self._stop)

    async def _ping(self, life: _Life) -> None:
        """Tell the host how long it may live, whenever the lease was renewed."""
        told = 0.0
        while True:
            await asyncio.sleep(self._house.settings.lease_seconds / PINGS)
            until = self._house.until(self.session)
            if until is not None and until > told:
                told = until
                life.child.channel.post(Ping(until=until))

    async def _guard(self, life: _Life) -> None:
        """See to it that the library uses each key once, now that it has made its tables."""
        await life.logged_in.wait()
        failures = 0
        while True:
            try:
                await self._house.threads.run(self._house.store(self.session).use_keys_once)
            except (OSError, StoreFailed):
                failures += 1
                log.exception("store.unguarded", extra=fields(session_id=self.session.id))
                await asyncio.sleep(pause(failures, random.random()))  # noqa: S311 (jitter)
            else:
                return

    async def _watch(self, life: _Life, reader: "asyncio.Future[None]") -> None:
        """Kill a host that stands still; return when it is gone."""
        stop_by: float | None = None
        while True:
            done, _ = await asyncio.wait([reader], timeout=WATCH)
            if done:
                reader.result()
                break
            now = time.monotonic()
            if self._stop is not None and stop_by is None:
                stop_by = now + (QUIET_STOP_LIMIT if self._stop.quiet else STOP_LIMIT)
            watch = self._stuck(life, now, stop_by)
            if watch is not None and life.killed is None:
                log.error(
                    "host.killed",
                    extra=fields(session_id=self.session.id, pid=life.child.pid, watch=watch.value),
                )
                self._house.watches[watch] += 1
                life.killed = watch
                life.child.kill()
            connected_at = life.connected_at
            if connected_at is not None and now - connected_at > self._house.limits.unsteady:
                self._failures = 0
        try:
            await asyncio.wait_for(life.child.ended(), EXIT_LIMIT)
        except TimeoutError:
            log.warning("host.lingered", extra=fields(session_id=self.session.id))

    def _stuck(self, life: _Life, now: float, stop_by: float | None) -> Watch | None:
        limits = self._house.limits
        if now - life.pulse_at > limits.pulse:
            return Watch.PULSE
        if life.pulse is not None and life.pulse.sending_for > limits.send:
            return Watch.SEND
        if life.pulse is not None and life.pulse.taking_for > limits.take:
            return Watch.TAKE
        if stop_by is not None and now > stop_by:
            return Watch.STOP
        return None

    async def _read(self, life: _Life) -> None:
        while True:
            try:
                frames = await life.child.channel.receive()
            except Malformed as error:
                log.error(  # noqa: TRY400 (the text says all)
                    "host.garbled", extra=fields(session_id=self.session.id, why=str(error))
                )
                life.child.kill()
                return
            if not frames:
                return
            for frame in frames:
                self._hear(life, frame)

    def _hear(self, life: _Life, frame: FromHost) -> None:
        match frame:
            case Ready():
                life.ready.set()
            case Entry():
                self._recorder.take([frame])
                if frame.sequence <= self._recorder.last:
                    life.child.channel.post(Recorded(sequence=self._recorder.last))
            case Settled(message_id=message_id):
                self._resolve(message_id)
            case Offer(pairing=pairing):
                self._recorder.show(pairing)
                self._reached(life)
            case Pulse():
                self._feel(life, frame)
            case Farewell(watch=watch):
                life.farewell = frame
                if watch is not None:
                    self._house.watches[watch] += 1
            case _:
                assert_never(frame)

    def _feel(self, life: _Life, pulse: Pulse) -> None:
        life.pulse, life.pulse_at = pulse, time.monotonic()
        if not pulse.connected:
            life.connected_at = None
        elif life.connected_at is None:
            life.connected_at = life.pulse_at
            life.logged_in.set()
            self._reached(life)

    def _reached(self, life: _Life) -> None:
        life.reached = True
        self._house.weather.reached(self.session.id)

    async def _after(self, life: _Life, status: int | None) -> None:
        """The host is gone: journal that, if it could not, and take over what it left."""
        died = life.farewell is None and self._stop is None

        def take_over(journal: Journal) -> None:
            if died and status == EXIT_STORE:
                journal.change(STORE_AWAY, self._house.now())
            elif died:
                why = last_words(self._house.folder(self.session))
                log.error(
                    "host.died",
                    extra=fields(session_id=self.session.id, status=status, why=why),
                )
                detail = None if status is None else f"the process ended with status {status}"
                if life.killed is not None:
                    detail = ENDED_FOR.get(life.killed, detail)
                change = msgspec.structs.replace(HOST_DIED, detail=detail)
                journal.change(change, self._house.now())

        await self._on_journal(take_over)
        if not life.reached and self._ahead.reason is Reason.CONNECTION_LOST:
            self._house.weather.missed(self.session.id, self._nudge.set)
        else:
            self._house.weather.left(self.session.id)

    async def _finish(self) -> None:
        """Journal the end that was asked for, record all that is left, and erase what must go."""
        stop = self._stop
        quiet = stop is not None and stop.quiet
        if not quiet:
            await self._on_journal(lambda journal: self._conclude(journal, stop))
        before = -1
        while before < self._recorder.last:
            before = self._recorder.last
            await self._settled_down()
            await self._on_journal(self._tidy)

    def _conclude(self, journal: Journal, stop: Stop | None) -> None:
        """The session is at an end: nothing may be left undecided."""
        now = self._house.now()
        journal.release_all(now)
        if stop is not None and stop.log_out:
            # Else the host has said so: it could not ask WhatsApp, or ended while it did.
            device = journal.session.connected_at is not None
            journal.change(UNREMOVED if device else LOGGED_OUT, now)
        elif stop is not None:
            journal.change(STOPPED, now)
        settle_interrupted(journal, self._house.store(self.session), now, again=False)
        for order in list(self._orders.values()):
            change = MessageChange(
                message_id=order.command.message_id,
                status=MessageStatus.FAILED,
                to=order.command.to,
                failure=ENDED,
            )
            journal.settle(change, now)

    def _tidy(self, journal: Journal) -> None:
        journal.forget(self._recorder.last)
        if journal.session.state is SessionState.LOGGED_OUT:
            self._house.store(self.session).erase_credentials()

    async def _on_journal(self, work: Callable[[Journal], object]) -> None:
        """Do something with the journal while no host has it, then record what is in it.

        Tried until it works or the session is stopped: a disk that fails now may be back later.
        Only who has the lease touches it: without one it may be the next owner's.
        """
        failures = 0

        def blocking() -> tuple[Session, list[Entry]]:
            with self._house.open(self.session) as journal:
                if failures:
                    journal.change(STORE_AWAY, self._house.now())
                work(journal)
                return journal.session, journal.after(self._recorder.queued, PAGE)

        while True:
            if not await self._leased():
                self.unfinished = True
                return
            try:
                self._ahead, entries = await self._house.threads.run(blocking)
            except (OSError, StoreFailed, Damaged) as error:
                log.exception("journal.unavailable", extra=fields(session_id=self.session.id))
                failures += 1
                self.store_is_away = True
                if self._stop is not None and failures > 1:
                    # What is damaged stays so: a deletion that waits for it would wait for ever.
                    self.unfinished = not isinstance(error, Damaged)
                    return
                with suppress(Unavailable, Contended):
                    await self._house.store_away(self.session)
                await self._nudged(pause(failures, random.random()))  # noqa: S311 (jitter)
            else:
                self.store_is_away = False
                self._recorder.take(entries)
                return

    async def _leased(self) -> bool:
        """Wait for the lease, which may come back; False if the session is stopped without it."""
        while self._house.until(self.session) is None:
            if self._stop is not None:
                return False
            await self._nudged(WATCH)
        return True

    def _calm(self) -> None:
        if self._stop is None:
            self._nudge.clear()

    async def _nudged(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._nudge.wait(), seconds)
        except TimeoutError:
            return

    def _on_recorded(self, batch: Sequence[Entry]) -> None:
        for entry in batch:
            match entry.event.data:
                case MessageChange(message_id=message_id):
                    self._resolve(message_id)
                case SessionChange(reason=Reason() as reason):
                    self._house.ends[reason] += 1
                case _:
                    pass
        if self._life is not None:
            self._life.child.channel.post(Recorded(sequence=self._recorder.last))

    async def _settled_down(self) -> None:
        """Wait until everything is recorded; for another gateway's sake only for so long."""
        while not self._recorder.idle.is_set():
            quiet = self._house.closing.is_set() or (self._stop is not None and self._stop.quiet)
            # Without a lease there is nothing to wait for: what is recorded now may be refused.
            leased = self._house.until(self.session) is not None
            limit = (QUIET_DRAIN_LIMIT if leased else 0.0) if quiet else WATCH
            try:
                await asyncio.wait_for(self._recorder.idle.wait(), limit)
            except TimeoutError:
                if quiet:
                    log.warning(
                        "journal.left",
                        extra=fields(session_id=self.session.id, entries=self._recorder.depth),
                    )
                    return

    def _resolve(self, message_id: MessageId) -> None:
        order = self._orders.pop(message_id, None)
        if order is not None and not order.done.done():
            order.done.set_result(None)

    def _release(self, error: Exception) -> None:
        for order in self._orders.values():
            if not order.done.done():
                order.done.set_exception(error)
        self._orders.clear()


async def _first(one: Awaitable[object], other: "asyncio.Future[None]", seconds: float) -> None:
    """Wait until either is done, or the time is over."""
    waiter = asyncio.ensure_future(one)
    try:
        await asyncio.wait([waiter, other], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiter.cancel()
