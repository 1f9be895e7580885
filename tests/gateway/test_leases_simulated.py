"""Gateways come, go, freeze and are cut off: what holds whatever happens, and what soon does."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.gateway.simulated_leases import TTL, TURN, Fleet, Gateway

MOST = 5
SLOWEST, FASTEST = 0.99, 1.01
_rates = st.floats(SLOWEST, FASTEST)
_offsets = st.floats(-1e6, 1e6)
_moments = st.floats(0, TTL)


class Leases(RuleBasedStateMachine):
    """A fleet whose every request may arrive late, or never, and be answered late, or never."""

    @initialize(shards=st.integers(1, 9))
    def begins(self, shards: int) -> None:
        self.fleet = Fleet(shards)

    def some(self, data: st.DataObject) -> Gateway:
        return data.draw(st.sampled_from(self.fleet.gateways))

    @precondition(lambda self: len(self.fleet.gateways) < MOST)
    @rule(offset=_offsets, rate=_rates)
    def joins(self, offset: float, rate: float) -> None:
        self.fleet.joins(offset, rate)

    @precondition(lambda self: self.fleet.gateways)
    @rule(data=st.data())
    def leaves(self, data: st.DataObject) -> None:
        """Its last requests are still on their way when it has gone, and nobody hears answers."""
        gateway = self.some(data)
        gateway.leave(self.fleet.now)
        self.fleet.gateways.remove(gateway)
        for request in gateway.requests:
            request.write()

    @precondition(lambda self: self.fleet.gateways)
    @rule(data=st.data())
    def freezes_or_thaws(self, data: st.DataObject) -> None:
        gateway = self.some(data)
        gateway.frozen = not gateway.frozen

    @rule(seconds=_moments)
    def time_passes(self, seconds: float) -> None:
        self.fleet.now += seconds

    @rule(seconds=_moments)
    def all_is_well(self, seconds: float) -> None:
        self.fleet.run(seconds)

    @precondition(lambda self: self.fleet.gateways)
    @rule(data=st.data())
    def vouches(self, data: st.DataObject) -> None:
        self.some(data).vouch(self.fleet.time)

    @precondition(lambda self: self.fleet.gateways)
    @rule(data=st.data())
    def looks(self, data: st.DataObject) -> None:
        self.some(data).look(self.fleet.time)

    @precondition(lambda self: self.fleet.gateways)
    @rule(data=st.data())
    def closes(self, data: st.DataObject) -> None:
        gateway = self.some(data)
        gateway.watch(self.fleet.now)
        gateway.finish_handing()

    @precondition(lambda self: self.fleet.gateways)
    @rule(data=st.data(), there=_moments, back=_moments, vouches=st.booleans())
    def is_slow(self, data: st.DataObject, there: float, back: float, *, vouches: bool) -> None:
        """One is frozen in the middle of its turn, while the others go on."""
        gateway = self.some(data)
        (gateway.vouch if vouches else gateway.look)(self.fleet.time)
        gateway.frozen = True
        self.fleet.run(there)
        for request in gateway.requests:
            if request.answer is None:
                request.answer = request.write()
        self.fleet.run(back)
        gateway.settle()
        gateway.frozen = False
        gateway.next_turn = gateway.turn_due = self.fleet.now

    @precondition(lambda self: any(each.requests for each in self.fleet.gateways))
    @rule(data=st.data(), fate=st.sampled_from(["arrives", "answered", "lost"]))
    def the_network(self, data: st.DataObject, fate: str) -> None:
        """One request goes on a step, in any order."""
        busy = [each for each in self.fleet.gateways if each.requests]
        gateway: Gateway = data.draw(st.sampled_from(busy))
        request = data.draw(st.sampled_from(range(len(gateway.requests))))
        on_its_way = gateway.requests[request]
        if fate != "lost" and on_its_way.answer is None:
            on_its_way.answer = on_its_way.write()
        if fate == "answered":
            on_its_way.heard(bool(on_its_way.answer))
        if fate != "arrives":
            del gateway.requests[request]

    @precondition(lambda self: self.fleet.gateways)
    @rule()
    def comes_to_rest(self) -> None:
        """With all alive and quiet, shares are soon even, and then nothing moves."""
        for gateway in self.fleet.gateways:
            gateway.frozen = False
        self.fleet.run(6 * TTL)
        held = self.fleet.held()
        assert sum(held) == self.fleet.shards
        assert max(held) - min(held) <= 1
        moves = self.fleet.table.moves
        self.fleet.run(2 * TTL)
        assert self.fleet.table.moves == moves

    @invariant()
    def holds(self) -> None:
        self.fleet.check()


Leases.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestLeases: Any = Leases.TestCase

_fleets = st.lists(st.tuples(_offsets, _rates, st.floats(0, TURN)), min_size=2, max_size=6)


def _at_rest(shards: int, gateways: list[tuple[float, float, float]], latency: float = 0) -> Fleet:
    fleet = Fleet(shards, latency=latency)
    for offset, rate, after in gateways:
        fleet.run(after)
        fleet.joins(offset, rate)
    fleet.run(8 * TTL)
    return fleet


@settings(deadline=None, max_examples=60)
@given(gateways=_fleets, shards=st.integers(1, 24), killed=st.data())
def test_a_dead_ones_shards_are_soon_back(
    gateways: list[tuple[float, float, float]], shards: int, killed: st.DataObject
) -> None:
    """Whenever one or several die, their shards are held again within 1.5 lease times, evenly."""
    fleet = _at_rest(shards, gateways)
    fleet.run(killed.draw(st.floats(0, TURN)))
    for _ in range(killed.draw(st.integers(1, len(gateways) - 1))):
        fleet.gateways.remove(killed.draw(st.sampled_from(fleet.gateways)))
    fleet.run(1.5 * TTL)
    held = fleet.held()
    assert sum(held) == shards
    fleet.run(4 * TTL)
    held = fleet.held()
    assert max(held) - min(held) <= 1


@settings(deadline=None, max_examples=60)
@given(gateways=_fleets, shards=st.integers(1, 24), latency=st.floats(0, 0.1), killed=st.data())
def test_no_turn_is_missed(
    gateways: list[tuple[float, float, float]],
    shards: int,
    latency: float,
    killed: st.DataObject,
) -> None:
    """A dead one's shards are taken a lease time after it was last seen anew: a turn at most.

    Also where every look takes a while, and the lease time is over in the middle of one; and
    whenever another comes in its place.
    """
    fleet = _at_rest(shards, gateways, latency)
    fleet.run(killed.draw(st.floats(0, TURN)))
    dead = killed.draw(st.sampled_from(fleet.gateways))
    fleet.gateways.remove(dead)
    replaced = killed.draw(st.none() | st.floats(0, TTL))
    taken = (TTL + TURN) / SLOWEST + 6 * latency
    if replaced is not None:
        fleet.run(replaced)
        fleet.joins()
        taken -= replaced
    fleet.run(taken)
    epochs = {shard: hold.lease.epoch for shard, hold in dead.holds.items()}
    assert all(fleet.table.leases[shard].epoch > epoch for shard, epoch in epochs.items())


@settings(deadline=None, max_examples=60)
@given(gateways=_fleets, shards=st.integers(1, 24), gone=st.data())
def test_who_leaves_gives_each_its_share(
    gateways: list[tuple[float, float, float]], shards: int, gone: st.DataObject
) -> None:
    """After one has left, its shards are with the others a turn later, and none moves again."""
    fleet = _at_rest(shards, gateways)
    leaver = gone.draw(st.sampled_from(fleet.gateways))
    moves, left = fleet.table.moves, len(leaver.holds)
    fleet.gateways.remove(leaver)
    leaver.leave(fleet.now)
    fleet.run(TURN / SLOWEST + 1e-3)
    held = fleet.held()
    assert sum(held) == shards
    assert max(held) - min(held) <= 1
    fleet.run(3 * TTL)
    assert fleet.table.moves == moves + left


@settings(deadline=None, max_examples=60)
@given(gateways=_fleets, shards=st.integers(1, 24), offset=_offsets, rate=_rates)
def test_who_joins_gets_its_share_and_no_shard_moves_in_vain(
    gateways: list[tuple[float, float, float]], shards: int, offset: float, rate: float
) -> None:
    """As many shards move as the newcomer ends with: nobody else's change hands."""
    fleet = _at_rest(shards, gateways)
    moves = fleet.table.moves
    newcomer = fleet.joins(offset, rate)
    fleet.run(4 * TTL)
    held = fleet.held()
    assert max(held) - min(held) <= 1
    assert fleet.table.moves - moves == len(newcomer.holds)


@pytest.mark.parametrize("at_once", [False, True])
def test_in_a_rolling_replacement_a_shard_moves_once(*, at_once: bool) -> None:
    """Whether gateways are replaced one after another or all at a time, none is moved in vain."""
    size, shards = 12, 48
    fleet = Fleet(shards, patience=120)
    for _ in range(size):
        fleet.joins()
    fleet.run(250)
    assert set(fleet.held()) == {shards // size}
    moves, old = fleet.table.moves, list(fleet.gateways)
    if at_once:
        for _ in old:
            fleet.joins()
            fleet.run(1)
    for each in old:
        if not at_once:
            fleet.joins()
        fleet.run(45)
        each.leaving = True
        fleet.run(10)
        fleet.gateways.remove(each)
        each.leave(fleet.now)
    fleet.run(150)
    assert set(fleet.held()) == {shards // size}
    assert fleet.table.moves - moves == shards
