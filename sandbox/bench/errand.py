"""Orders to a process of a figure, and its answers: one JSON object a line, over stdin and stdout.

The process is alone on a core where there are several, and everything else of the figure on the
others, ours and bare alike: so what it does in a second is what a core does.
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from sandbox.processes import LEASH, inherited

Told = dict[str, Any]

PATIENCE: Final = 90.0
"""Seconds until what was ordered counts as not done."""


class ErrandError(Exception):
    """The process ended, or did not do what it was told to."""


class Errand:
    """The process as a figure holds it."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self.process = process
        self._log = log

    async def told(self, do: str, **arguments: Any) -> Told:
        """Order something; what came of it. Raises ErrandError."""
        reader, writer = self.process.stdout, self.process.stdin
        assert reader is not None  # noqa: S101 - pipes were asked for
        assert writer is not None  # noqa: S101
        writer.write(msgspec.json.encode({"do": do, **arguments}) + b"\n")
        try:
            async with asyncio.timeout(PATIENCE):
                line = await reader.readline()
        except TimeoutError:
            raise ErrandError(f"{do!r} was not done in {PATIENCE:g} s; see {self._log}") from None
        if not line:
            raise ErrandError(f"the process ended while it did {do!r}; see {self._log}")
        told: Told = msgspec.json.decode(line)
        return told


@asynccontextmanager
async def run_errand(
    name: str, module: Sequence[str], environment: Mapping[str, str], logs: Path
) -> AsyncGenerator[Errand]:
    """Start `python -m module…` on a core of its own; yields once it takes orders."""
    log_file = _log_file(logs, name)
    with log_file.open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, LEASH, str(os.getpid()), "SIGTERM", *module),
            env={**inherited(), **environment},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            limit=1 << 24,
            start_new_session=True,
        )
    pin(process.pid, alone=True)
    errand = Errand(process, log_file)
    try:
        await errand.told("nothing")
        yield errand
    finally:
        # It has nothing in hand that is worth an orderly stop.
        if process.returncode is None:
            process.kill()
        await process.wait()


def _log_file(logs: Path, name: str) -> Path:
    logs.mkdir(parents=True, exist_ok=True)
    return logs / f"{name}.log"


def pin(pid: int, *, alone: bool) -> None:
    """Keep a process on the first core, or on all but the first; on one core nothing is done."""
    cores = sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else []
    if len(cores) < 2:
        return
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):
            os.sched_setaffinity(int(task.name), cores[:1] if alone else cores[1:])


async def obey(does: Mapping[str, Callable[..., Awaitable[Told]]]) -> None:
    """In the process: carry out orders until nobody gives any."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    while line := await reader.readline():
        order: dict[str, Any] = json.loads(line)
        do = order.pop("do")
        told = await does[do](**order) if do != "nothing" else {}
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()
