"""First byte: from an event's journal entry to the first byte of its webhook at the receiver.

One at a time, while nothing else happens. Beside it a bare aiohttp post, from its call; ours with
rows in memory, which is ours without the store; and, through a whole gateway, from the moment the
session host saw the message, which is in the event's id.
"""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from sandbox.bench.bed import PATIENCE, Bed, Linked, run_bed
from sandbox.bench.clockwork import Clockwork
from sandbox.bench.errand import Errand, pin
from sandbox.bench.post_office import WARM_UP, PostOffice, waits
from sandbox.bench.samples import Result, Row, Target, percentile, spread
from sandbox.bench.sink import Arrival, Sink, run_sink
from shared import clock, ids

MOST_MS: Final = 50.0
EVENTS: Final = 60
"""Of each side in a round."""
APART: Final = 0.02
"""Seconds between two at the least, twice that at the most."""
MESSAGES: Final = 12
"""Through a whole gateway, in a round."""
MESSAGES_APART: Final = 0.1


async def measure(home: Path, rounds: int, clockwork: Clockwork) -> Result:
    async with AsyncExitStack() as rest:
        bed = await rest.enter_async_context(run_bed(home))
        sink = await rest.enter_async_context(run_sink(home / "logs"))
        for pid in (bed.aws.process.pid, sink.pid):
            pin(pid, alone=False)
        office = PostOffice(bed.aws, sink, home)
        sides = {
            "ours": await rest.enter_async_context(office.ours("postman")),
            "memory": await rest.enter_async_context(office.ours("memory", "memory")),
            "bare": await rest.enter_async_context(office.bare()),
        }
        linked = await bed.link(0)
        await bed.tenant.api.ok(
            "POST", "/v1/webhooks", {"url": f"{sink.url}/ok", "events": ["message.received"]}
        )
        for errand in sides.values():
            await office.drive(errand, WARM_UP)
        await through_all(bed, linked, sink)
        took: dict[str, list[list[float]]] = {name: [] for name in (*sides, "whole")}
        for _ in range(rounds):
            clockwork.tick()
            for name, errand in sides.items():
                took[name].append(await alone(errand, sink))
            took["whole"].append(await through_all(bed, linked, sink))

    def row(label: str, name: str, share: float, target: Target | None = None) -> Row:
        ours = tuple(percentile(each, share) for each in took[name])
        bare = tuple(percentile(each, share) for each in took["bare"])
        return Row(
            name=label, unit="ms", ours=ours, bare=() if name == "whole" else bare, target=target
        )

    every = {name: [one for each in rounds_of for one in each] for name, rounds_of in took.items()}
    return Result(
        rows=(
            row("first byte, idle, median", "ours", 0.5, Target(MOST_MS, of="value")),
            row("... 99th", "ours", 0.99),
            row("... rows in memory, median", "memory", 0.5),
            row("... from the host's sight, median", "whole", 0.5, Target(MOST_MS, of="value")),
            row("... from the host's sight, 99th", "whole", 0.99),
        ),
        notes=(
            (
                f"first byte: {EVENTS} events a round, one at a time, from the journal entry in "
                f"the gateway's hand; 99th of all {len(every['ours'])}: ours "
                f"{percentile(every['ours'], 0.99):.1f} ms, bare "
                f"{percentile(every['bare'], 0.99):.1f} ms. From the host's sight: {MESSAGES} "
                "messages a round from a phone of the sandbox, from the event's id (whole "
                "milliseconds), with journal, gateway and store between; 99th of all "
                f"{len(every['whole'])}: {percentile(every['whole'], 0.99):.1f} ms"
            ),
            (
                f"first byte: of ours, {spread(every['memory']).median:.1f} ms are left where the "
                "store answers at once"
            ),
        ),
        samples={f"{name}_ms": values for name, values in every.items()},
    )


async def alone(errand: Errand, sink: Sink) -> list[float]:
    await sink.take()
    told = await errand.told("alone", events=EVENTS, apart=APART)
    return waits(told["handed"], await sink.take())


async def through_all(bed: Bed, linked: Linked, sink: Sink) -> list[float]:
    """Messages from a phone, one at a time."""
    await sink.take()
    arrivals: list[Arrival] = []
    for _ in range(MESSAGES):
        await bed.people.send(linked.contact, linked.owner, f"bench {clock.mint('key')}")
        await asyncio.sleep(MESSAGES_APART)
    async with asyncio.timeout(PATIENCE):
        while len(arrivals := [*arrivals, *await sink.take()]) < MESSAGES:  # noqa: ASYNC110 - over HTTP
            await asyncio.sleep(MESSAGES_APART)
    return [each.wall - ids.minted_at(each.id) for each in arrivals]
