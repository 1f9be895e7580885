"""Deliveries: webhooks a second on one core, from journal entries to what became of them.

Ours is recorder, outbox, dispatcher and egress in one process; the bare counterpart is an aiohttp
loop that signs and posts the same bodies to the same receiver, as many at a time, and reads each
answer. Three answers, as rates and as processor time of the process, whoever else is busy: with the
embedded AWS in it; with rows in memory, which leaves the store's client and the database out and
nothing else; and the delivering alone, store and queue shown apart: deliveries are handed to the
dispatcher claimed, and no event, delivery or attempt becomes a row.
"""

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from sandbox.bench import proc
from sandbox.bench.clockwork import Clockwork
from sandbox.bench.errand import Errand
from sandbox.bench.post_office import WARM_UP, run_post_office
from sandbox.bench.samples import Result, Row, Target, spread

SHARE_OF_BARE: Final = 0.6
EVENTS: Final = {"ours": 800, "memory": 2_400, "apart": 2_400, "bare": 4_800}
"""Of each side in a round, each with one delivery: about a second."""


async def measure(home: Path, rounds: int, clockwork: Clockwork) -> Result:
    rates: dict[str, list[float]] = {name: [] for name in EVENTS}
    cpu: dict[str, list[float]] = {name: [] for name in EVENTS}
    used = ""
    async with AsyncExitStack() as rest:
        office = await rest.enter_async_context(run_post_office(home))
        sides: dict[str, Errand] = {
            "ours": await rest.enter_async_context(office.ours("postman")),
            "memory": await rest.enter_async_context(office.ours("memory", "memory")),
            "apart": await rest.enter_async_context(office.ours("apart", "apart")),
            "bare": await rest.enter_async_context(office.bare()),
        }
        for errand in sides.values():
            for _ in range(2):
                await office.drive(errand, WARM_UP)
        for _ in range(rounds):
            clockwork.tick()
            for name, errand in sides.items():
                before = proc.usage()
                told = await office.drive(errand, EVENTS[name])
                if name == "ours":
                    used = proc.spent(before, proc.usage())
                rates[name].append(told["deliveries"] / told["seconds"])
                cpu[name].append(told["cpu"] / told["deliveries"] * 1000)

    def rate(label: str, name: str, target: Target | None = None) -> Row:
        ours, bare = tuple(rates[name]), tuple(rates["bare"])
        return Row(name=label, unit="/s", ours=ours, bare=bare, target=target)

    def processor(label: str, name: str) -> Row:
        return Row(name=label, unit="ms", ours=tuple(cpu[name]), bare=tuple(cpu["bare"]))

    return Result(
        rows=(
            rate("deliveries, embedded AWS in it", "ours"),
            rate("... rows in memory", "memory"),
            rate("... the delivering alone", "apart", Target(SHARE_OF_BARE, kind="at least")),
            processor("CPU a delivery", "ours"),
            processor("... rows in memory", "memory"),
            processor("... the delivering alone", "apart"),
        ),
        notes=(
            (
                "deliveries: from journal entries to the row that says delivered, each process "
                f"on one core, AWS and receiver on the rest. Bare posts at "
                f"{spread(cpu['bare']).median:.2f} ms of processor time; the store's client and "
                f"wire cost ours "
                f"{spread(cpu['ours']).median - spread(cpu['memory']).median:.2f} ms, recording "
                f"the event and making rows and requests "
                f"{spread(cpu['memory']).median - spread(cpu['apart']).median:.2f} ms, the rest "
                f"(turns, breaker, deadline, phases, the attempt's record, metrics) "
                f"{spread(cpu['apart']).median - spread(cpu['bare']).median:.2f} ms"
            ),
            f"deliveries, who used the processors in ours in the last round: {used}",
        ),
        samples={
            **{f"{name}_per_s": values for name, values in rates.items()},
            **{f"{name}_cpu_ms": values for name, values in cpu.items()},
        },
    )
