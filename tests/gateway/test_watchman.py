"""The watchman on real queues and a real table, whose clients hang or fail."""

import asyncio
from typing import Any

import pytest

from gateway import shard as shard_module
from gateway import watchman as watchman_module
from gateway.vigil import Patience, Verdict
from gateway.watchman import Watchman
from shared.aws import Op
from shared.errors import Unavailable
from shared.session import Session
from tests.gateway.conftest import World
from tests.gateway.test_outbox import Box, connected, entries
from tests.gateway.test_shard import Shard, running, send
from tests.gateway.waiting import until


class Leases:
    """Others who would take a shard, or not."""

    def __init__(self, others: int) -> None:
        self.others = others
        self.passed: list[int] = []

    def gateways(self) -> int:
        return 1 + self.others

    def pass_on(self, shard: int) -> bool:
        self.passed.append(shard)
        return True


class Watch:
    """A watchman whose clock the test sets."""

    def __init__(self, world: World, shard: Shard, box: Box, others: int = 1) -> None:
        self.now = 1000.0
        self.shard = shard
        self.leases = Leases(others)
        self.man = Watchman(
            aws=world.aws,
            inbox=shard.inbox,
            outbox=box.outbox,
            leaseholder=self.leases,
            moving=lambda: set(shard.hosts.held),
            monotonic=lambda: self.now,
        )

    async def look(self, later: float = 0.0) -> None:
        self.now += later
        await self.man.look()


async def test_a_reader_that_hangs_is_begun_anew(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was posted meanwhile is read, and the trouble was said while it lasted."""
    run, hung = world.aws.run, asyncio.Event()

    async def hangs_once(op: Op[Any]) -> Any:
        if op.action == "receive_message" and not hung.is_set():
            hung.set()
            await asyncio.Event().wait()
        return await run(op)

    shard, box = Shard(world), Box(world)
    async with box.outbox, shard.inbox:
        shard.inbox.won(0)
        watch = Watch(world, shard, box)
        session = await running(world, shard)
        await watch.look()
        assert watch.man.matter() == {}
        monkeypatch.setattr(world.aws, "run", hangs_once)
        await shard.order(send(session, "wakes the reader"))
        await until(hung.is_set)
        await shard.order(send(session, "waits"))
        await until(lambda: shard.hosts.sent == ["wakes the reader"])
        await watch.look()
        await watch.look(61)
        assert "shard 0 was not read for 61 s" in watch.man.matter()["reading"]
        assert watch.man.steps["reading", Verdict.REPAIR] == 1
        await until(lambda: len(shard.hosts.sent) == 2)
        await watch.look(5)
        assert watch.man.matter() == {}
    assert watch.leases.passed == []


async def test_a_session_that_waits_is_no_standstill_of_its_shard(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two that wait are theirs; of three that could send and do not, all is begun anew."""
    monkeypatch.setattr(shard_module, "LONG", 0.0)
    monkeypatch.setattr("gateway.sorting.FIRST_PAUSE", 0)
    shard, box = Shard(world), Box(world)
    async with box.outbox, shard.inbox:
        shard.inbox.won(0)
        watch = Watch(world, shard, box)
        waiting: list[Session] = [await running(world, shard) for _ in range(3)]
        shard.hosts.open.clear()
        for session in waiting[:2]:
            await shard.order(send(session))
        await until(lambda: shard.hosts.waiting == 2)
        await watch.look()
        await watch.look(100)
        assert watch.man.steps["working", Verdict.REPAIR] == 0
        await shard.order(send(waiting[2]))
        await until(lambda: shard.hosts.waiting == 3)
        await watch.look()
        await watch.look(100)
        assert watch.man.steps["working", Verdict.REPAIR] == 1
        assert "shard 0 stand still" in watch.man.matter()["working"]
        shard.hosts.open.set()
        await until(lambda: len(shard.hosts.sent) >= 3)
        await until(shard.empty)


async def test_an_outbox_that_does_not_drain_is_told_and_loses_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """During an outage it is said what waits; a transaction that hangs is handed in again."""
    run, hangs = world.aws.run, asyncio.Event()
    away = True

    async def faulty(op: Op[Any]) -> Any:
        if op.action == "transact_write_items" and away:
            hangs.set()
            await asyncio.Event().wait()
        return await run(op)

    shard, box = Shard(world), Box(world)
    session = await world.session(await world.tenant())
    monkeypatch.setattr(world.aws, "run", faulty)
    async with box.outbox, shard.inbox:
        watch = Watch(world, shard, box)
        made = entries(connected(session))
        recording = asyncio.ensure_future(box.outbox.record(session, made))
        await until(hangs.is_set)
        await watch.look()
        await watch.look(31)
        assert watch.man.matter()["storing"].startswith("nothing was stored for 31 s")
        assert watch.man.steps["storing", Verdict.REPAIR] == 1
        with pytest.raises(Unavailable):
            await recording
        await watch.look(1)
        assert "storing" in watch.man.matter()
        away = False
        await box.outbox.record(session, made)
        await watch.look(1)
        assert watch.man.matter() == {}


async def test_a_late_event_loop_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is promised hangs on it: leases, pulses, deadlines."""
    monkeypatch.setattr(watchman_module, "LAG_SPAN", 0.01)
    shard, box = Shard(world), Box(world)
    watch = Watch(world, shard, box)

    def froze() -> bool:
        watch.now += 3.5
        return watch.man.lag > 2

    async with asyncio.TaskGroup() as tasks:
        watched = tasks.create_task(watch.man.run())
        await until(froze)
        assert "it was late by" in watch.man.matter()["event_loop"]
        watched.cancel()
    watch.now += 120
    assert watch.man.matter() == {}


async def test_a_shard_only_we_cannot_read_is_passed_on(world: World) -> None:
    """Where its neighbours are read, it is the shard's own trouble: another gateway tries, once."""
    shard, box = Shard(world), Box(world)
    watch = Watch(world, shard, box)
    dead, vivid = shard.make(0), [shard.make(1), shard.make(2)]
    watch.man._inbox.served = lambda: [dead, *vivid]  # pyright: ignore[reportPrivateUsage] (inboxes that nobody runs)
    while watch.now < 1000 + 3500:
        for inbox in vivid:
            inbox._polls += 1  # pyright: ignore[reportPrivateUsage] (as an answered poll does)
        await watch.look(20)
    assert watch.leases.passed == [0]
    assert watch.man.steps["reading", Verdict.REPAIR] > 2


def test_patience_exceeds_what_is_in_order() -> None:
    """No limit is shorter than the slowest thing that is right."""
    assert watchman_module.READING.still > 40
    assert Patience(late=1, still=1).lost is None
