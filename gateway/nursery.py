"""The gateway's side of the zygote: hosts as children with a channel, a pid and an end.

The zygote is started when it is needed and again when it died. A host's end is seen on a pidfd of
our own, so it is noticed even where nobody is left to report it.
"""

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
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
_FORK_TIMEOUT: Final = 30.0
"""Seconds: loading the modules takes one, on a busy machine several."""
_STATUS_TIMEOUT: Final = 1.0
"""Seconds between a host's end and the zygote's word about it."""
_CLOSE_TIMEOUT: Final = 5.0

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

    def _on_end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._watch)
        os.close(self._watch)
        self._watch = -1
        self._ended.set()


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
        self._process: asyncio.subprocess.Process | None = None
        self._control: socket.socket | None = None
        self._number = 0
        self._asked: dict[int, asyncio.Future[int]] = {}
        self._children: dict[int, Child] = {}
        self.matter: str | None = None
        """Why the last fork failed, if it did."""

    @property
    def pid(self) -> int | None:
        """The zygote's, while there is one."""
        return self._process.pid if self._process is not None and self._control else None

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
        control = await self._started()
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        self._number += 1
        number = self._number
        answer = self._asked[number] = loop.create_future()
        try:
            with theirs:
                packet = msgspec.msgpack.encode(Fork(number))
                socket.send_fds(control, [packet], [theirs.fileno()])
            pid = await asyncio.wait_for(answer, _FORK_TIMEOUT)
        except (OSError, TimeoutError, Unborn) as error:
            ours.close()
            raise Unborn(f"no host was forked: {error!r}") from error
        finally:
            self._asked.pop(number, None)
        child = Child(pid, await over(ours, FROM_HOST))
        self._children[pid] = child
        return child

    async def close(self) -> None:
        """End the zygote, and with it whatever host is left."""
        process = self._process
        self._lost()
        if process is None:
            return
        try:
            await asyncio.wait_for(process.wait(), _CLOSE_TIMEOUT)
        except TimeoutError:
            process.kill()
            await process.wait()
        self._process = None

    async def _started(self) -> socket.socket:
        async with self._starting:
            if self._control is not None:
                return self._control
            if self._process is not None:
                await self._process.wait()
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            ours.setblocking(False)  # noqa: FBT003 (the socket's own signature)
            with theirs:
                try:
                    self._process = await asyncio.create_subprocess_exec(
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
            self._control = ours
            asyncio.get_running_loop().add_reader(ours, self._on_report)
            log.info("zygote.started", extra=fields(pid=self._process.pid))
            return ours

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
            log.error("zygote.ended", extra=fields(pid=self.pid))
            self._lost()
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

    def _lost(self) -> None:
        if self._control is None:
            return
        asyncio.get_running_loop().remove_reader(self._control)
        self._control.close()
        self._control = None
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(Unborn("the zygote ended"))
        for child in self._children.values():
            if not child.status.done():
                child.status.set_result(None)
        self._children.clear()
