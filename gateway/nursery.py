"""The gateway's side of the zygote: hosts as children with a channel, a pid and an end.

The zygote is started when it is needed, and again when it died or does not answer. Hosts die with
the one they were forked from; so one that hangs is kept until its last host is gone, and only forks
no more. A host's end is seen on a pidfd of our own, so it is noticed even where nobody is left to
report it.
"""

import asyncio
import logging
import os
import signal
import socket
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

import msgspec

from gateway.channel import FROM_HOST, Channel, over
from gateway.frames import FromHost
from gateway.zygote import LARGEST_PACKET, Exited, Failed, Fork, Forked, Report
from shared.errors import ZapgateError
from shared.logs import fields

log = logging.getLogger(__name__)

FOR_GO: Final = {
    # Without it every direct message carries WhatsApp's label for AI.
    "NEONIZE_BOT_TAG": "off",
    # Makes the collector work before one big download stays resident.
    "GOMEMLIMIT": "64MiB",
    # glibc keeps a heap per thread; a host has a dozen threads and little to allocate.
    "MALLOC_ARENA_MAX": "2",
}
FIRST_FORK_LIMIT: Final = 30.0
"""Seconds: loading the modules takes one, on a busy machine several."""
FORK_LIMIT: Final = 10.0
"""Seconds a zygote that has loaded them may take; a fork takes milliseconds."""
_STATUS_TIMEOUT: Final = 1.0
"""Seconds between a host's end and the zygote's word about it."""
_CLOSE_TIMEOUT: Final = 5.0

ENDED: Final = "the zygote ended"

_reports: Final[msgspec.msgpack.Decoder[Report]] = msgspec.msgpack.Decoder(Report)


class Unborn(ZapgateError):
    """No host could be forked."""


class Child:
    """One host process."""

    def __init__(self, pid: int, channel: Channel[FromHost]) -> None:
        self.pid = pid
        self.channel = channel
        self.status: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        """Its exit status, a negative signal number; None where nobody reported it."""
        self._ended = asyncio.Event()
        self._told: list[Callable[[], None]] = []
        self._watch = -1
        try:
            self._watch = os.pidfd_open(pid)
        except ProcessLookupError:
            self._ended.set()
        else:
            asyncio.get_running_loop().add_reader(self._watch, self._on_end)

    def kill(self) -> None:
        """End it at once. Safe when it has ended: the pidfd never names another process."""
        if self._watch >= 0:
            try:
                signal.pidfd_send_signal(self._watch, signal.SIGKILL)
            except ProcessLookupError:
                return

    async def ended(self) -> int | None:
        """Wait until the process is gone; then its status."""
        await self._ended.wait()
        done, _ = await asyncio.wait([self.status], timeout=_STATUS_TIMEOUT)
        return self.status.result() if done else None

    @property
    def over(self) -> bool:
        """Whether the process is gone."""
        return self._ended.is_set()

    def on_end(self, tell: Callable[[], None]) -> None:
        """Have somebody told when it ends."""
        self._told.append(tell)

    def _on_end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._watch)
        os.close(self._watch)
        self._watch = -1
        self._ended.set()
        for tell in self._told:
            tell()


class _Zygote:
    """One zygote, its control socket, and the hosts that were forked from it."""

    def __init__(self, process: asyncio.subprocess.Process, control: socket.socket) -> None:
        self.process = process
        self.proven = False
        """It has forked before: its modules are loaded."""
        self.retired = False
        self._control: socket.socket | None = control
        self._asked: dict[int, asyncio.Future[int]] = {}
        self._children: dict[int, Child] = {}
        asyncio.get_running_loop().add_reader(control, self._on_report)

    @property
    def there(self) -> bool:
        return self._control is not None

    async def fork(self, number: int) -> Child:
        """A new host. Raises Unborn, OSError, or TimeoutError if it does not answer."""
        if self._control is None:
            raise Unborn(ENDED)
        ours, theirs = socket.socketpair()
        answer = self._asked[number] = asyncio.get_running_loop().create_future()
        try:
            with theirs:
                packet = msgspec.msgpack.encode(Fork(number))
                socket.send_fds(self._control, [packet], [theirs.fileno()])
            pid = await asyncio.wait_for(answer, FORK_LIMIT if self.proven else FIRST_FORK_LIMIT)
        except BaseException:
            # If it is forked all the same, later, it finds its channel closed and ends.
            ours.close()
            raise
        finally:
            self._asked.pop(number, None)
        self.proven = True
        child = Child(pid, await over(ours, FROM_HOST))
        self._children[pid] = child
        return child

    def retire(self) -> None:
        """Fork no more, and end with its last host: they would die with it."""
        self.retired = True
        for child in self._children.values():
            child.on_end(self._child_ended)
        self._child_ended()

    def drop(self) -> None:
        """It is no more, or is to be."""
        if self._control is None:
            return
        asyncio.get_running_loop().remove_reader(self._control)
        self._control.close()
        self._control = None
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(Unborn(ENDED))
        for child in self._children.values():
            if not child.status.done():
                child.status.set_result(None)
        self._children.clear()

    async def close(self) -> None:
        """End it, and with it whatever host is left."""
        self.drop()
        if self.retired:
            self._kill()
        try:
            await asyncio.wait_for(self.process.wait(), _CLOSE_TIMEOUT)
        except TimeoutError:
            self._kill()
            await self.process.wait()

    def _child_ended(self) -> None:
        if all(child.over for child in self._children.values()):
            self._kill()

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            self.process.kill()

    def _on_report(self) -> None:
        if self._control is None:
            return
        try:
            packet = self._control.recv(LARGEST_PACKET)
        except BlockingIOError:
            return
        except OSError:
            packet = b""
        if not packet:
            log.error("zygote.ended", extra=fields(pid=self.process.pid, retired=self.retired))
            self.drop()
            return
        match _reports.decode(packet):
            case Forked(number, outcome) | Failed(number, outcome):
                self._answer(number, outcome)
            case Exited(pid, status):
                child = self._children.pop(pid, None)
                if child is not None and not child.status.done():
                    child.status.set_result(status)

    def _answer(self, number: int, outcome: int | str) -> None:
        """Tell whoever asked for a host its pid, or why there is none."""
        answer = self._asked.get(number)
        if answer is None or answer.done():
            return
        if isinstance(outcome, int):
            answer.set_result(outcome)
        else:
            answer.set_exception(Unborn(outcome))


class Nursery:
    """Starts the zygote, and hosts through it."""

    def __init__(
        self, environment: dict[str, str], log_level: str, preload: Sequence[str] = ()
    ) -> None:
        """`preload` names what hosts need besides what all need."""
        self._environment = {**environment, **FOR_GO}
        self._log_level = log_level
        self._preload = preload
        self._starting = asyncio.Lock()
        self._zygote: _Zygote | None = None
        self._retired: list[_Zygote] = []
        self._number = 0
        self.matter: str | None = None
        """Why the last fork failed, if it did."""
        self.replaced: Counter[str] = Counter()
        """Zygotes after which another was started, by what became of them: ended, hung."""

    @property
    def pid(self) -> int | None:
        """The zygote's, while there is one."""
        zygote = self._zygote
        return zygote.process.pid if zygote is not None and zygote.there else None

    async def fork(self) -> Child:
        """A new host. Raises Unborn."""
        try:
            child = await self._fork()
        except Unborn as error:
            self.matter = str(error)
            raise
        self.matter = None
        return child

    async def _fork(self) -> Child:
        for tries_left in (1, 0):
            zygote = await self._started()
            self._number += 1
            try:
                return await zygote.fork(self._number)
            except TimeoutError as error:
                self._replace(zygote)
                if not tries_left:
                    raise Unborn("no host was forked: the zygotes do not answer") from error
            except (OSError, Unborn) as error:
                raise Unborn(f"no host was forked: {error!r}") from error
        raise AssertionError("unreachable: the second try returns or raises")

    def _replace(self, zygote: _Zygote) -> None:
        """It hangs: fork from another. Its hosts live on, and it ends with the last of them."""
        if zygote is not self._zygote:
            return  # another who waited for it has done so
        log.error("zygote.hung", extra=fields(pid=zygote.process.pid))
        self.replaced["hung"] += 1
        self._zygote = None
        self._retired.append(zygote)
        zygote.retire()

    async def close(self) -> None:
        """End the zygote, and with it whatever host is left."""
        zygotes = [*self._retired, *([] if self._zygote is None else [self._zygote])]
        self._zygote, self._retired = None, []
        for zygote in zygotes:
            await zygote.close()

    async def _started(self) -> _Zygote:
        async with self._starting:
            if self._zygote is not None and self._zygote.there:
                return self._zygote
            if self._zygote is not None:
                self.replaced["ended"] += 1
                await self._zygote.process.wait()
                self._zygote = None
            for zygote in [each for each in self._retired if not each.there]:
                await zygote.process.wait()
                self._retired.remove(zygote)
            self._zygote = await self._start()
            return self._zygote

    async def _start(self) -> _Zygote:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)  # noqa: FBT003 (the socket's own signature)
        with theirs:
            try:
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-m",
                    "gateway.zygote",
                    str(theirs.fileno()),
                    str(os.getpid()),
                    self._log_level,
                    *self._preload,
                    env=self._environment,
                    pass_fds=[theirs.fileno()],
                    stdin=asyncio.subprocess.DEVNULL,
                    # The Go library prints there.
                    stdout=asyncio.subprocess.DEVNULL,
                )
            except OSError as error:
                ours.close()
                raise Unborn(f"the zygote did not start: {error}") from error
        log.info("zygote.started", extra=fields(pid=process.pid))
        return _Zygote(process, ours)
