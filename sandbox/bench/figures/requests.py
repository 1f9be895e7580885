"""Requests: how many times AWS is asked for a message sent, and for an event received.

Counted on the wire, by a recorder in front of the AWS for each plane. What is asked while nothing
happens (empty polls, leases, sweeps) is counted apart.
"""

import asyncio
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import aiohttp

from sandbox.bench.bed import Bed, Linked, run_bed
from sandbox.bench.clockwork import Clockwork
from sandbox.bench.counting import paid, purpose, tally
from sandbox.bench.figures.throughput import drive
from sandbox.bench.samples import Result, Row, Target
from sandbox.bench.script import Record
from sandbox.receiver import Receiver, run_receiver
from sandbox.stack import make_tenant
from shared import clock

ALONE: Final = 7.0
UNDER_LOAD: Final = 4.0
RECEIVED: Final = 4.0

ONE_BY_ONE: Final = 4
"""Messages or events of a kind in a round, each alone."""
CLOSE: Final = 0.25
"""Seconds between two of them: the one before is done."""
SELDOM: Final = 2
APART: Final = 3.0
"""And seconds between messages of a tenant that sends little: short memories have passed."""
LOAD: Final = 120
"""Messages under load in a round."""
SESSIONS: Final = 3
QUIET: Final = 0.6
"""Seconds without a request after which what was begun is done."""
IDLE: Final = 6.0
"""Seconds watched while nothing happens."""

Deed = Callable[[], Awaitable[object]]


@dataclass
class Ledger:
    """What each plane asked for, by what was going on."""

    bed: Bed
    background: frozenset[str] = frozenset()
    entries: dict[str, list[tuple[str, Record]]] = field(
        default_factory=dict[str, list[tuple[str, Record]]]
    )
    counts: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    times: dict[str, int] = field(default_factory=dict[str, int])
    wire: Counter[str] = field(default_factory=Counter[str])
    """Every request of the gateway, by action."""

    async def take(self) -> list[tuple[str, Record]]:
        taken: list[tuple[str, Record]] = []
        for plane, watch in self.bed.watched.items():
            records = await watch.take()
            if plane == "gateway":
                self.wire.update(each.action for each in records)
            taken += [(plane, each) for each in paid(records, self.background)]
        return taken

    async def settle(self) -> list[tuple[str, Record]]:
        """Everything until it is quiet."""
        taken: list[tuple[str, Record]] = []
        while True:
            await asyncio.sleep(QUIET)
            more = await self.take()
            taken += more
            if not more:
                return taken

    async def watch_idle(self) -> str:
        """Learn what is asked for while nothing happens; how often, in words."""
        await self.settle()
        await asyncio.sleep(IDLE)
        records = [each for watch in self.bed.watched.values() for each in await watch.take()]
        # The control plane does nothing by itself.
        self.wire.update(each.action for each in records)
        self.background = frozenset(purpose(each) for each in paid(records))
        return f"{len(records) / IDLE:.1f}/s while idle ({tally(records, 1)} in {IDLE:g} s)"

    async def enter(self, name: str, deed: Deed, times: int) -> None:
        """Do it, and note what it cost each time."""
        await self.settle()
        await deed()
        taken = await self.settle()
        self.entries.setdefault(name, []).extend(taken)
        self.counts.setdefault(name, []).append(len(taken) / times)
        self.times[name] = self.times.get(name, 0) + times

    def words(self, name: str) -> str:
        parts: list[str] = []
        for plane in self.bed.watched:
            records = [record for of, record in self.entries[name] if of == plane]
            if records:
                parts.append(f"{plane}: {tally(records, self.times[name])}")
        return f"{name}: " + "; ".join(parts)


async def measure(home: Path, rounds: int, clockwork: Clockwork) -> Result:
    async with AsyncExitStack() as rest:
        bed = await rest.enter_async_context(run_bed(home, watched=True))
        receiver = await rest.enter_async_context(run_receiver())
        linked = [await bed.link(index) for index in range(SESSIONS)]
        for each in linked:
            await bed.people.change_person(each.contact, delivers=False)
        first = linked[0]
        # A tenant that never sends much, so that nothing is left over from a busier moment.
        small = replace(bed, tenant=await make_tenant(bed.stack, "Small"))
        seldom = await small.link(SESSIONS)
        await bed.people.change_person(seldom.contact, delivers=False)
        ledger = Ledger(bed)
        await one_by_one(bed, first)
        idle = await ledger.watch_idle()
        for number in range(rounds):
            clockwork.tick()
            await ledger.enter("sent alone", lambda: one_by_one(bed, first), ONE_BY_ONE)
            await ledger.enter(
                f"sent alone, {APART:g} s apart",
                lambda: one_by_one(small, seldom, times=SELDOM, apart=APART),
                SELDOM,
            )
            await ledger.enter(
                "sent alone, Idempotency-Key", lambda: one_by_one(bed, first, key=True), ONE_BY_ONE
            )
            await ledger.enter("sent under load", lambda: drive(bed, linked, LOAD), LOAD)
            await bed.people.change_person(first.contact, delivers=True)
            await ledger.enter("sent alone, delivered", lambda: one_by_one(bed, first), ONE_BY_ONE)
            await bed.people.change_person(first.contact, delivers=False)
            endpoint = await listen(bed, receiver)
            await hear(bed, first, receiver, f"warm-up {number}")
            await ledger.enter(
                "received, one webhook",
                lambda: hear_all(bed, first, receiver, f"event {number}"),  # noqa: B023 - awaited at once
                ONE_BY_ONE,
            )
            await bed.tenant.api.ok("DELETE", f"/v1/webhooks/{endpoint}")
        await ledger.take()
        told = await cross_check(bed, ledger.wire)

    targets = {
        "sent alone": ALONE,
        f"sent alone, {APART:g} s apart": ALONE,
        "sent alone, Idempotency-Key": ALONE,
        "sent under load": UNDER_LOAD,
        "received, one webhook": RECEIVED,
    }
    rows = tuple(
        Row(
            name=f"requests, {name}",
            unit="",
            ours=tuple(counts),
            target=Target(targets[name], of="value") if name in targets else None,
        )
        for name, counts in ledger.counts.items()
    )
    return Result(
        rows=rows,
        notes=(
            (
                "requests: counted on the wire, both planes; a message until its "
                "`message.sent` is recorded, without receipts and webhooks unless said"
            ),
            *(ledger.words(name) for name in ledger.counts),
            f"requests, apart: {idle}",
            told,
        ),
        samples=ledger.counts,
    )


async def one_by_one(
    bed: Bed,
    linked: Linked,
    *,
    key: bool = False,
    times: int = ONE_BY_ONE,
    apart: float = CLOSE,
) -> None:
    """Messages that do not share a request, but what is remembered for a while."""
    for _ in range(times):
        name = clock.mint("key")
        headers = {"Idempotency_Key": name} if key else {}
        await bed.send(linked, f"alone {name}", **headers)
        await bed.people.wait_for_text(
            linked.contact, f"alone {name}", after=await newest(bed, linked.contact)
        )
        await asyncio.sleep(apart)


async def newest(bed: Bed, number: str) -> int:
    """An index shortly before a person's latest message."""
    return (await bed.people.person(number)).received - 5


async def listen(bed: Bed, receiver: Receiver) -> str:
    """Have received messages delivered; the endpoint's id."""
    endpoint = await bed.tenant.api.ok(
        "POST", "/v1/webhooks", {"url": receiver.url, "events": ["message.received"]}
    )
    receiver.secret = endpoint["secret"]
    return str(endpoint["id"])


async def hear(bed: Bed, linked: Linked, receiver: Receiver, text: str) -> None:
    await bed.people.send(linked.contact, linked.owner, text)
    await receiver.wait(
        lambda event: event["data"].get("content", {}).get("text") == text, f"webhook of {text}"
    )


async def hear_all(bed: Bed, linked: Linked, receiver: Receiver, text: str) -> None:
    """Events that do not share a request."""
    for turn in range(ONE_BY_ONE):
        await hear(bed, linked, receiver, f"{text}.{turn}")
        await asyncio.sleep(CLOSE)


async def cross_check(bed: Bed, wire: Counter[str]) -> str:
    """Hold the gateway's own count against the wire's; a poll under way is only in its own."""
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"{bed.stack.gateway.url}/metrics") as answer,
    ):
        own = own_count(await answer.text())
    pairs = [f"{action} {own.get(action, 0):.0f}/{wire[action]}" for action in sorted(wire)]
    return f"requests, the gateway's own count / the wire's: {', '.join(pairs)}"


_OWN: Final = re.compile(r'^zapgate_aws_requests_total\{action="(\w+)".*\} (\S+)$', re.MULTILINE)


def own_count(metrics: str) -> dict[str, float]:
    """Requests by action, as the gateway's metrics tell them."""
    return {action: float(count) for action, count in _OWN.findall(metrics)}
