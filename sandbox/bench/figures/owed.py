"""Owed: how many times AWS is asked for a delivery, from the event's record to its end.

Counted by the gateway's own client on its way out; the embedded AWS answers. One event at a time,
many at once, and one for an endpoint that never answers well, until it is given up.
"""

from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

from sandbox.bench.clockwork import Clockwork
from sandbox.bench.post_office import WARM_UP, run_post_office
from sandbox.bench.samples import Result, Row

ALONE: Final = 20
APART: Final = 0.05
LOAD: Final = 480


async def measure(home: Path, rounds: int, clockwork: Clockwork) -> Result:
    counts: dict[str, list[float]] = {"alone": [], "load": [], "dead": [], "attempts": []}
    words: dict[str, str] = {}
    async with AsyncExitStack() as rest:
        office = await rest.enter_async_context(run_post_office(home))
        errand = await rest.enter_async_context(office.ours("counted", "counted"))
        dead = await rest.enter_async_context(office.life())
        await office.drive(errand, WARM_UP)
        for number in range(rounds):
            clockwork.tick()
            for name, told in (
                ("alone", await errand.told("alone", events=ALONE, apart=APART)),
                ("load", await office.drive(errand, LOAD)),
            ):
                counts[name].append(total(told) / told["deliveries"])
                words[name] = by_purpose(told["purposes"], told["deliveries"])
            if number == 0:  # it is the same every time
                told = await dead.told("life")
                counts["dead"].append(total(told))
                counts["attempts"].append(total(told) / told["attempts"])
                words["dead"] = (
                    f"{told['attempts']} attempts in {told['hours']:.0f} hours: "
                    f"{by_purpose(told['purposes'], 1)}"
                )
    return Result(
        rows=(
            Row(name="requests a delivery, one at a time", unit="", ours=tuple(counts["alone"])),
            Row(name="... under load", unit="", ours=tuple(counts["load"])),
            Row(name="... never answered, its whole life", unit="", ours=tuple(counts["dead"])),
            Row(name="... never answered, an attempt", unit="", ours=tuple(counts["attempts"])),
        ),
        notes=(
            f"requests a delivery, the event's record included, one at a time: {words['alone']}",
            f"requests a delivery under load: {words['load']}",
            f"requests of a delivery nobody takes, by a clock turned on: {words['dead']}",
        ),
        samples=counts,
    )


def total(told: dict[str, Any]) -> int:
    """All that were not idle."""
    return sum(told["purposes"].values())


def by_purpose(purposes: dict[str, int], times: int) -> str:
    """Requests by purpose, for each of `times`, most first."""
    return ", ".join(
        f"{number / times:.2g} {name}" for name, number in Counter(purposes).most_common()
    )
