"""A fleet's day: deploys and failures, one after the other, and what became of each."""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from sandbox.fleet.gateways import Fleet, Gateway

REPLACED_SECONDS: Final = 60.0
"""From a gateway's death until ECS has another one running."""
HEALTHY_SECONDS: Final = 45.0
"""From a gateway's start until ECS stops the one it replaces."""
PACE: Final = 10.0
"""Gateways that ECS starts, or stops, a second."""
LONGEST_FREEZE: Final = 60.0
SETTLED_SECONDS: Final = 900.0
"""After which an event must be over."""
STEP: Final = 0.5

DAY: Final = 86_400.0


@dataclass(frozen=True)
class Outcome:
    """What became of an event, times in lease times; None where it was not seen."""

    kind: str
    held: float | None
    """Until every shard was held again."""
    even: float | None
    """Until shares were even, new gateways included."""
    moved: int
    """Shards that changed hands."""
    most_won: int
    """Shards that one gateway won within a second."""


@dataclass
class Day:
    """A fleet, and what happened to it."""

    fleet: Fleet
    size: int
    random: random.Random
    outcomes: list[Outcome] = field(default_factory=list[Outcome])

    def run(self, kinds: Sequence[str], seconds: float) -> None:
        """Have the events happen, evenly spread over the time in an order of chance."""
        happens = list(kinds)
        self.random.shuffle(happens)
        apart, began = seconds / (len(happens) + 1), self.fleet.now
        for number, kind in enumerate(happens, start=1):
            self.fleet.run(began + number * apart - self.random.uniform(0, self.fleet.turn))
            self.outcomes.append(self._happen(kind))
        self.fleet.run(began + seconds)

    def _happen(self, kind: str) -> Outcome:
        fleet = self.fleet
        began, moves, won = fleet.now, fleet.table.moves, len(fleet.taken)
        ends = EVENTS[kind](self)
        held = self._wait(fleet.all_held)
        fleet.run(max(fleet.now, began + ends))
        even = self._wait(fleet.even)
        seconds = Counter((int(at), name) for at, _, name in fleet.taken[won:])
        return Outcome(
            kind,
            None if held is None else (held - began) / fleet.ttl,
            None if even is None else (even - began) / fleet.ttl,
            fleet.table.moves - moves,
            max(seconds.values(), default=0),
        )

    def _wait(self, condition: Callable[[], bool]) -> float | None:
        limit = self.fleet.now + SETTLED_SECONDS
        while not condition():
            if self.fleet.now > limit:
                return None
            self.fleet.run(self.fleet.now + STEP)
        return self.fleet.now

    def some(self, count: int) -> list[Gateway]:
        return self.random.sample(list(self.fleet.gateways.values()), count)

    def start(self, count: int) -> float:
        """Start so many, one after another; the seconds it takes."""
        for number in range(count):
            self.fleet.after(number / PACE, lambda: self.fleet.join() and None)
        return count / PACE

    def stop(self, gateways: Sequence[Gateway], after: float) -> float:
        for number, gateway in enumerate(gateways):
            self.fleet.after(after + number / PACE, lambda one=gateway: self.fleet.leave(one))
        return after + len(gateways) / PACE


def crash(day: Day) -> float:
    """One is killed, and replaced."""
    day.fleet.kill(day.some(1)[0])
    day.fleet.after(REPLACED_SECONDS, lambda: day.fleet.join() and None)
    return REPLACED_SECONDS + 1


def freeze(day: Day) -> float:
    """One stands still for more than a lease time, and goes on."""
    seconds = day.random.uniform(1.2 * day.fleet.ttl, LONGEST_FREEZE)
    day.fleet.freeze(day.some(1)[0], seconds)
    return seconds + 1


def deploy(day: Day) -> float:
    """All are replaced: as many new ones come, and those that were there go."""
    old = list(day.fleet.gateways.values())
    day.start(len(old))
    return day.stop(old, HEALTHY_SECONDS) + 10


def scale_out(day: Day) -> float:
    """A tenth more come."""
    return day.start(day.size // 10) + 1


def scale_in(day: Day) -> float:
    """A tenth go."""
    return day.stop(day.some(day.size // 10), 0) + 10


def zone(day: Day) -> float:
    """An availability zone is lost, a third of all at once, and made up for in the others."""
    lost = day.some(len(day.fleet.gateways) // 3)
    for gateway in lost:
        day.fleet.kill(gateway)
    for number in range(len(lost)):
        day.fleet.after(REPLACED_SECONDS + number / PACE, lambda: day.fleet.join() and None)
    return REPLACED_SECONDS + len(lost) / PACE + 1


EVENTS: Final[dict[str, Callable[[Day], float]]] = {
    "crash": crash,
    "freeze": freeze,
    "deploy": deploy,
    "scale-out": scale_out,
    "scale-in": scale_in,
    "zone lost": zone,
}

WHOLE: Final = ("deploy", *("crash",) * 20, *("freeze",) * 5, "scale-out", "scale-in", "zone lost")
"""What happens in a day."""


def simulate(
    *,
    gateways: int,
    shards: int,
    kinds: Sequence[str] = WHOLE,
    seconds: float = DAY,
    seed: int = 1,
    exact: bool = False,
) -> Day:
    """The day of such a fleet."""
    fleet = Fleet(shards, seed=seed, exact=exact)
    for _ in range(gateways):
        fleet.join()
    fleet.deal()
    fleet.table.moves, fleet.taken[:] = 0, ()
    day = Day(fleet, gateways, random.Random(seed))  # noqa: S311 - is to be repeatable
    day.run(kinds, seconds)
    return day
