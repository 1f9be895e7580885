"""The process that hosts are forked from: small, single-threaded, with their modules loaded.

A fresh interpreter with neonize takes 47 MiB of its own; a fork of this one less than half,
because the pages of Python and of the generated protobuf classes stay shared. The Go library itself
must never be loaded here: a fork taken afterwards never connects. So the protobuf modules are
imported under a stand-in for the package `neonize`, whose own import would load it.

The gateway executes this module with the environment that Go must see, because Go reads the
environment of the exec, not later changes. It dies with the gateway, and its hosts die with it.
"""

import ctypes
import gc
import importlib
import importlib.util
import logging
import os
import select
import signal
import socket
import sys
import types
from collections.abc import Sequence
from typing import Final, NoReturn

import msgspec

from shared import logs

log = logging.getLogger(__name__)

LARGEST_PACKET: Final = 4096
"""Bytes: requests and reports are a few numbers."""


class Fork(msgspec.Struct, frozen=True, tag=True):
    """Gateway to zygote, with one end of a socket pair: fork a host that speaks over it."""

    number: int


class Forked(msgspec.Struct, frozen=True, tag=True):
    """Zygote to gateway: the host of that request."""

    number: int
    pid: int


class Failed(msgspec.Struct, frozen=True, tag=True):
    """Zygote to gateway: no host came of that request; the hosts there are go on."""

    number: int
    why: str


class Exited(msgspec.Struct, frozen=True, tag=True):
    """Zygote to gateway: a host ended; a negative status is the signal that ended it."""

    pid: int
    status: int


Report = Forked | Failed | Exited

NICENESS: Final = 5
"""Of hosts, above their gateway's (nice(2)): a third of its share where all want the processor.
When hundreds start, it must still find time to renew its leases, on which they all depend."""

_PR_SET_PDEATHSIG: Final = 1
"""prctl(2): the signal to get when the parent ends."""

EXIT_BROKEN: Final = 70
"""EX_SOFTWARE of sysexits.h: an error of ours nobody expected."""

_PRELOADED: Final = (
    "asyncio",
    "concurrent.futures.thread",
    "sqlite3",
    "ssl",
)
_PROTOBUFS: Final = (
    "neonize.proto.Neonize_pb2",
    "neonize.proto.waCompanionReg.WAWebProtobufsCompanionReg_pb2",
    "neonize.proto.waE2E.WAWebProtobufsE2E_pb2",
)
_OURS: Final = ("gateway.host.life",)


def preload(more: Sequence[str] = ()) -> None:
    """Import what every host needs, and these modules, except the Go library."""
    for name in _PRELOADED:
        importlib.import_module(name)
    protobufs()
    for name in (*_OURS, *more):
        importlib.import_module(name)
    if "neonize" in sys.modules:
        raise ImportError("a module of ours imports neonize itself, and so its Go library")


def protobufs() -> None:
    """Import neonize's generated protobuf modules without running its `__init__`.

    Afterwards `from neonize.proto.Neonize_pb2 import …` works without the package, and
    `import neonize` still does what it always does.
    """
    if "neonize" in sys.modules:
        return
    spec = importlib.util.find_spec("neonize")
    if spec is None or spec.submodule_search_locations is None:
        raise ImportError("neonize is not installed")
    stand_in = types.ModuleType("neonize")
    stand_in.__path__ = list(spec.submodule_search_locations)
    sys.modules["neonize"] = stand_in
    try:
        for name in _PROTOBUFS:
            importlib.import_module(name)
    finally:
        del sys.modules["neonize"]


def die_with(parent: int) -> None:
    """Ask the kernel to kill this process when its parent ends, and check that it still lives."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def main() -> NoReturn:
    """`python -m gateway.zygote <fd> <parent pid> <log level> [<module> …]`."""
    control = socket.socket(fileno=int(sys.argv[1]))
    die_with(int(sys.argv[2]))
    logs.configure(sys.argv[3])
    # The gateway decides when hosts end: a Ctrl-C in the terminal is meant for it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(NICENESS)
    preload(sys.argv[4:])
    gc.collect()
    gc.freeze()
    serve(control)


def serve(control: socket.socket) -> NoReturn:
    """Fork on request and report exits, until the gateway closes its end."""
    woken, waker = socket.socketpair()
    waker.setblocking(False)  # noqa: FBT003 (the socket's own signature)
    signal.signal(signal.SIGCHLD, _on_child)
    signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
    while True:
        readable, _, _ = select.select([control, woken], [], [])
        if woken in readable:
            woken.recv(LARGEST_PACKET)
            report_exits(control)
        if control in readable:
            packet, descriptors, _, _ = socket.recv_fds(control, LARGEST_PACKET, 1)
            if not packet:
                os._exit(0)
            request = msgspec.msgpack.decode(packet, type=Fork)
            report = fork(request.number, descriptors, (control, woken, waker))
            control.send(msgspec.msgpack.encode(report))


def fork(number: int, descriptors: list[int], own: tuple[socket.socket, ...]) -> Report:
    """Fork a host that speaks over the descriptor, without our `own` sockets.

    Where the machine has no process, memory or descriptor left, that is an answer and not our end:
    every host of the gateway would end with us.
    """
    if not descriptors:
        return Failed(number, "the socket did not arrive: too many open files")
    end = socket.socket(fileno=descriptors[0])
    zygote = os.getpid()
    try:
        pid = os.fork()
    except OSError as error:
        end.close()
        return Failed(number, str(error))
    if pid == 0:
        for each in own:
            each.close()
        # Not the child's own question who its parent is: we may be gone before it first runs.
        become_host(end, zygote)
    end.close()
    return Forked(number, pid)


def _on_child(_signal: int, _frame: object) -> None:
    """The wakeup descriptor does the work; without a handler the signal would not be noticed."""


def report_exits(control: socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        control.send(msgspec.msgpack.encode(Exited(pid, os.waitstatus_to_exitcode(status))))


def become_host(end: socket.socket, zygote: int) -> NoReturn:
    """In the forked child: live as a host, and end without returning."""
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        die_with(zygote)
        life = importlib.import_module("gateway.host.life")
        life.live(end)
    except BaseException:
        log.exception("host.broken")
    finally:
        # Never a normal exit: the library's threads would be waited for, for ever.
        os._exit(EXIT_BROKEN)


if __name__ == "__main__":
    main()
