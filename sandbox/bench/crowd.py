"""Many sessions at once: ours in one gateway, raw neonize a process each, and a census of both."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import Final, TypeVar

import aiohttp

from sandbox.bench import proc
from sandbox.bench.bed import MEASURED, Bed, BenchError, Linked, numbers
from sandbox.bench.raw import Raw, run_raw
from sandbox.processes import Plane, stop
from sandbox.stack import run_gateway
from sandbox.whatsapp.control_client import ControlError

T = TypeVar("T")

AT_ONCE: Final = 4
"""Linked or started side by side, as the gateway starts hosts."""
TRIES: Final = 5
"""A machine full of hosts is slow now and then; a link that was missed is made again."""
RAW_FROM: Final = 100_000
"""The first raw client's person: ours are counted from 0."""
RESERVE_MIB: Final = 2048.0
"""Left alone: a machine that swaps or kills measures nothing."""
STOP_LIMIT: Final = 240.0
START_LIMIT: Final = 900.0
LOOK: Final = 0.5


@dataclass(frozen=True)
class Census:
    """Memory of processes that do the same (MiB)."""

    each: tuple[proc.Memory, ...]

    @property
    def private(self) -> float:
        return sum(each.private for each in self.each) / len(self.each)

    @property
    def proportional(self) -> float:
        return sum(each.proportional for each in self.each) / len(self.each)

    @property
    def most(self) -> float:
        """PSS of the greatest."""
        return max(each.proportional for each in self.each)


def census(pids: Iterable[int]) -> Census:
    """Raises BenchError where one of them is gone."""
    try:
        return Census(tuple(proc.memory(pid) for pid in pids))
    except OSError as error:
        raise BenchError(f"a process ended: {error}") from error


def seconds(pids: Iterable[int]) -> dict[int, float]:
    """Processor time so far of those that live."""
    found: dict[int, float] = {}
    for pid in pids:
        with suppress(OSError):
            found[pid] = proc.processor_seconds(pid)
    return found


def used(before: Mapping[int, float], after: Mapping[int, float]) -> float:
    """Seconds of processor in between."""
    return sum(value - before.get(pid, 0.0) for pid, value in after.items())


def need(mib: float, what: str) -> None:
    """Raises BenchError where a machine has not that much memory to give."""
    if proc.available() < mib + RESERVE_MIB:
        raise BenchError(f"{what} would leave less than {RESERVE_MIB:.0f} MiB of memory")


class Crowd:
    """Sessions of ours, in one gateway that can be started anew."""

    def __init__(self, bed: Bed, rest: AsyncExitStack) -> None:
        self.bed = bed
        self.linked: list[Linked] = []
        self.gateway: Plane = bed.stack.gateway
        self._rest = rest

    async def grow(self, count: int) -> None:
        """Link more, until there are so many."""
        need(20.0 * (count - len(self.linked)), f"{count} sessions")
        wanted = range(len(self.linked), count)
        self.linked += await some_at_once(wanted, self._link)

    async def _link(self, index: int) -> Linked:
        """As `Bed.link`, on a machine that may be too slow for it."""
        owner, contact = numbers(index)
        await self.bed.people.create_person(owner, f"Owner {index}")
        await self.bed.people.create_person(contact, f"Contact {index}")
        session = await self.bed.tenant.api.ok("POST", "/v1/sessions", {"name": f"bench {index}"})
        linked = Linked(session["id"], owner, contact)
        for _ in range(TRIES):
            with suppress(TimeoutError, ControlError, aiohttp.ClientError):
                await self.bed.people.scan(owner, await self.bed.qr(linked.path))
            with suppress(TimeoutError, aiohttp.ClientError):
                await self.bed.reach(linked.path, "connected")
                return linked
        raise BenchError(f"session {index} was not linked in {TRIES} tries")

    def hosts(self) -> list[int]:
        """The processes of linked sessions and any that are being linked."""
        return sorted(proc.hosts(self.gateway.process.pid))

    def keepers(self) -> list[int]:
        """The gateway and its zygote."""
        gateway = self.gateway.process.pid
        return [gateway, *(set(proc.descendants(gateway)) - proc.hosts(gateway))]

    async def restart(self) -> tuple[float, list[float]]:
        """End the gateway in order and start another.

        Seconds from its exec until WhatsApp has every session connected, and until each was.
        """
        await stop(self.gateway, within=STOP_LIMIT)
        bed = self.bed
        environment = {**bed.stack.tables.environment, **MEASURED}
        devices = bed.scratch / "devices"
        begun = time.monotonic()
        progress: list[float] = []
        async with asyncio.TaskGroup() as group:
            watch = group.create_task(self._all_connected(begun, progress))
            self.gateway = await self._rest.enter_async_context(
                run_gateway(bed.stack.home, environment, bed.network, devices, name="gateway-anew")
            )
            took = await watch
        return took, progress

    async def _all_connected(self, begun: float, progress: list[float]) -> float:
        ours = {linked.owner for linked in self.linked}
        async with asyncio.timeout(START_LIMIT):
            while True:
                logins = await self.bed.people.connections()
                connected = len(ours & {each.owner for each in logins})
                took = time.monotonic() - begun
                progress += [took] * (connected - len(progress))
                if connected == len(ours):
                    return took
                await asyncio.sleep(LOOK)


class Raws:
    """Raw clients, a process each, with a contact each."""

    def __init__(self, bed: Bed, rest: AsyncExitStack) -> None:
        self.raws: list[Raw] = []
        self._bed = bed
        self._outer = rest
        self._rest = AsyncExitStack()
        rest.push_async_callback(self._close)

    async def _close(self) -> None:
        await self._rest.aclose()

    async def grow(self, count: int) -> None:
        """Link more, until there are so many, or the machine is full."""
        need(50.0 * (count - len(self.raws)), f"{count} raw processes")

        async def pair(index: int) -> None:
            owner, contact = numbers(RAW_FROM + index)
            await self._bed.people.create_person(owner, f"Raw owner {index}")
            await self._bed.people.create_person(contact, f"Raw contact {index}")
            await self.raws[index].until("loaded")
            await self.raws[index].pair(self._bed.people, owner)

        await self._begin(count, pair)

    async def restart(self) -> float:
        """End all and start them anew; seconds until the last is connected."""
        count = len(self.raws)
        await self._rest.aclose()
        self._rest = AsyncExitStack()
        self.raws = []
        begun = time.monotonic()

        async def connect(index: int) -> None:
            self.raws[index].tell("connect")
            await self.raws[index].until("connected")

        await self._begin(count, connect)
        return time.monotonic() - begun

    def pids(self) -> list[int]:
        return [raw.process.pid for raw in self.raws]

    async def _begin(self, count: int, bring_up: Callable[[int], Awaitable[None]]) -> None:
        while len(self.raws) < count:
            first = len(self.raws)
            for index in range(first, min(first + AT_ONCE, count)):
                raw = run_raw(self._bed.network, self._bed.scratch, f"raw{index}", listens=True)
                # Entered one after the other: a context belongs to the task that entered it.
                self.raws.append(await self._rest.enter_async_context(raw))
            await asyncio.gather(*map(bring_up, range(first, len(self.raws))))


async def some_at_once(
    wanted: Sequence[int], work: Callable[[int], Awaitable[T]], width: int = AT_ONCE
) -> list[T]:
    """What `work` makes of each, in order, a few side by side."""
    places = asyncio.Semaphore(width)

    async def one(index: int) -> T:
        async with places:
            return await work(index)

    return list(await asyncio.gather(*map(one, wanted)))
