"""Neighbours: what quiet tenants feel of a loud one, and of one whose endpoints are slow.

Twenty tenants have an event a second each: alone; beside one with a hundred a second; beside one
with fifty endpoints that answer later than an attempt may take. Each block has a gateway and a
table of its own, so that it finds nothing another left behind. From the journal entry to the first
byte.
"""

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from sandbox.bench.clockwork import Clockwork
from sandbox.bench.post_office import run_post_office, waits
from sandbox.bench.samples import Result, Row, Target, percentile

TIMES_ALONE: Final = 2.0
MOST_MS: Final = 1_000.0
SECONDS: Final = 25.0
"""Of each block in all, over the rounds: with twenty events a second, enough for a 99th."""
BESIDE: Final = ("nobody", "busy", "slow")


async def measure(home: Path, rounds: int, clockwork: Clockwork) -> Result:
    took: dict[str, list[list[float]]] = {name: [] for name in BESIDE}
    left: dict[str, str] = {}
    async with AsyncExitStack() as rest:
        office = await rest.enter_async_context(run_post_office(home))
        for number in range(rounds):
            clockwork.tick()
            for name in BESIDE:
                async with office.ours(f"beside-{name}-{number}") as errand:
                    await office.sink.take()
                    told = await errand.told("steady", seconds=SECONDS / rounds, beside=name)
                    arrivals = await office.sink.until(told["handed"])
                took[name].append(waits(told["handed"], arrivals))
                left[name] = f"{told['waiting']} waiting, {told['sending']} being sent"
    every = {name: [one for each in rounds_of for one in each] for name, rounds_of in took.items()}

    def rows(label: str, name: str) -> tuple[Row, Row]:
        ours, alone = (
            tuple(percentile(values, 0.99) for values in took[each]) for each in (name, "nobody")
        )
        return (
            Row(
                name=f"quiet tenants beside {label}, 99th",
                unit="ms",
                ours=ours,
                bare=alone,
                target=Target(TIMES_ALONE),
            ),
            Row(
                name="... under a second",
                unit="ms",
                ours=ours,
                target=Target(MOST_MS, of="value"),
            ),
        )

    middles = ", ".join(
        f"beside {name} {percentile(values, 0.5):.1f} / {percentile(values, 0.99):.1f} / "
        f"{max(values):.1f} ms"
        for name, values in every.items()
    )
    return Result(
        rows=(
            *rows("a hundredfold one", "busy"),
            *rows("50 slow endpoints", "slow"),
        ),
        notes=(
            (
                f"neighbours: {len(every['nobody'])} events of twenty tenants for each, bare is "
                f"the same without neighbours; of all: median / 99th / worst {middles}; by the "
                "end of the last round "
                + "; ".join(f"beside {name} {words}" for name, words in left.items())
            ),
        ),
        samples={f"beside_{name}_ms": values for name, values in every.items()},
    )
