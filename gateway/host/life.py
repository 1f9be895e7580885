"""The life of a session host: begin, connect, take and hand on, and end.

The zygote imports this module before it forks; the Go library is loaded by making a `Socket`, in
the host. The process ends by `os._exit` only, because the library's threads never end.
"""

import asyncio
import importlib
import logging
import os
import random
import signal
import socket
import time
from collections.abc import Awaitable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TextIO, assert_never, cast

from gateway.changes import LOGGED_OUT, STOPPED, UNREMOVED, Change
from gateway.channel import TO_HOST, Channel, over
from gateway.frames import (
    Begin,
    Farewell,
    Offer,
    Ping,
    Pulse,
    Ready,
    Recorded,
    RequestCode,
    Send,
    Settled,
    Stop,
    ToHost,
    Watch,
)
from gateway.host import disconnects, proxies
from gateway.host.attempt import Attempt
from gateway.host.clearance import Clearance
from gateway.host.convert import Account
from gateway.host.disconnects import SILENT, WATCHES
from gateway.host.hearing import heard_ago, port_of
from gateway.host.intake import Intake
from gateway.host.journal import Journal, Order
from gateway.host.place import LAST_WORDS, place
from gateway.host.sender import Sender, settle_interrupted
from gateway.host.socket import DIGITS, Socket
from gateway.host.store import EXIT_STORE, StoreFailed
from gateway.host.verdict import Fate, Verdict
from gateway.host.watches import Watches
from gateway.host.wire import NotRemoved, Wire
from shared import clock, ids
from shared.errors import Malformed
from shared.ids import EventId
from shared.logs import fields
from shared.session import Pairing, Reason, Trigger

log = logging.getLogger(__name__)

THREADS: Final = 12
"""One is held by the library for good; the rest are for calls that may block for long."""
WINDOW: Final = 500
"""Entries handed on and not yet recorded. More wait on the disk, not in the gateway's memory."""
_BATCH: Final = 100
BEAT: Final = 1.0
"""Seconds between two looks at the watches below."""
LOOKS: Final = 3
"""Looks at the connection itself in the time it may be missing."""
PRUNE_EVERY: Final = 3600.0
"""Seconds between two looks at what the journal, and the library's prints, may forget."""
LARGEST_LAST_WORDS: Final = 1024 * 1024
"""Bytes of the library's prints, which nobody reads before it aborts."""
BEGIN_LIMIT: Final = 10.0
"""Seconds until the first frame."""
SEND_GRACE: Final = 5.0
"""Seconds the send in hand gets to end before the socket is closed."""
LOGIN_TO_LEAVE: Final = 15.0
"""Seconds a host that is to log out waits for its first login: only a connection can do that."""
LOOK: Final = 0.05
LOG_OUT_LIMIT: Final = 10.0
DISCONNECT_LIMIT: Final = 3.0
"""Seconds: disconnecting blocks behind a dial in progress."""
FLUSH_LIMIT: Final = 2.0

EXIT_DONE: Final = 0
EXIT_ALONE: Final = 75
"""EX_TEMPFAIL: the gateway is gone or silent."""


def live(end: socket.socket) -> None:
    """Be a host, speaking over `end`. Returns only by an error nobody expected."""
    os.umask(0o077)
    asyncio.run(_live(end))


async def _live(end: socket.socket) -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS))
    channel = await over(end, TO_HOST)
    try:
        frames = await asyncio.wait_for(channel.receive(), BEGIN_LIMIT)
    except (TimeoutError, Malformed):
        frames = []
    if not frames or not isinstance(frames[0], Begin):
        log.error("host.not_begun")
        os._exit(EXIT_ALONE)
    begin = frames[0]
    set_aside_stderr(Path(begin.scratch) / LAST_WORDS)
    log.info("host.begun", extra=fields(session_id=begin.session.id, pid=os.getpid()))
    try:
        await Host(begin, channel, frames[1:]).run()
    except* StoreFailed as error:
        log.error("journal.unavailable", extra=fields(why=repr(error.exceptions[0])))  # noqa: TRY400 (the text says all)
        os._exit(EXIT_STORE)


def set_aside_stderr(path: Path) -> None:
    """Let the library's own prints and its last words go to a file; our log lines stay.

    The library writes to descriptor 2 whatever it likes, and when it aborts, why.
    """
    ours = os.fdopen(os.dup(2), "w", buffering=1)
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler):
            cast("logging.StreamHandler[TextIO]", handler).setStream(ours)
    path.unlink(missing_ok=True)
    # Appended to: after it was emptied, the next line is written at its beginning.
    with path.open("ab") as file:
        os.dup2(file.fileno(), 2)


def bound_stderr() -> None:
    """Empty that file when it is large: the library prints a line for every send that fails."""
    if os.fstat(2).st_size > LARGEST_LAST_WORDS:
        os.ftruncate(2, 0)


class Lease:
    """How long this process may hold its device, enforced by the kernel.

    An alarm ends the process whatever it is doing: waiting for a disk with every lock taken, inside
    the library, or stopped and continued.
    """

    def __init__(self, until: float) -> None:
        self._until = until
        self._enforced = False
        self._extended = asyncio.Event()

    def extend(self, until: float) -> None:
        """Live until then (monotonic seconds); an earlier time changes nothing."""
        if until <= self._until:
            return
        self._until = until
        self._extended.set()
        if self._enforced:
            self.enforce()

    async def good(self) -> None:
        """Return at once while it is, else when it was extended."""
        while self._until <= time.monotonic():
            self._extended.clear()
            await self._extended.wait()

    def enforce(self) -> None:
        """From now on, end the process when the time is over."""
        self._enforced = True
        # Whatever the alarm did before, it now ends the process without asking Python.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        # Zero would disarm it.
        left = max(self._until - time.monotonic(), 0.001)
        signal.setitimer(signal.ITIMER_REAL, left)


class Host:
    """One session, held by this process."""

    def __init__(self, begin: Begin, channel: Channel[ToHost], frames: list[ToHost]) -> None:
        self._begin = begin
        self._channel = channel
        self._frames = frames
        self._store = place(
            begin.store, begin.session, mode=begin.journal_mode, sync=begin.journal_sync
        )
        self._journal = Journal(
            self._store, begin.session, mint=lambda: EventId(clock.mint(ids.EVENT))
        )
        self._loop = asyncio.get_running_loop()
        self._connected = asyncio.Event()
        self._clearance = Clearance()
        self._confirmed = False
        self._library_ended = False
        self._watches = Watches(begin.limits, random.random())  # noqa: S311 (jitter, not a secret)
        self._watch: Watch | None = None
        self._port = port_of(begin.proxy)
        self._heard_ago: float | None = None
        self._pulsed: Pulse | None = None
        self._pulse_due = 0.0
        self._wire: Wire | None = None
        self._group: asyncio.TaskGroup | None = None
        self._wake = asyncio.Event()
        self._ended: asyncio.Future[Stop | None] = self._loop.create_future()
        self._lease = Lease(begin.until)
        first = self._journal.after(0, 1)
        self._passed_on = first[0].sequence - 1 if first else self._journal.last
        self._recorded = self._passed_on
        self._intake = Intake(
            self._journal,
            account=Account(begin.session.phone_number, begin.session.lid),
            journalled=self._wake.set,
            obey=self._obey,
            caught_up=self._clearance.caught_up,
            number_of=lambda lid: self._line().number_of(lid),
        )
        self._sender = Sender(
            self._journal,
            store=self._store,
            transmit=lambda to, text, secret: self._line().send(to, text, secret),
            connected=self._clearance.given,
            settled=self._on_settled,
            journalled=self._wake.set,
            now=clock.millis,
            random=os.urandom,
        )
        self._attempt = Attempt(
            self._journal,
            pair=lambda number: self._line().pair(number),
            show=self._show,
            journalled=self._wake.set,
            now=clock.millis,
            phone_number=begin.phone_number,
        )

    async def run(self) -> None:
        """Live until the socket ends or the gateway asks for it; ends the process."""
        self._journal.forget_old(clock.millis())
        settle_interrupted(self._journal, self._store, clock.millis(), again=True)
        self._wake.set()
        async with asyncio.TaskGroup() as group:
            self._group = group
            group.create_task(self._listen())
            group.create_task(self._hand_on())
            group.create_task(self._beat())
            await self._connect()
            group.create_task(self._sender.run())
            group.create_task(self._intake.look_up(self._connected))
            stop = await self._ended
            await self._close(stop)
            self._journal.close()
            # The task that runs the library's loop would hold the group for ever.
            os._exit(EXIT_DONE)

    async def _connect(self) -> None:
        begin = self._begin
        wire = Socket(
            name=self._store.name,
            uuid=begin.session.id,
            take=self._intake.take,
            offer=self._on_qr,
            status=self._on_status,
            error=self._on_error,
        )
        if begin.prelude:
            importlib.import_module(begin.prelude).install()
        await self._channel.send(Ready(pid=os.getpid()))
        # Loading may take longer than a lease on a busy machine; nothing was connected meanwhile.
        await self._lease.good()
        self._lease.enforce()
        self._watches.dialled(time.monotonic())
        if self._journal.session.connected_at is not None and not self._store.has_credentials():
            # The library would make a new device, and the session would seem to want pairing.
            self._library_ended = True
            self._judge(disconnects.NO_STORE)
            return
        self._store.library_opens()
        self._wire = wire
        wire.connect(begin.proxy).add_done_callback(self._on_library_end)

    def _line(self) -> Wire:
        if self._wire is None:
            raise AssertionError("unreachable: nothing is asked of the library before it dials")
        return self._wire

    def _background(self, work: Coroutine[Any, Any, None]) -> None:
        if self._group is None:
            raise AssertionError("unreachable: frames and callbacks come while the host runs")
        self._group.create_task(work)

    # What the library says.

    def _obey(self, verdict: Verdict) -> None:
        change = verdict.change
        if change is not None:
            match change.trigger:
                case Trigger.CONNECT:
                    self._attempt.end()
                    self._connected.set()
                    self._clearance.connected()
                    self._watches.connected()
                case Trigger.PAIRED:
                    self._attempt.end()
                    self._confirmed = True
                    self._watches.paired(time.monotonic())
                case _:
                    self._connected.clear()
                    self._clearance.dropped()
                    if verdict.change == SILENT.change:
                        self._watch = self._watch or Watch.SILENCE
                    elif (often := self._watches.dropped(time.monotonic())) is not None:
                        self._bark(often)
            self._pulse(time.monotonic())
        if verdict.fate is not Fate.STAY:
            self._end(None)

    def _on_qr(self, qr: str) -> None:
        if self._journal.session.connected_at is not None:
            # The library has erased the device, which it does when WhatsApp removed it; whoever
            # was to hear of that died. Nobody asked to pair again.
            self._judge(disconnects.REMOVED)
            return
        self._background(self._attempt.on_qr(qr))

    def _on_status(self, text: str) -> None:
        """A login status; the library has taken no notice of the rest of the attempt."""
        log.info("pairing.status", extra=fields(status=text))
        self._judge(disconnects.status(text, early=self._attempt.early()))

    def _on_library_end(self, ended: "asyncio.Future[str]") -> None:
        """Its loop ended, unasked: dialling failed, or an event it could not encode ended it."""
        self._library_ended = True
        if self._ended.done() or ended.cancelled():
            return
        why = disconnects.words(ended.result() or "the library stopped")
        log.error("host.library_ended", extra=fields(why=DIGITS.sub("…", why)))
        if self._connected.is_set():
            self._watch = Watch.DEAF
        self._judge(disconnects.gave_up(why, clock.millis()))

    def _bark(self, watch: Watch) -> None:
        """The time of a watch is over."""
        if self._ended.done():
            return
        log.error("host.watch", extra=fields(watch=watch.value))
        self._watch = watch
        self._judge(WATCHES[watch])

    def _on_error(self, words: str) -> None:
        """The library logged an error. Of a dial that failed again it says nothing else."""
        if self._begin.proxied and not self._connected.is_set() and not self._ended.done():
            verdict = proxies.blamed(disconnects.undialled(disconnects.words(words)))
            if verdict.change is not None and verdict.change.reason is Reason.PROXY_FAILED:
                self._judge(verdict)

    def _judge(self, verdict: Verdict) -> None:
        if self._begin.proxied:
            verdict = proxies.blamed(verdict)
        self._intake.follow(verdict, clock.millis())
        self._wake.set()
        self._obey(verdict)

    def _on_settled(self, order: Order) -> None:
        """Asked to send what has an outcome: if its entry is still to come, that is the answer."""
        if order.sequence is not None and order.sequence <= self._recorded:
            self._channel.post(Settled(message_id=order.message_id))

    async def _show(self, pairing: Pairing) -> None:
        await self._channel.send(Offer(pairing=pairing))

    # What the gateway says.

    async def _listen(self) -> None:
        frames = self._frames
        while True:
            for frame in frames:
                self._hear(frame)
            try:
                frames = await self._channel.receive()
            except Malformed:
                log.exception("host.garbled")
                os._exit(EXIT_ALONE)
            if not frames:
                # The gateway is gone. The journal is on the disk; another gateway may hold it next.
                os._exit(EXIT_ALONE)

    def _hear(self, frame: ToHost) -> None:
        match frame:
            case Begin():
                log.error("host.begun_twice")
            case RequestCode(phone_number=number):
                self._background(self._attempt.request(number))
            case Send():
                self._sender.put(frame)
            case Recorded(sequence=sequence):
                self._recorded = max(self._recorded, sequence)
                self._wake.set()
            case Stop():
                self._end(frame)
            case Ping(until=until):
                self._lease.extend(until)
            case _:
                assert_never(frame)

    async def _hand_on(self) -> None:
        """Entries to the gateway, in order, no more at a time than it can hold."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while (room := WINDOW - (self._passed_on - self._recorded)) > 0:
                entries = self._journal.after(self._passed_on, min(_BATCH, room))
                for entry in entries:
                    await self._channel.send(entry)
                    self._passed_on = entry.sequence
                if not entries:
                    break

    async def _beat(self) -> None:
        """Say that we live, forget what is recorded, and watch for WhatsApp's silence."""
        forgotten = self._recorded
        prune_at = time.monotonic() + PRUNE_EVERY
        hear_at = 0.0
        while True:
            await asyncio.sleep(BEAT)
            now = time.monotonic()
            if now > prune_at:
                prune_at = now + PRUNE_EVERY
                self._journal.forget_old(clock.millis())
                bound_stderr()
            if self._recorded > forgotten:
                forgotten = self._recorded
                self._journal.forget(forgotten)
            if now >= hear_at:
                hear_at = now + self._begin.limits.unconnected / LOOKS
                self._heard_ago = heard_ago(self._port)
                self._look(self._watches.hearing(now, self._heard_ago))
            self._journal.check()
            self._pulse(now)
            if not self._waits_for_phone:
                self._look(self._watches.login(now, sending=self._sender.sending_for > 0))
            elif self._attempt.overdue():
                self._on_status("timeout")

    def _look(self, watch: Watch | None) -> None:
        if watch is not None:
            self._bark(watch)

    @property
    def _waits_for_phone(self) -> bool:
        """Whether the number is not linked yet: there is no device."""
        return self._attempt.begun and not self._confirmed

    def _pulse(self, now: float) -> None:
        """Say that we live, and how: where that has changed, else now and then."""
        pulse = Pulse(
            connected=self._connected.is_set(),
            sending_for=self._sender.sending_for,
            journal_depth=self._journal.last - self._recorded,
            taking_for=self._intake.taking_for,
            heard_ago=self._heard_ago,
        )
        if pulse != self._pulsed or now >= self._pulse_due:
            self._pulsed, self._pulse_due = pulse, now + self._begin.limits.between_pulses
            self._channel.post(pulse)

    # The end.

    def _end(self, stop: Stop | None) -> None:
        if not self._ended.done():
            self._ended.set_result(stop)

    async def _close(self, stop: Stop | None) -> None:
        """Close the socket, take what is under way, journal the end, and say goodbye."""
        self._sender.stop()
        if stop is None and self._watch in _STILL_OPEN:
            # What comes over it from now on would be lost with this process: WhatsApp is told by
            # the library that it was received.
            await _within(DISCONNECT_LIMIT, self._line().disconnect())
            await self._intake.quiet()
        if stop is not None:
            await _within(SEND_GRACE, self._sender.idle.wait())
            logged_out = LOGGED_OUT
            if stop.log_out:
                logged_out = await self._log_out()
            if self._connected.is_set():
                await _within(DISCONNECT_LIMIT, self._line().disconnect())
                await self._intake.quiet()
            if not stop.quiet:
                self._journal.release_all(clock.millis())
            if stop.log_out:
                self._journal.change(logged_out, clock.millis())
            elif not stop.quiet:
                self._journal.change(STOPPED, clock.millis())
        self._wake.set()
        await _within(FLUSH_LIMIT, self._flushed())
        await _within(FLUSH_LIMIT, self._channel.send(self._farewell(stop)))

    def _farewell(self, stop: Stop | None) -> Farewell:
        return Farewell(asked=stop is not None, watch=None if stop is not None else self._watch)

    async def _log_out(self) -> Change:
        """Remove the device from the account; what became of that."""
        until = time.monotonic() + LOGIN_TO_LEAVE
        while (  # noqa: ASYNC110 (any of three may happen, one of them on no event of ours)
            time.monotonic() < until
            and not self._connected.is_set()
            and not self._attempt.begun
            and not self._library_ended
        ):
            await asyncio.sleep(LOOK)
        if not self._connected.is_set():
            return LOGGED_OUT if self._waits_for_phone else UNREMOVED
        try:
            await asyncio.wait_for(self._line().log_out(), LOG_OUT_LIMIT)
        except (TimeoutError, NotRemoved):
            return UNREMOVED
        return LOGGED_OUT

    async def _flushed(self) -> None:
        while (  # noqa: ASYNC110 (only on the way out)
            self._passed_on < self._journal.last and self._passed_on - self._recorded < WINDOW
        ):
            await asyncio.sleep(0.01)


_STILL_OPEN: Final = {Watch.SILENCE, Watch.DEAF}
"""Watches that end a host whose connection may still be, or be again, a good one."""


async def _within(seconds: float, work: Awaitable[object]) -> None:
    """Wait for something that may hang, and go on without it."""
    try:
        await asyncio.wait_for(work, seconds)
    except TimeoutError:
        log.warning("host.gave_up_waiting")
