"""Numbers of several rounds, and what they say: median, spread, ratio by round, verdict."""

import math
import statistics
from collections.abc import Sequence
from typing import Final, Literal

import msgspec

OK: Final = "OK"
MISSED: Final = "MISSED"


class Spread(msgspec.Struct, frozen=True):
    """The middle of some values, and how far they go."""

    low: float
    median: float
    high: float

    @property
    def width(self) -> float:
        """How far they go, as a share of the middle; 0 where the middle is 0."""
        return (self.high - self.low) / self.median if self.median else 0.0


def spread(values: Sequence[float]) -> Spread:
    """Raises ValueError where there are none."""
    if not values:
        raise ValueError("no values, no spread")
    return Spread(min(values), statistics.median(values), max(values))


def percentile(values: Sequence[float], share: float) -> float:
    """The least value that `share` of the values do not exceed (nearest rank).

    Raises:
        ValueError: there are none, or `share` is not within 0..1.
    """
    if not values or not 0 <= share <= 1:
        raise ValueError("a percentile takes values and a share within 0..1")
    rank = max(1, math.ceil(share * len(values)))
    return sorted(values)[rank - 1]


class Target(msgspec.Struct, frozen=True):
    """What a row has to hold: its ratio to the bare counterpart, or its own value."""

    bound: float
    of: Literal["ratio", "value"] = "ratio"
    kind: Literal["at most", "at least"] = "at most"

    def holds(self, number: float) -> bool:
        return number <= self.bound if self.kind == "at most" else number >= self.bound


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table: ours and the bare counterpart, a value for each round of both.

    `bare` is empty where there is nothing to compare with.
    """

    name: str
    unit: str
    ours: tuple[float, ...]
    bare: tuple[float, ...] = ()
    target: Target | None = None

    def __post_init__(self) -> None:
        if not self.ours or (self.bare and len(self.bare) != len(self.ours)):
            raise ValueError(f"{self.name}: every round has a value, and the same rounds for both")

    @property
    def ratios(self) -> tuple[float, ...]:
        """Ours to bare, by round: what a busy moment slows, it slows in both."""
        return tuple(
            ours / bare if bare else math.inf
            for ours, bare in zip(self.ours, self.bare, strict=bool(self.bare))
        )

    @property
    def judged(self) -> float | None:
        """The number the target is about; None where there is no target.

        Raises:
            ValueError: the target is a ratio's, and there is no counterpart.
        """
        if self.target is None:
            return None
        return spread(self.ratios if self.target.of == "ratio" else self.ours).median

    @property
    def verdict(self) -> str:
        """OK, MISSED, or nothing where no target was set. Nothing is rounded before this."""
        if self.target is None or self.judged is None:
            return ""
        return OK if self.target.holds(self.judged) else MISSED


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What a figure measured.

    `notes` say how it was formed and, where a target was missed, what dominates; `samples` is
    everything that was measured, for whoever wants to judge anew.
    """

    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    samples: dict[str, list[float]] = {}
