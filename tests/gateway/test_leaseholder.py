"""Leaseholders on a real table."""

import asyncio
import math
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import pytest

from gateway import leaseholder
from gateway.aws import Aws
from gateway.leaseholder import Leaseholder
from gateway.leases import REREAD_SHARE, TURNS
from shared import clock, ids
from shared.errors import Unavailable
from shared.ids import WorkerId
from shared.store import leases
from shared.store.keys import BEATS
from shared.store.leases import Lease
from tests.gateway.conftest import World
from tests.gateway.waiting import until

SHARDS = 4
LEASE = 3.0
SLACK = 2.0
"""Seconds that requests and a busy machine may take."""


class Gateway:
    """A leaseholder, and what it was told to serve."""

    def __init__(self, aws: Aws, lease_seconds: float = LEASE) -> None:
        self.serving: set[int] = set()
        self.leaving: set[int] = set()
        self.closing = asyncio.Event()
        self.closing.set()
        self.me = WorkerId(clock.mint(ids.WORKER))
        self.inherited: set[WorkerId] = set()
        self.leaseholder = Leaseholder(
            aws=aws,
            me=self.me,
            shards=SHARDS,
            lease_seconds=lease_seconds,
            won=self.serving.add,
            left=self.left,
            lost=self.lost,
            inherits=self.inherited.add,
        )

    async def left(self, shard: int) -> None:
        self.leaving.add(shard)
        await self.lost(shard)

    async def lost(self, shard: int) -> None:
        await self.closing.wait()
        self.serving.discard(shard)

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """One that does not leave in order is dead at the end."""
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(self.leaseholder.run())
            await self.leaseholder.start_winning()
            yield
            task.cancel()

    @asynccontextmanager
    async def alone(self) -> AsyncGenerator[None]:
        """Running, and there before any other, with all the shards."""
        async with self.running():
            await until(all_of(self))
            yield

    async def leave(self) -> None:
        self.leaseholder.stop_winning()
        self.serving.clear()
        await self.leaseholder.resign()

    @property
    def has(self) -> int:
        return len(self.leaseholder.held())


def all_of(gateway: Gateway) -> Callable[[], bool]:
    return lambda: gateway.has == SHARDS


@asynccontextmanager
async def watched(*gateways: Gateway) -> AsyncGenerator[None]:
    """Meanwhile, no two of them serve a shard."""

    async def watch() -> None:
        while True:
            served = [shard for each in gateways for shard in each.serving]
            assert len(served) == len(set(served))
            await asyncio.sleep(0.01)

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(watch())
        yield
        task.cancel()


async def test_shards_follow_the_gateways_that_come_and_go(world: World) -> None:
    """Each has its share; who leaves passes it on at once, who dies, within 1.5 lease times."""
    first, second, third = (Gateway(world.aws) for _ in range(3))
    async with watched(first, second, third), first.alone():
        assert first.leaseholder.matter() is None
        async with second.running():
            await until(lambda: second.leaseholder.matter() is None)  # others hold what it does not
            await until(lambda: (first.has, second.has) == (2, 2))
            async with third.running():
                await until(lambda: sorted((first.has, second.has, third.has)) == [1, 1, 2])
                await until(lambda: first.leaseholder.gateways() == 3)
                before = Counter({**first.leaseholder.moves})
                await third.leave()
                began = time.monotonic()
                await until(lambda: (first.has, second.has) == (2, 2))
                assert time.monotonic() - began < LEASE, "nobody waited for it to lapse"
                assert first.leaseholder.moves["handed_over"] == before["handed_over"]
        second.serving.clear()
        await until(all_of(first), LEASE * 1.5 + SLACK)
        assert first.inherited == {second.me}, "who left in order left nothing"
        assert first.leaseholder.moves["lost"] == 0
        await until(lambda: first.leaseholder.gateways() == 1)


async def test_an_heir_that_was_told_is_there_at_once(world: World) -> None:
    """While the one who goes still works, its heirs look out for its shards, and nobody else."""
    first, second = Gateway(world.aws), Gateway(world.aws)
    async with watched(first, second), first.running(), second.running():
        await until(lambda: (first.has, second.has) == (2, 2))
        before = world.aws.requests["dynamodb", "GetItem"]
        first.leaseholder.stop_winning()
        await until(lambda: world.aws.requests["dynamodb", "GetItem"] > before)
        assert (first.has, second.has) == (2, 2)
        first.serving.clear()
        began = time.monotonic()
        await first.leaseholder.resign()
        await until(all_of(second))
        assert time.monotonic() - began < LEASE


async def test_what_nobody_takes_is_reported(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """An alarm counts the line; `ready` says which."""
    caplog.set_level("WARNING")
    gateway = Gateway(world.aws)
    async with gateway.alone():
        gateway.closing.clear()
        gateway.leaseholder.fenced(1, epoch=1)
        hold = Lease(shard=1, epoch=1, stamp="", owner=gateway.me)
        await world.aws.run(leases.resign(hold, "stamp"))
        await until(lambda: gateway.leaseholder.unheld() == [1], LEASE * REREAD_SHARE + SLACK)
        await until(lambda: "shards.unheld" in caplog.messages)
        gateway.closing.set()
        await until(all_of(gateway), LEASE * REREAD_SHARE + SLACK)


async def test_a_shard_is_served_until_it_is_closed_in_order(world: World) -> None:
    """While its sockets close, a shard that is handed over is renewed, and nobody else's."""
    first, second = Gateway(world.aws), Gateway(world.aws)
    async with watched(first, second), first.alone():
        first.closing.clear()
        async with second.running():
            await asyncio.sleep(LEASE * 1.5)
            assert (first.has, second.has) == (SHARDS, 0)
            first.closing.set()
            await until(lambda: (first.has, second.has) == (2, 2))
            assert set(second.leaseholder.held().values()) == {2}


async def test_a_shard_lost_in_the_middle_of_its_hand_over_is_closed(world: World) -> None:
    """Then the hand-over ends, and it is closed as any other that is lost."""
    first, second = Gateway(world.aws), Gateway(world.aws)
    async with watched(first, second), first.alone():
        first.closing.clear()
        async with second.running():
            await until(lambda: bool(first.leaving))
            shard = min(first.leaving)
            first.leaseholder.fenced(shard, epoch=1)
            assert first.leaseholder.epoch(shard) is None
            first.closing.set()
            await until(lambda: (first.has, second.has) == (2, 2))


async def test_a_hand_over_that_hangs_is_cut_short(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be left in order is closed at once, and goes to whoever asked all the same."""
    monkeypatch.setattr(leaseholder, "HAND_OVER_SECONDS", 0.2)
    first, second = Gateway(world.aws), Gateway(world.aws)
    async with first.alone():
        first.closing.clear()
        async with second.running():
            await until(lambda: second.has > 0)
            assert first.leaseholder.moves["lost"] > 0
            assert not first.leaseholder.held().keys() & second.leaseholder.held().keys()
            first.closing.set()
            await until(lambda: (first.has, second.has) == (2, 2))


async def test_what_cannot_be_closed_is_given_up(world: World) -> None:
    """Its hosts have ended by themselves by then; vouched for, it would be nobody's for ever."""
    first, second = Gateway(world.aws), Gateway(world.aws)
    async with first.running(), second.running():
        await until(lambda: (first.has, second.has) == (2, 2))
        (shard, epoch), *_ = first.leaseholder.held().items()
        first.closing.clear()
        first.leaseholder.fenced(shard, epoch)
        await until(lambda: shard in second.leaseholder.held(), LEASE * 2 + SLACK)
        first.closing.set()


async def test_being_there_costs_a_write_and_a_look_a_turn(world: World) -> None:
    """However many shards are held: leases are not read while nothing is told of them."""
    gateway = Gateway(world.aws)
    async with gateway.alone():
        await until(lambda: world.aws.requests["dynamodb", "PutItem"] > 1)
        before, began = world.aws.requests.copy(), time.monotonic()
        await asyncio.sleep(LEASE)
        spent = world.aws.requests - before
        turns = 1 + math.ceil((time.monotonic() - began) / LEASE * TURNS)
        assert 0 < spent["dynamodb", "PutItem"] <= turns
        assert 0 < spent["dynamodb", "Query"] <= turns * BEATS + 1
        assert spent.total() <= turns * (1 + BEATS) + 1


async def test_a_silent_gateway_stops_before_another_begins(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A holder that cannot reach AWS drops its shards by itself, before they can be taken."""
    first = Gateway(world.aws)
    async with first.alone():
        cut = Cut(world.aws)
        monkeypatch.setattr(first.leaseholder, "_aws", cut)
        first.leaseholder.stop_winning()
        second = Gateway(world.aws)
        async with second.running():
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
    gateway = Gateway(world.aws)
    async with gateway.alone():
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
    gateway = Gateway(world.aws)
    async with gateway.alone():

        async def taken() -> bool:
            """Between two renewals, as if its lease had lapsed."""
            seen = await world.aws.run(leases.read(2))
            assert seen is not None
            return await world.aws.run(leases.take(seen, WorkerId("gw_other"), "stamp"))

        await until(taken)
        await until(lambda: gateway.serving == {0, 1, 3}, LEASE * (REREAD_SHARE + 1) + SLACK)
        assert gateway.leaseholder.epoch(2) is None


async def test_a_shard_can_be_passed_on(world: World) -> None:
    """In order, to a gateway that is there; without another one it stays."""
    first, second = Gateway(world.aws), Gateway(world.aws)
    async with first.alone():
        assert not first.leaseholder.pass_on(0)
        async with second.running():
            await until(lambda: first.has == second.has == SHARDS / 2)
            shard = min(first.leaseholder.held())
            assert first.leaseholder.pass_on(shard)
            assert not first.leaseholder.pass_on(shard)
            assert not second.leaseholder.pass_on(shard)
            await until(lambda: shard in second.leaseholder.held())
            assert shard in first.leaving
            assert shard not in first.serving
            assert second.leaseholder.moves["lost"] == 0
