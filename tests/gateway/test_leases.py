"""The plan of the leases, by a table and by a simulated clock."""

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateway.leases import (
    SAFE_SHARE,
    Hold,
    Plan,
    Sighting,
    deadline,
    overdue,
    plan,
    saw,
)
from shared.ids import WorkerId
from shared.store.leases import Lease

ME, OTHER = WorkerId("gw_me"), WorkerId("gw_other")
TTL = 10.0


def lease(shard: int, stamp: str, owner: WorkerId | None = OTHER) -> Lease:
    return Lease(shard=shard, epoch=3, stamp=stamp, owner=owner)


def planned(
    sightings: dict[int, Sighting],
    *,
    now: float,
    holds: dict[int, Hold] | None = None,
    closing: frozenset[int] = frozenset(),
    shards: int = 1,
) -> Plan:
    return plan(
        me=ME,
        shards=shards,
        sightings=sightings,
        holds=holds or {},
        closing=closing,
        now=now,
        lease_seconds=TTL,
    )


def test_a_shard_nobody_ever_held_is_created() -> None:
    """A shard without a row is there for whoever comes first."""
    assert planned({}, now=0, shards=2) == Plan(create=(0, 1))


def test_a_live_lease_is_left_alone() -> None:
    """Another's lease is not touched before one lease time without a new stamp."""
    seen = {0: Sighting(lease(0, "a"), since=0)}
    assert planned(seen, now=TTL - 0.001) == Plan()


def test_a_lapsed_lease_is_taken() -> None:
    """A stamp unchanged for one lease time on our clock is free."""
    seen = {0: Sighting(lease(0, "a"), since=0)}
    assert planned(seen, now=TTL) == Plan(take=(seen[0].lease,))


def test_a_lease_given_back_is_taken_at_once() -> None:
    """A resigned lease has no owner to wait for."""
    seen = {0: Sighting(lease(0, "a", owner=None), since=0)}
    assert planned(seen, now=0) == Plan(take=(seen[0].lease,))


def test_a_lease_won_by_a_lost_answer_is_taken_again() -> None:
    """What the table calls ours and we do not hold needs no waiting, only a new epoch."""
    seen = {0: Sighting(lease(0, "a", owner=ME), since=0)}
    assert planned(seen, now=0) == Plan(take=(seen[0].lease,))


def test_nothing_is_taken_while_its_sockets_close() -> None:
    """A shard we lost is not ours again before its last socket is closed."""
    seen = {0: Sighting(lease(0, "a", owner=None), since=0)}
    assert planned(seen, now=0, closing=frozenset({0})) == Plan()


def test_what_is_held_is_renewed() -> None:
    """A held lease is renewed in every round and never taken."""
    hold = Hold(lease(0, "a", owner=ME), until=8)
    seen = {0: Sighting(hold.lease, since=0)}
    assert planned(seen, now=100, holds={0: hold}) == Plan(renew=(hold,))


def test_a_new_stamp_starts_the_watch_anew() -> None:
    """The time of a sighting is that of its stamp."""
    first = saw({}, [lease(0, "a")], now=1)
    same = saw(first, [lease(0, "a")], now=2)
    other = saw(same, [lease(0, "b")], now=3)
    assert [first[0].since, same[0].since, other[0].since] == [1, 1, 3]


def test_an_unrenewed_lease_is_overdue_before_it_lapses() -> None:
    """The holder stops at four fifths of the lease time, counted from before its request."""
    hold = Hold(lease(0, "a", owner=ME), deadline(5.0, TTL))
    assert overdue({0: hold}, 5.0 + SAFE_SHARE * TTL - 0.01) == ()
    assert overdue({0: hold}, 5.0 + SAFE_SHARE * TTL) == (0,)


@dataclass
class Worker:
    """A gateway without a network: its clock runs at its own offset, its requests may hang."""

    name: WorkerId
    offset: float
    sightings: dict[int, Sighting] = field(default_factory=dict[int, Sighting])
    holds: dict[int, Hold] = field(default_factory=dict[int, Hold])

    def clock(self, now: float) -> float:
        return now + self.offset


SHARDS = 2
_durations = st.floats(0, TTL, allow_nan=False)


class Leases(RuleBasedStateMachine):
    """Two gateways, one table, one true time that neither knows."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.table: dict[int, Lease] = {}
        self.stamps = 0
        self.workers = [Worker(ME, -500.0), Worker(OTHER, 321.5)]
        self.epochs: dict[int, int] = {}

    def stamp(self) -> str:
        self.stamps += 1
        return str(self.stamps)

    @rule(seconds=_durations)
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(which=st.integers(0, 1), slow=_durations)
    def renews_with_a_slow_answer(self, which: int, slow: float) -> None:
        """The table is written `slow` after the request was sent; the deadline counts from then."""
        worker = self.workers[which]
        before = worker.clock(self.now)
        self.now += slow
        for shard, hold in list(worker.holds.items()):
            row = self.table[shard]
            if row.owner == worker.name and row.epoch == hold.lease.epoch:
                self.table[shard] = Lease(
                    shard=shard, epoch=row.epoch, stamp=self.stamp(), owner=row.owner
                )
                worker.holds[shard] = Hold(hold.lease, deadline(before, TTL))
            else:
                del worker.holds[shard]

    @rule(which=st.integers(0, 1), slow=_durations)
    def reads_and_takes(self, which: int, slow: float) -> None:
        worker = self.workers[which]
        now = worker.clock(self.now)
        for shard in overdue(worker.holds, now):
            del worker.holds[shard]
        worker.sightings = saw(worker.sightings, self.table.values(), now)
        todo = plan(
            me=worker.name,
            shards=SHARDS,
            sightings=worker.sightings,
            holds=worker.holds,
            closing=frozenset(),
            now=now,
            lease_seconds=TTL,
        )
        self.now += slow
        for shard in todo.create:
            if shard not in self.table:
                self.won(worker, shard, 1, before=now)
        for seen in todo.take:
            row = self.table[seen.shard]
            if (row.stamp, row.epoch) == (seen.stamp, seen.epoch):
                self.won(worker, seen.shard, seen.epoch + 1, before=now)

    def won(self, worker: Worker, shard: int, epoch: int, before: float) -> None:
        assert epoch > self.epochs.get(shard, 0), "a fencing token was given out twice"
        self.epochs[shard] = epoch
        row = Lease(shard=shard, epoch=epoch, stamp=self.stamp(), owner=worker.name)
        self.table[shard] = row
        worker.holds[shard] = Hold(row, deadline(before, TTL))

    @invariant()
    def nobody_shares_a_shard(self) -> None:
        for shard in range(SHARDS):
            acting = [
                worker
                for worker in self.workers
                if shard in worker.holds and worker.holds[shard].good(worker.clock(self.now))
            ]
            assert len(acting) <= 1


Leases.TestCase.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
TestLeases = Leases.TestCase
