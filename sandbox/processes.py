"""The planes as child processes: started with exactly an environment, watched, stopped, gone."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp

LEASH: Final = Path(__file__).with_name("leash.py")
"""Runs a module that ends with us."""
READY_SECONDS: Final = 30.0
"""How long a plane may take to answer: a second here, and a loaded laptop's patience."""
STOP_SECONDS: Final = 30.0
"""How long an orderly stop may take before it is ended."""


class ProcessError(Exception):
    """A process did not come up, or ended when it should not; the message names its log."""


def ending(code: int | None) -> str:
    """A process's return code in words."""
    if code is not None and code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with {code}"


def claim_port(port: int) -> None:
    """Make sure that nobody listens on a port that was asked for. Raises ProcessError."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise ProcessError(f"port {port} cannot be had: {error.strerror}; use --port") from None


@dataclass(frozen=True)
class Plane:
    """A running child: what it is called, where it answers, where it writes."""

    name: str
    url: str
    log_file: Path
    process: asyncio.subprocess.Process

    async def gone(self) -> None:
        """Wait for its end, and say so: whoever waits did not ask for it."""
        await self.process.wait()
        raise self.ended()

    def ended(self) -> ProcessError:
        """How it ended, in words."""
        return ProcessError(f"{self.name} {ending(self.process.returncode)}; see {self.log_file}")


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on, and for a while nobody is given.

    One connection to it, closed from its side, leaves it in TIME_WAIT: for a minute the system
    hands it to nobody who asks for any port, while whoever names it may listen (SO_REUSEADDR).
    """
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        address: tuple[str, int] = listener.getsockname()
        with socket.create_connection(address) as caller:
            accepted, _ = listener.accept()
            accepted.close()
            caller.recv(1)
        return address[1]


def inherited() -> dict[str, str]:
    """What any program needs of our own environment, and nothing that would steer it."""
    kept = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "SYSTEMROOT", "PYTHONASYNCIODEBUG")
    return {name: os.environ[name] for name in kept if name in os.environ}  # noqa: TID251 - handed on, not read


@asynccontextmanager
async def run_plane(
    name: str,
    module: Sequence[str],
    environment: Mapping[str, str],
    *,
    url: str,
    ready: str,
    logs: Path,
) -> AsyncGenerator[Plane]:
    """Start `python -m module…`, wait until `url + ready` answers 200, stop it on the way out.

    Raises:
        ProcessError: it ended or did not answer in time.
    """
    log_file = _log_file(logs, name)
    with log_file.open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            LEASH,
            str(os.getpid()),
            "SIGTERM",
            *module,
            env={**inherited(), **environment, "PYTHONUNBUFFERED": "1"},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=asyncio.subprocess.STDOUT,
            # Ctrl-C is for us: what is in hand is finished in order.
            start_new_session=True,
        )
    plane = Plane(name, url, log_file, process)
    try:
        await _answers(plane, url + ready)
        yield plane
    finally:
        await asyncio.shield(stop(plane))


def _log_file(logs: Path, name: str) -> Path:
    logs.mkdir(parents=True, exist_ok=True)
    return logs / f"{name}.log"


async def stop(plane: Plane, within: float = STOP_SECONDS) -> None:
    """Ask it to end, and end it if it does not."""
    process = plane.process
    if process.returncode is not None:
        return
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(within):
            await process.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def _answers(plane: Plane, url: str) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + READY_SECONDS
    async with aiohttp.ClientSession() as http:
        while True:
            if plane.process.returncode is not None:
                raise plane.ended()
            with suppress(aiohttp.ClientError, TimeoutError):
                async with http.get(url, timeout=aiohttp.ClientTimeout(2)) as answer:
                    if answer.status == 200:
                        return
            if loop.time() > deadline:
                raise ProcessError(f"{plane.name} does not answer; see {plane.log_file}")
            await asyncio.sleep(0.05)
