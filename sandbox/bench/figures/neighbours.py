"""Neighbours: what quiet tenants feel of a loud one, and of one whose endpoints are slow.

Twenty-five tenants have an event a second each: alone; beside one with a hundred a second; beside
one with fifty endpoints that answer later than an attempt may take. Each block has a gateway and a
table of its own, so that it finds nothing another left behind. From the journal entry to the first
byte.

The embedded AWS is one process that answers one request after the other, so beside it neighbours
also meet in its queue, which is neither ours nor DynamoDB's: judged is what is felt with a table
that answers everybody after the time AWS takes.
"""

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from sandbox.bench.clockwork import Clockwork
from sandbox.bench.post_office import run_post_office, waits
from sandbox.bench.samples import Result, Row, Target, percentile

TIMES_ALONE: Final = 2.0
MOST_MS: Final = 1_000.0
SECONDS: Final = 15.0
"""Of each block in all, over the rounds: with 25 events a second, enough for a 99th."""
MOST_TURNS: Final = 3
"""Blocks of each: to begin one takes as long as it lasts."""
STORES: Final = {"distant": "", "aws": ", embedded AWS"}
BESIDE: Final = {
    "nobody": "nobody",
    "busy": "a hundredfold one",
    "slow": "50 slow endpoints",
}


async def measure(home: Path, rounds: int, clockwork: Clockwork) -> Result:
    took: dict[tuple[str, str], list[float]] = {
        (store, beside): [] for store in STORES for beside in BESIDE
    }
    left: dict[tuple[str, str], str] = {}
    async with AsyncExitStack() as rest:
        office = await rest.enter_async_context(run_post_office(home))
        turns = min(rounds, MOST_TURNS)
        for number in range(turns):
            clockwork.tick()
            for store, beside in took:
                async with office.ours(f"{store}-{beside}-{number}", store) as errand:
                    await office.sink.take()
                    told = await errand.told("steady", seconds=SECONDS / turns, beside=beside)
                    arrivals = await office.sink.until(told["handed"])
                took[store, beside] += waits(told["handed"], arrivals)
                left[store, beside] = f"{told['waiting']} waiting and {told['sending']} being sent"

    def row(store: str, beside: str) -> Row:
        # Of all rounds together: one alone is too short for a 99th.
        ours, alone = (percentile(took[store, each], 0.99) for each in (beside, "nobody"))
        return Row(
            name=f"quiet beside {BESIDE[beside]}, 99th{STORES[store]}",
            unit="ms",
            ours=(ours,),
            bare=(alone,),
            target=Target(TIMES_ALONE) if store == "distant" else None,
        )

    def bounded(store: str, beside: str) -> Row:
        ours = percentile(took[store, beside], 0.99)
        target = Target(MOST_MS, of="value")
        return Row(name="... under a second", unit="ms", ours=(ours,), target=target)

    neighbours = [beside for beside in BESIDE if beside != "nobody"]
    spreads = "; ".join(
        f"{store} beside {beside} {percentile(values, 0.5):.1f} / {percentile(values, 0.99):.1f} / "
        f"{max(values):.1f} ms ({left[store, beside]} at the end)"
        for (store, beside), values in took.items()
    )
    return Result(
        rows=tuple(
            make(store, beside)
            for store in STORES
            for beside in neighbours
            for make in (row, bounded)
        ),
        notes=(
            (
                f"neighbours: {len(took['aws', 'nobody'])} events of 25 tenants for each, bare is "
                f"the same without neighbours; median / 99th / worst: {spreads}"
            ),
        ),
        samples={f"{store}_{beside}_ms": values for (store, beside), values in took.items()},
    )
