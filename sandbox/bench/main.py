"""Runs the figures that were asked for, prints the table, keeps every sample."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Final, cast

import msgspec

from sandbox.bench import report
from sandbox.bench.clockwork import Clockwork
from sandbox.bench.figures import (
    cold,
    cpu,
    deliveries,
    density,
    first_byte,
    fleet,
    latency,
    memory,
    neighbours,
    owed,
    requests,
    sharing,
    start,
    throughput,
)
from sandbox.bench.options import Options
from sandbox.bench.samples import Result
from shared import clock

Measure = Callable[[Path, int, Clockwork], Awaitable[Result]]
LongMeasure = Callable[
    [Path, Options, Clockwork, Callable[[str], None]], Coroutine[Any, Any, Result]
]

FIGURES: Final[dict[str, Measure]] = {
    "latency": latency.measure,
    "throughput": throughput.measure,
    "memory": memory.measure,
    "cpu": cpu.measure,
    "cold": cold.measure,
    "start": start.measure,
    "requests": requests.measure,
    "deliveries": deliveries.measure,
    "first-byte": first_byte.measure,
    "neighbours": neighbours.measure,
    "owed": owed.measure,
    "fleet": fleet.measure,
}

TOGETHER: Final = {"webhooks": ("deliveries", "first-byte", "neighbours", "owed")}
"""Figures that go by one name."""

LONG: Final[dict[str, LongMeasure]] = {
    "density": density.measure,
    "sharing": sharing.measure,
}
"""Measured only if they are named, once, and not hurried."""

LONGEST: Final = 240.0
"""Seconds one of the others may take before it counts as not measured."""


class Kept(msgspec.Struct, frozen=True):
    """The file of a run."""

    at: str
    python: str
    rounds: int
    loops: list[float]
    results: dict[str, Result]
    failed: dict[str, str]


def measure(home: Path, *, rounds: int, names: tuple[str, ...], options: Options) -> int:
    """Measure the figures of these names, all but the long ones if none; the exit code."""
    wanted = figures_of(names)
    if rounds < 1:
        sys.exit("a figure takes at least one round")
    clockwork = Clockwork()
    results: dict[str, Result] = {}
    failed: dict[str, str] = {}
    for name in wanted:
        try:
            if name in LONG:
                say(f"measuring {name}")
                results[name] = asyncio.run(LONG[name](home, options, clockwork, say))
            else:
                say(f"measuring {name}: {rounds} rounds")
                results[name] = asyncio.run(_bounded(FIGURES[name], home, rounds, clockwork))
        except Exception as error:  # noqa: BLE001 - the other figures are still worth having
            failed[name] = f"{type(error).__name__}: {_deepest(error)}"
            say(f"  {name} was not measured: {failed[name]}; logs are in {home / 'logs'}")
    if results:
        say("")
        say(report.table(list(results.values())))
        say("")
        say(report.notes(list(results.values())))
        say(f"* {report.noise(clockwork.loops)}; each round measures ours and bare in turn")
    say(f"all samples: {keep(home, rounds, clockwork, results, failed)}")
    return 1 if failed else 0


def figures_of(names: Sequence[str]) -> tuple[str, ...]:
    """The figures these names stand for, each once; without any, all that are not long.

    Raises:
        SystemExit: one of them does not exist.
    """
    known = (*FIGURES, *TOGETHER, *LONG)
    unknown = [name for name in names if name not in known]
    if unknown:
        sys.exit(f"no figure {', '.join(unknown)}: there are {', '.join(known)}")
    each = (figure for name in names for figure in TOGETHER.get(name, (name,)))
    return tuple(dict.fromkeys(each)) or tuple(FIGURES)


async def _bounded(figure: Measure, home: Path, rounds: int, clockwork: Clockwork) -> Result:
    async with asyncio.timeout(LONGEST):
        return await figure(home, rounds, clockwork)


def _deepest(error: BaseException) -> BaseException:
    """The first error inside groups of them."""
    if isinstance(error, BaseExceptionGroup):
        inner = cast("tuple[BaseException, ...]", error.exceptions)
        return _deepest(inner[0])
    return error


def keep(
    home: Path,
    rounds: int,
    clockwork: Clockwork,
    results: dict[str, Result],
    failed: dict[str, str],
) -> Path:
    """Write the run's file; where it is."""
    at = clock.instant(clock.millis()).strftime("%Y%m%dT%H%M%SZ")
    folder = home / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{at}.json"
    kept = Kept(at, sys.version.split()[0], rounds, clockwork.loops, results, failed)
    file.write_bytes(msgspec.json.format(msgspec.json.encode(kept), indent=1))
    return file


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
