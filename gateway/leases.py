"""Which leases to take, keep, ask for and give up: the rule, without a request.

A gateway judges others by what it saw and its own monotonic clock, never by theirs: a lease has
lapsed when neither its stamp nor its owner's has changed for one lease time, from the end of the
read that showed them first to the beginning of one that still does.

Of itself it is stricter. It holds a lease for four fifths of a lease time, counted from before the
request that took it or that last vouched for it; and a vouching counts only if its answer came
while the lease was still held. So of a lease that lapsed, nothing that counts was written since it
was first seen: its holder has stopped (at 0.8), and so have its hosts, by themselves if need be (at
0.9); and nothing that it writes later can count, but taking the lease anew, which changes the stamp
that every taker must find as it was.

Evenness is a matter of manners, not of safety. What is free goes to whoever has least, by a rule
that all gateways compute alike; who has too little asks whoever has most, and the one who is asked
decides. What stays free for a while is anybody's.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from shared.ids import WorkerId
from shared.store.leases import Lease, Worker

SAFE_SHARE: Final = 0.8
"""Of the lease time: how long a renewal lets a holder act."""
HOST_SHARE: Final = 0.9
"""Of the lease time: how long a renewal lets a host live. Between its holder's end, which asks the
host to stop in order, and the first moment another gateway may take the lease."""
TURNS: Final = 4
"""Looks at the table, and renewals, a lease time. What lapses was seen for the first time a turn
after it was written at the latest, so it is taken within 1.3 lease times."""
GRACE_SHARE: Final = 0.3
"""Of the lease time: how long a free lease is left to the one it should go to, who looks at the
table within a turn."""
SUSPECT_SHARE: Final = 0.6
"""Of the lease time: a gateway silent for so long may be dying, so nothing is moved."""
MOVES: Final = 2
"""Shards that a gateway asks for, or hands over, at a time: all their sessions reconnect."""
UNEVEN: Final = 2
"""Shards one gateway must have more than another before one is moved. With 1 it would only change
who has more, again and again."""
BURY_SHARE: Final = 2.0
"""Of the lease time: how long a gateway that holds nothing was silent when its row is removed."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """A lease as it was last seen, and since when (monotonic seconds) it is the same."""

    lease: Lease
    since: float
    vouched: str | None = None
    """The stamp of its owner's row; None where there is none."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A gateway as it was last seen, and since when (monotonic seconds) its stamp is the same."""

    worker: Worker
    since: float


@dataclass(frozen=True, slots=True)
class View:
    """What a gateway knows of the table."""

    leases: Mapping[int, Sighting] = field(default_factory=dict[int, Sighting])
    """One for every shard; of epoch 0 where it was never held."""
    peers: Mapping[WorkerId, Peer] = field(default_factory=dict[WorkerId, Peer])


@dataclass(frozen=True, slots=True)
class Hold:
    """A lease we hold until (monotonic seconds) we must have stopped acting on it."""

    lease: Lease
    until: float

    def good(self, now: float) -> bool:
        return now < self.until


@dataclass(frozen=True, slots=True)
class Plan:
    """What to ask of the table now. Each request may be refused: somebody was faster."""

    lost: tuple[int, ...] = ()
    """Shards we hold by our own word and not by the table's."""
    take: tuple[Lease, ...] = ()
    """Leases that are free, as they were seen."""
    ask: tuple[Lease, ...] = ()
    """Leases to ask their owners for."""
    withdraw: tuple[Lease, ...] = ()
    """Leases we asked for and need no more."""
    hand_over: tuple[Lease, ...] = ()
    """Leases of ours to stop serving and give to those who want them."""
    bury: tuple[Worker, ...] = ()
    """Gateways that are gone."""


def deadline(before: float, lease_seconds: float) -> float:
    """Until when a lease may be acted on whose renewal was sent at `before`."""
    return before + SAFE_SHARE * lease_seconds


def renewed(
    holds: Mapping[int, Hold], before: float, now: float, lease_seconds: float
) -> dict[int, Hold]:
    """The holds after a vouching sent at `before` was answered at `now`.

    It came too late for a hold that has ended: another may have taken the lease before it.
    """
    until = deadline(before, lease_seconds)
    return {
        shard: Hold(hold.lease, max(hold.until, until)) if hold.good(now) else hold
        for shard, hold in holds.items()
    }


def overdue(holds: Mapping[int, Hold], now: float) -> tuple[int, ...]:
    """Shards whose sockets must be closed now: their lease was not renewed in time."""
    return tuple(shard for shard, hold in holds.items() if not hold.good(now))


def saw(view: View, shards: int, rows: Iterable[Lease | Worker], now: float) -> View:
    """What we know after reading the table at `now`: what is the same keeps its time."""
    rows = tuple(rows)
    peers: dict[WorkerId, Peer] = {}
    for worker in (row for row in rows if isinstance(row, Worker)):
        known = view.peers.get(worker.worker)
        same = known is not None and known.worker.stamp == worker.stamp
        peers[worker.worker] = Peer(worker, known.since if known and same else now)
    stored = {row.shard: row for row in rows if isinstance(row, Lease)}
    leases: dict[int, Sighting] = {}
    for shard in range(shards):
        lease = stored.get(shard) or Lease(shard=shard, epoch=0, stamp="")
        owner = peers.get(lease.owner) if lease.owner else None
        vouched = owner.worker.stamp if owner else None
        before = view.leases.get(shard)
        same = before and (before.lease.stamp, before.vouched) == (lease.stamp, vouched)
        leases[shard] = Sighting(lease, before.since if before and same else now, vouched)
    return View(leases, peers)


def spread(shards: Iterable[int], counts: Mapping[WorkerId, int]) -> dict[int, WorkerId]:
    """Who gets which shard: each goes to whoever has least. Alike wherever it is computed."""
    have = dict(counts)
    heirs: dict[int, WorkerId] = {}
    for shard in sorted(shards) if have else ():
        heir = min(have, key=lambda worker: (have[worker], worker))
        heirs[shard] = heir
        have[heir] += 1
    return heirs


@dataclass(frozen=True, slots=True)
class Standing:
    """A gateway's view, judged at a moment."""

    me: WorkerId
    view: View
    now: float
    """Not after the table was last read: what has not changed by then has not."""
    lease_seconds: float

    def live(self) -> frozenset[WorkerId]:
        """Gateways that take shards, as far as we know; we are one."""
        others = (
            name
            for name, peer in self.view.peers.items()
            if not peer.worker.leaving and self.now - peer.since < self.lease_seconds
        )
        return frozenset(others) | {self.me}

    def counts(self, moved: Collection[int] = ()) -> dict[WorkerId, int]:
        """How many shards each live gateway has.

        One that is given back, and each of `moved`, is counted for the one it goes to.
        """
        have = dict.fromkeys(self.live(), 0)
        for shard, seen in self.view.leases.items():
            lease = seen.lease
            who = lease.wanted_by if lease.owner is None or shard in moved else lease.owner
            if who is not None and who in have:
                have[who] += 1
        return have

    def free_since(self, seen: Sighting) -> float:
        """When a lease of another, or of nobody, became free, or will if nothing is heard."""
        return seen.since + (0 if seen.lease.owner is None else self.lease_seconds)

    def free(self) -> dict[int, Sighting]:
        """Leases that may be taken. Our own are not among them: we know what became of those."""
        return {
            shard: seen
            for shard, seen in self.view.leases.items()
            if seen.lease.owner is None
            or (seen.lease.owner != self.me and self.now >= self.free_since(seen))
        }

    def left_alone(self, seen: Sighting) -> bool:
        """Whether whoever should take a free lease had its time for it."""
        return self.now - self.free_since(seen) >= GRACE_SHARE * self.lease_seconds

    def kept(self, seen: Sighting) -> bool:
        """Whether a free lease was given back for a gateway that is there to take it."""
        return (
            seen.lease.owner is None
            and seen.lease.wanted_by in self.live()
            and not self.left_alone(seen)
        )

    def calm(self) -> bool:
        """Whether every shard is held by a gateway that is well, or is on its way to one."""
        suspect = self.now - SUSPECT_SHARE * self.lease_seconds
        live = self.live()
        well = {
            name
            for name in live
            if name == self.me or ((p := self.view.peers.get(name)) and p.since > suspect)
        }
        return all(
            seen.lease.owner in well or self.kept(seen) for seen in self.view.leases.values()
        )

    def next_look(self) -> float | None:
        """When (monotonic seconds) a lease becomes free, or anybody's, if nothing changes."""
        grace = GRACE_SHARE * self.lease_seconds
        moments = (
            moment
            for seen in self.view.leases.values()
            if seen.lease.owner != self.me
            for moment in (self.free_since(seen), self.free_since(seen) + grace)
            if moment > self.now
        )
        return min(moments, default=None)


def plan(
    at: Standing, holds: Mapping[int, Hold], handing: Collection[int], closing: Collection[int]
) -> Plan:
    """What to do about the leases.

    `handing` are held shards that are being handed over. `closing` are shards whose sockets are
    still being closed after their lease was lost: not to be taken until that is done.
    """
    wanted = tuple(
        seen.lease
        for seen in at.view.leases.values()
        if seen.lease.wanted_by == at.me and seen.lease.owner not in {None, at.me}
    )
    calm = at.calm()
    lost = tuple(
        shard
        for shard, hold in holds.items()
        if (seen := at.view.leases[shard].lease).owner != at.me or seen.epoch != hold.lease.epoch
    )
    return Plan(
        lost=lost,
        take=_take(at, holds, closing),
        ask=_ask(at, wanted) if calm else (),
        withdraw=_withdraw(at, wanted),
        hand_over=_hand_over(at, holds.keys() - set(lost), handing) if calm else (),
        bury=_bury(at),
    )


def _take(at: Standing, holds: Mapping[int, Hold], closing: Collection[int]) -> tuple[Lease, ...]:
    free = at.free()
    heirs = spread((shard for shard, seen in free.items() if not at.kept(seen)), at.counts())
    mine = {
        shard: seen
        for shard, seen in free.items()
        if at.left_alone(seen)
        or heirs.get(shard) == at.me
        or (at.kept(seen) and seen.lease.wanted_by == at.me)
    }
    # Ours by the table and not by us: the answer that gave it to us was lost, or we gave it up.
    mine |= {shard: seen for shard, seen in at.view.leases.items() if seen.lease.owner == at.me}
    return tuple(seen.lease for shard, seen in mine.items() if shard not in {*holds, *closing})


def _ask(at: Standing, wanted: tuple[Lease, ...]) -> tuple[Lease, ...]:
    asked = {lease.shard for lease in wanted}
    have = at.counts(asked)
    live = at.live()
    rank = sorted(live).index(at.me)
    asks: list[Lease] = []
    for _ in range(MOVES - len(wanted)):
        richest = max(have, key=lambda worker: (have[worker], worker))
        if have[richest] - have[at.me] < UNEVEN:
            break
        offers = [
            seen.lease
            for shard, seen in at.view.leases.items()
            if seen.lease.owner == richest
            and shard not in asked
            and seen.lease.wanted_by not in live
        ]
        if not offers:
            break
        # Those who ask at the same time had better ask for different ones.
        lease = offers[rank % len(offers)]
        asks.append(lease)
        asked.add(lease.shard)
        have[richest] -= 1
        have[at.me] += 1
    return tuple(asks)


def _withdraw(at: Standing, wanted: tuple[Lease, ...]) -> tuple[Lease, ...]:
    have = at.counts()
    needless = {who for who, count in have.items() if count - have[at.me] < UNEVEN}
    return tuple(lease for lease in wanted if lease.owner in needless)


def _hand_over(at: Standing, held: Collection[int], handing: Collection[int]) -> tuple[Lease, ...]:
    have = at.counts(handing)
    given: list[Lease] = []
    for shard in sorted(set(held) - set(handing)):
        lease = at.view.leases[shard].lease
        heir = lease.wanted_by
        if len(given) + len(handing) >= MOVES:
            break
        # Of those who asked at once, only as many are served as it takes to be even.
        if heir is not None and heir in have and have[at.me] - have[heir] >= UNEVEN:
            given.append(lease)
            have[at.me] -= 1
            have[heir] += 1
    return tuple(given)


def _bury(at: Standing) -> tuple[Worker, ...]:
    owners = {seen.lease.owner for seen in at.view.leases.values()}
    return tuple(
        peer.worker
        for name, peer in at.view.peers.items()
        if name != at.me
        and name not in owners
        and at.now - peer.since >= BURY_SHARE * at.lease_seconds
    )
