"""Our webhooks as a figure drives them: a process that has the gateway's parts and takes orders.

Executed as `postman.py STORE SINK_URL` in a gateway's environment; speaks one JSON object a line
over stdin and stdout. STORE is `aws`, `counted` (the same, each request's purpose noted: that
costs), `memory`, `distant` (memory that answers as late as AWS does), or `apart` (memory to read
from, and what becomes of deliveries is written nowhere). Logs go to stderr as the gateway's do.
"""

import asyncio
import random
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Final, Self

from gateway import garbage
from gateway.aws import Aws
from gateway.dispatcher import Dispatcher
from gateway.frames import Entry
from gateway.recorder import Recorder
from gateway.recording import Change, change_of
from sandbox.bench.bed import BenchError
from sandbox.bench.errand import Told, obey
from sandbox.bench.memory_aws import MemoryAws
from sandbox.bench.parts import CountingAws, Parts, run_parts
from sandbox.bench.unwritten import Unwritten
from sandbox.bench.workload import entries
from shared import clock, env, logs
from shared.delivery import DeliveryState
from shared.ids import TenantId
from shared.store import webhooks
from shared.store.dynamo import Range

TENANTS: Final = 8
LINES: Final = 2
"""Sessions of each tenant."""
QUIET: Final = 25
"""Tenants who must not feel their neighbour, an event a second each."""
BUSY: Final = 100
"""Events a second of the tenant who sends much."""
SLOW_ENDPOINTS: Final = 50
SLOW_AHEAD: Final = 4
"""Events of the slow endpoints' tenant before anybody is measured: every slot it may have is
taken."""
AHEAD_SECONDS: Final = 1.5
DISTANT_SECONDS: Final = 0.005
"""DynamoDB answers in single-digit milliseconds (AWS)."""


class Postman:
    """The parts, and sessions whose entries it hands over."""

    def __init__(self, parts: Parts, sink: str) -> None:
        self._parts = parts
        self._sink = sink
        self._entries: dict[Recorder, Iterator[Entry]] = {}
        self._lines: list[Recorder] = []
        self._quiet: list[Recorder] = []

    async def prepare(self) -> None:
        for _ in range(TENANTS):
            tenant_id = await self._parts.tenant(f"{self._sink}/ok")
            self._lines += [await self._line(tenant_id) for _ in range(LINES)]

    async def drive(self, *, events: int) -> Told:
        """So many events at once, over all sessions; until the last is delivered and stored."""
        lots = [self._next(line, events // len(self._lines)) for line in self._lines]
        with Spent(self._parts.aws) as spent:
            for line, lot in zip(self._lines, lots, strict=True):
                line.take(lot)
            await self._parts.settled(self._lines)
        return {"deliveries": sum(map(len, lots)), **spent.told()}

    async def deliver(self, *, events: int) -> Told:
        """As many deliveries to the dispatcher alone, claimed, as the outbox hands them over."""
        changes = [
            change
            for line in self._lines
            for change in await self._changes(line, events // len(self._lines))
        ]
        handed = [
            (each, change.event.body.encode()) for change in changes for each in change.deliveries
        ]
        if not all(each.state is DeliveryState.SENDING for each, _ in handed):
            raise BenchError("the dispatcher has no room for that many")
        with Spent(self._parts.aws) as spent:
            for delivery, body in handed:
                self._parts.dispatcher.hand_over(delivery, body)
            await self._parts.settled(())
        return {"deliveries": len(handed), **spent.told()}

    async def _changes(self, line: Recorder, number: int) -> list[Change]:
        """What the outbox makes of a line's next entries."""
        tenant_id = line.session.tenant_id
        page = await self._parts.aws.run(webhooks.every_endpoint(tenant_id, Range(limit=1)))
        now, born = clock.millis(), self._parts.dispatcher.born
        return [
            change_of(line.session, entry.event, page.rows, now, born)
            for entry in self._next(line, number)
        ]

    async def alone(self, *, events: int, apart: float) -> Told:
        """One event at a time, each when the one before is done."""
        handed: dict[str, float] = {}
        with Spent(self._parts.aws) as spent:
            for _ in range(events):
                await asyncio.sleep(random.uniform(apart, 2 * apart))  # noqa: S311 - not a secret
                handed |= self._hand(self._lines[0])
                await self._parts.settled(self._lines[:1])
        return {"handed": handed, "deliveries": events, **spent.told()}

    async def steady(self, *, seconds: float, beside: str) -> Told:
        """An event a second of each quiet tenant, `beside` `nobody`, `busy` or `slow`."""
        if not self._quiet:
            for _ in range(QUIET):
                tenant_id = await self._parts.tenant(f"{self._sink}/ok")
                self._quiet.append(await self._line(tenant_id))
                self._hand(self._quiet[-1])
            await self._parts.settled(self._quiet)
        async with asyncio.TaskGroup() as tasks:
            neighbour = tasks.create_task(self._neighbour(beside))
            await asyncio.sleep(AHEAD_SECONDS if beside == "slow" else 0)
            handed: dict[str, float] = {}
            begun = time.monotonic()
            with Spent(self._parts.aws) as spent:
                for turn in range(round(seconds * QUIET)):
                    await asyncio.sleep(begun + turn / QUIET - time.monotonic())
                    handed |= self._hand(self._quiet[turn % QUIET])
            neighbour.cancel()
        waiting, sending = self._parts.dispatcher.waiting, self._parts.dispatcher.sending
        return {"handed": handed, "waiting": waiting, "sending": sending, **spent.told()}

    async def _neighbour(self, beside: str) -> None:
        match beside:
            case "busy":
                tenant_id = await self._parts.tenant(f"{self._sink}/ok")
                await self._each(await self._line(tenant_id), 1 / BUSY)
            case "slow":
                tenant_id = await self._parts.tenant(f"{self._sink}/slow", endpoints=SLOW_ENDPOINTS)
                line = await self._line(tenant_id)
                line.take(self._next(line, SLOW_AHEAD))
                await self._each(line, 1.0)
            case _:
                pass

    async def _each(self, line: Recorder, seconds: float) -> None:
        """An event every so often, for ever."""
        due = time.monotonic()
        while True:
            self._hand(line)
            due += seconds
            await asyncio.sleep(due - time.monotonic())

    async def _line(self, tenant_id: TenantId) -> Recorder:
        line = await self._parts.line(tenant_id)
        self._entries[line] = entries(line.session.id)
        return line

    def _next(self, line: Recorder, number: int) -> list[Entry]:
        return list(islice(self._entries[line], number))

    def _hand(self, line: Recorder) -> dict[str, float]:
        """Hand over one event; its id and when."""
        lot = self._next(line, 1)
        at = time.monotonic()
        line.take(lot)
        return {lot[0].event.id: at}


class Spent:
    """Time, processor time and requests to AWS between its beginning and its end."""

    def __init__(self, aws: Aws) -> None:
        self._aws = aws

    def __enter__(self) -> Self:
        self._requests = self._aws.requests.copy()
        self._purposes = self._of_purpose()
        self._begun, self._cpu = time.monotonic(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self._seconds = time.monotonic() - self._begun
        self._cpu = time.process_time() - self._cpu
        self._requests = self._aws.requests - self._requests
        self._purposes = {
            name: number - self._purposes.get(name, 0)
            for name, number in self._of_purpose().items()
        }

    def told(self) -> Told:
        return {
            "seconds": self._seconds,
            "cpu": self._cpu,
            "requests": {action: number for (_, action), number in self._requests.items()},
            "purposes": {name: number for name, number in self._purposes.items() if number},
        }

    def _of_purpose(self) -> dict[str, int]:
        return dict(self._aws.purposes) if isinstance(self._aws, CountingAws) else {}


STORES: Final[dict[str, Callable[[Any], Aws]]] = {
    "aws": Aws,
    "counted": CountingAws,
    "memory": MemoryAws,
    "apart": MemoryAws,
    "distant": lambda places: MemoryAws(places, DISTANT_SECONDS),
}


async def main(store: str, sink: str) -> None:
    settings = env.settings()
    logs.configure(settings.log_level)
    garbage.settle()
    dispatching = Unwritten if store == "apart" else Dispatcher
    async with run_parts(settings, STORES[store](settings), dispatching=dispatching) as parts:
        postman = Postman(parts, sink)
        await postman.prepare()
        await obey(
            {
                "drive": postman.deliver if store == "apart" else postman.drive,
                "alone": postman.alone,
                "steady": postman.steady,
            }
        )


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
