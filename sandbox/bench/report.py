"""The table a person reads, from results."""

from collections.abc import Sequence
from typing import Final

from sandbox.bench.samples import Result, Row, Spread, Target, spread

_HEAD: Final = ("", "ours", "bare", "ratio", "target", "")


def number(value: float) -> str:
    """Three figures, no more: the fourth is noise."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def with_spread(values: Sequence[float], unit: str = "") -> str:
    """`12.3 ms (11.9..14)`: the median, and how far the rounds go."""
    if not values:
        return "-"
    of: Spread = spread(values)
    middle = f"{number(of.median)} {unit}".rstrip()
    return middle if len(values) == 1 else f"{middle} ({number(of.low)}..{number(of.high)})"


def promise(target: Target | None) -> str:
    """`≤ 1.3 x`, `≤ 30`: a target as the table says it."""
    if target is None:
        return "-"
    sign = "≤" if target.kind == "at most" else "≥"
    return f"{sign} {target.bound:g}{' x' if target.of == 'ratio' else ''}"


def cells(row: Row) -> tuple[str, ...]:
    return (
        row.name,
        with_spread(row.ours, row.unit),
        with_spread(row.bare, row.unit),
        with_spread(row.ratios),
        promise(row.target),
        row.verdict,
    )


def table(results: Sequence[Result]) -> str:
    """Every row of every figure, in columns."""
    lines = [_HEAD, *(cells(row) for result in results for row in result.rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(_HEAD))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def notes(results: Sequence[Result]) -> str:
    return "\n".join(f"* {note}" for result in results for note in result.notes)


def noise(loops: Sequence[float]) -> str:
    """How evenly the machine ran: the same loop, timed before each round (seconds)."""
    of = spread([each * 1000 for each in loops])
    return (
        f"machine noise: a fixed loop took {number(of.median)} ms "
        f"({number(of.low)}..{number(of.high)}) over {len(loops)} runs, "
        f"a spread of {of.width:.0%}"
    )
