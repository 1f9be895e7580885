"""Leaseholders on a real table."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import pytest

from gateway.aws import Aws
from gateway.leaseholder import Leaseholder
from shared import clock, ids
from shared.errors import Unavailable
from shared.ids import WorkerId
from shared.store import leases
from shared.store.dynamo import Range
from tests.gateway.conftest import World
from tests.gateway.waiting import until

SHARDS = 4
LEASE = 1.5


class Gateway:
    """A leaseholder, and what it was told to serve."""

    def __init__(self, aws: Aws, lease_seconds: float = LEASE) -> None:
        self.serving: set[int] = set()
        self.closing = asyncio.Event()
        self.closing.set()
        self.leaseholder = Leaseholder(
            aws=aws,
            me=WorkerId(clock.mint(ids.WORKER)),
            shards=SHARDS,
            lease_seconds=lease_seconds,
            won=self.serving.add,
            lost=self.lost,
        )

    async def lost(self, shard: int) -> None:
        await self.closing.wait()
        self.serving.discard(shard)

    @asynccontextmanager
    async def running(self) -> AsyncGenerator["Gateway"]:
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(self.leaseholder.run())
            await self.leaseholder.start_winning()
            yield self
            task.cancel()


def all_of(gateway: Gateway) -> Callable[[], bool]:
    return lambda: len(gateway.leaseholder.held()) == SHARDS


async def test_the_first_takes_all_and_the_second_waits(world: World) -> None:
    """Two gateways never hold one shard; who comes second takes over when the first resigns."""
    async with Gateway(world.aws).running() as first, Gateway(world.aws).running() as second:
        assert first.serving == set(range(SHARDS))
        assert first.leaseholder.matter() is None
        await asyncio.sleep(LEASE * 1.5)
        assert second.serving == set()
        assert second.leaseholder.matter() is None, "others hold what it does not"
        first.leaseholder.stop_winning()
        await first.leaseholder.resign()
        await until(all_of(second))
        assert set(second.leaseholder.held().values()) == {2}
        assert first.leaseholder.held() == {}


async def test_a_silent_gateway_stops_before_another_begins(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A holder that cannot reach AWS drops its shards by itself, before they can be taken."""
    async with Gateway(world.aws).running() as first:
        cut = Cut(world.aws)
        monkeypatch.setattr(first.leaseholder, "_aws", cut)
        first.leaseholder.stop_winning()
        async with Gateway(world.aws).running() as second:
            while len(second.leaseholder.held()) < SHARDS:
                both = first.leaseholder.held().keys() & second.leaseholder.held().keys()
                assert not both
                await asyncio.sleep(0.01)
            assert first.serving == set()


class Cut:
    """An AWS that does not answer."""

    def __init__(self, aws: Aws) -> None:
        self.requests = aws.requests

    async def run(self, op: object) -> None:
        raise Unavailable("dynamodb", "any", "ConnectTimeoutError")


async def test_a_fenced_write_gives_up_the_shard(world: World) -> None:
    """Who learns that a later lease has written stops at once; an older word means nothing."""
    async with Gateway(world.aws).running() as gateway:
        gateway.leaseholder.fenced(1, epoch=99)
        assert gateway.leaseholder.epoch(1) == 1
        gateway.closing.clear()
        gateway.leaseholder.fenced(1, epoch=1)
        assert gateway.leaseholder.epoch(1) is None
        await gateway.leaseholder.step()
        assert gateway.leaseholder.epoch(1) is None, "its sockets are not closed yet"
        gateway.closing.set()
        await until(lambda: gateway.leaseholder.epoch(1) == 2)


async def test_a_taken_lease_is_noticed_at_the_renewal(world: World) -> None:
    """A holder that slept through its lease learns it from the table and lets go."""
    async with Gateway(world.aws).running() as gateway:

        async def taken() -> bool:
            """Between two renewals, as if its lease had lapsed."""
            page = await world.aws.run(leases.every(Range(limit=100)))
            (seen,) = [lease for lease in page.rows if lease.shard == 2]
            return await world.aws.run(leases.take(seen, WorkerId("gw_other"), "stamp"))

        await until(taken)
        await until(lambda: gateway.serving == {0, 1, 3}, LEASE * 3)
        assert gateway.leaseholder.epoch(2) is None
