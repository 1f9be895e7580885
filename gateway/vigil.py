"""Whether a part of the gateway that should move does, and what to do about it if not.

Load and standstill look alike from outside: things wait. They are told apart by a counter of what
gets done. While it counts, waiting is load, which is reported; when it stops although there is
something to do, the part is repaired, again and again, and what others could do is passed on.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeVar

T = TypeVar("T")


class Verdict(StrEnum):
    """What a look at a part comes to."""

    FINE = "fine"
    LATE = "late"
    """What it does has waited long, but it gets done."""
    STILL = "still"
    """Nothing gets done, and what can be done about it was done a moment ago."""
    REPAIR = "repair"
    PASS_ON = "pass_on"  # noqa: S105 (not a password)


@dataclass(frozen=True, slots=True)
class Sight:
    """What is seen of a part."""

    done: int
    """Counts up with everything that gets done."""
    waits: float = 0.0
    """Seconds for which the oldest thing to do has waited."""
    idle: bool = False
    """Nothing is to be done: standing still is in order."""


@dataclass(frozen=True, slots=True)
class Patience:
    """In seconds."""

    late: float
    """Waiting for longer is told."""
    still: float
    """Standing still for longer is repaired, and again after as long."""
    lost: float | None = None
    """After that long without help from repairs, others are to try; None where nobody could."""


@dataclass(frozen=True, slots=True)
class Vigil:
    """What is remembered of a part between two looks. Times in monotonic seconds."""

    done: int
    moved_at: float
    """When it was last seen to move, or to have nothing to do."""
    first_repair: float | None = None
    """Since it last moved."""
    last_repair: float | None = None
    passed_on: bool = False


def begun(sight: Sight, now: float) -> Vigil:
    """The first look at a part: it gets its time, whatever it looks like."""
    return Vigil(sight.done, now)


def look(before: Vigil, sight: Sight, now: float, patience: Patience) -> tuple[Vigil, Verdict]:
    """The next look: what to remember, and what to do."""
    if sight.idle or sight.done != before.done:
        late = not sight.idle and sight.waits > patience.late
        return Vigil(sight.done, now), Verdict.LATE if late else Verdict.FINE
    if now - before.moved_at < patience.still:
        return before, Verdict.LATE if sight.waits > patience.late else Verdict.FINE
    first = before.first_repair
    if first is None:
        return replace(before, first_repair=now, last_repair=now), Verdict.REPAIR
    if patience.lost is not None and not before.passed_on and now - first >= patience.lost:
        return replace(before, passed_on=True), Verdict.PASS_ON
    if now - (before.last_repair or first) >= patience.still:
        return replace(before, last_repair=now), Verdict.REPAIR
    return before, Verdict.STILL


def heeded(
    verdicts: Mapping[T, Verdict], *, others: bool, spared: Collection[T]
) -> dict[T, Verdict]:
    """The verdicts on parts of one kind, beside each other.

    One is passed on only where there are `others` to take it, it is not among the `spared`, and
    most of its kind move: where they do not, the trouble is not its own and goes with it.
    """
    still = sum(each not in {Verdict.FINE, Verdict.LATE} for each in verdicts.values())
    alone = 2 * still < len(verdicts)
    return {
        part: Verdict.REPAIR
        if verdict is Verdict.PASS_ON and not (others and alone and part not in spared)
        else verdict
        for part, verdict in verdicts.items()
    }
