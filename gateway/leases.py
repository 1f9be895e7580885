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

Who is there is read every turn, who holds what only where that may have changed. An old sighting of
a lease harms nobody: it is taken by its stamp, which changes whenever it does.

Evenness is a matter of manners, not of safety. What is free goes to whoever has least, by a rule
that all gateways compute alike; who has too little asks whoever has most, and the one who is asked
decides. What stays free for a while is anybody's. While gateways come and go nobody asks: then in a
rolling replacement a shard moves once, from the one that goes to one that came for it.
"""

import heapq
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
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
CROWDED: Final = 2
"""Times its share that a gateway may have while others wait for the fleet to be steady: as much as
in a replacement of all gateways at once, where for a while there are twice as many."""
BURY_SHARE: Final = 2.0
"""Of the lease time: how long a gateway that holds nothing was silent when the newest of the others
removes its row. After twice that, anybody does."""
REREAD_SHARE: Final = 6.0
"""Of the lease time: after which leases are read though nobody told of a change."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """A lease as it was last seen, and since when (monotonic seconds) it is the same."""

    lease: Lease
    since: float


@dataclass(frozen=True, slots=True)
class Peer:
    """A gateway as it was last seen, and since when (monotonic seconds) its stamp is the same."""

    worker: Worker
    since: float
    came: float = float("-inf")
    """When (monotonic seconds) it was seen for the first time."""


@dataclass(frozen=True, slots=True)
class View:
    """What a gateway knows of the table."""

    leases: Mapping[int, Sighting] = field(default_factory=dict[int, Sighting])
    """One for every shard; of epoch 0 where it was never held."""
    peers: Mapping[WorkerId, Peer] = field(default_factory=dict[WorkerId, Peer])
    absent: Mapping[WorkerId, float] = field(default_factory=dict[WorkerId, float])
    """Owners of leases that have no row, and since when (monotonic seconds)."""
    changed: float = 0
    """When (monotonic seconds) a gateway was last seen to come or to go."""


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


def saw_workers(view: View, workers: Iterable[Worker], now: float) -> View:
    """What we know after reading at `now` who is there: what is the same keeps its time."""
    peers: dict[WorkerId, Peer] = {}
    for worker in workers:
        known = view.peers.get(worker.worker)
        same = known is not None and known.worker.stamp == worker.stamp
        peers[worker.worker] = Peer(
            worker,
            since=known.since if known and same else now,
            came=known.came if known else now,
        )
    changed = view.changed if _staff(peers) == _staff(view.peers) else now
    return View(view.leases, peers, _absent(view.leases, peers, view.absent, now), changed)


def saw_leases(view: View, shards: int, leases: Iterable[Lease], now: float) -> View:
    """What we know after reading all leases at `now`, and before that who is there."""
    stored = {lease.shard: lease for lease in leases}
    sightings: dict[int, Sighting] = {}
    for shard in range(shards):
        lease = stored.get(shard) or Lease(shard=shard, epoch=0, stamp="")
        before = view.leases.get(shard)
        same = before and before.lease.stamp == lease.stamp
        sightings[shard] = Sighting(lease, before.since if before and same else now)
    absent = _absent(sightings, view.peers, view.absent, now)
    return View(sightings, view.peers, absent, view.changed)


def _staff(peers: Mapping[WorkerId, Peer]) -> set[WorkerId]:
    return {name for name, peer in peers.items() if not peer.worker.leaving}


def _absent(
    leases: Mapping[int, Sighting],
    peers: Mapping[WorkerId, Peer],
    before: Mapping[WorkerId, float],
    now: float,
) -> dict[WorkerId, float]:
    owners = {seen.lease.owner for seen in leases.values()}
    return {who: before.get(who, now) for who in owners if who is not None and who not in peers}


def spread(shards: Iterable[int], counts: Mapping[WorkerId, int]) -> dict[int, WorkerId]:
    """Who gets which shard: each goes to whoever has least, of those to who came last.

    Alike wherever it is computed. Ids sort by the time they were minted, and who came last is the
    least likely to go next.
    """
    newest = sorted(counts, reverse=True)
    queue = [(counts[worker], age, worker) for age, worker in enumerate(newest)]
    heapq.heapify(queue)
    heirs: dict[int, WorkerId] = {}
    for shard in sorted(shards) if queue else ():
        have, age, heir = queue[0]
        heirs[shard] = heir
        heapq.heapreplace(queue, (have + 1, age, heir))
    return heirs


@dataclass(frozen=True)
class Standing:
    """A gateway's view, judged at a moment."""

    me: WorkerId
    view: View
    now: float
    """Not after it was last read who is there: what has not changed by then has not."""
    lease_seconds: float
    patience: float = 0
    """Seconds since somebody came or went in which nobody asks for a shard."""

    @cached_property
    def live(self) -> frozenset[WorkerId]:
        """Gateways that take shards, as far as we know; we are one."""
        return frozenset(self._staying(self._heard_within(self.lease_seconds))) | {self.me}

    @cached_property
    def well(self) -> frozenset[WorkerId]:
        """Those of them that are not about to be given up."""
        return frozenset(self._staying(self._heard)) | {self.me}

    @cached_property
    def _heard(self) -> frozenset[WorkerId]:
        return frozenset(self._heard_within(SUSPECT_SHARE * self.lease_seconds))

    def _heard_within(self, seconds: float) -> Iterator[WorkerId]:
        since = self.now - seconds
        return (name for name, peer in self.view.peers.items() if peer.since > since)

    def _staying(self, names: Iterable[WorkerId]) -> Iterator[WorkerId]:
        peers = self.view.peers
        return (name for name in names if not peers[name].worker.leaving)

    @cached_property
    def _leaving(self) -> frozenset[WorkerId]:
        peers = self.view.peers.items()
        return frozenset(name for name, peer in peers if peer.worker.leaving)

    def counts(
        self, moved: Collection[int] = (), among: frozenset[WorkerId] | None = None
    ) -> dict[WorkerId, int]:
        """How many shards each live gateway has, or each of `among`.

        One that is given back, or will be by who leaves, and each of `moved`, is counted for the
        one it goes to.
        """
        have = dict.fromkeys(self.live if among is None else among, 0)
        going = self._leaving | {None}
        for shard, seen in self.view.leases.items():
            lease = seen.lease
            who = lease.wanted_by if lease.owner in going or shard in moved else lease.owner
            if who is not None and who in have:
                have[who] += 1
        return have

    def free_since(self, seen: Sighting) -> float:
        """When a lease of another, or of nobody, became free, or will if nothing is heard."""
        owner = seen.lease.owner
        if owner is None:
            return seen.since
        peer = self.view.peers.get(owner)
        silent = self.view.absent.get(owner, seen.since) if peer is None else peer.since
        return max(seen.since, silent) + self.lease_seconds

    @cached_property
    def lapsing(self) -> dict[int, Sighting]:
        """Leases that are free, or will be if their owner stays as silent as it is.

        Our own are not among them: we know what became of those.
        """
        soon = self.now + (1 - SUSPECT_SHARE) * self.lease_seconds
        heard = self._heard | {self.me}
        return {
            shard: seen
            for shard, seen in self.view.leases.items()
            if seen.lease.owner not in heard
            and (seen.lease.owner is None or soon >= self.free_since(seen))
        }

    @cached_property
    def free(self) -> dict[int, Sighting]:
        """Leases that may be taken."""
        return {
            shard: seen
            for shard, seen in self.lapsing.items()
            if seen.lease.owner is None or self.now >= self.free_since(seen)
        }

    def left_alone(self, seen: Sighting) -> bool:
        """Whether whoever should take a free lease had its time for it."""
        return self.now - self.free_since(seen) >= GRACE_SHARE * self.lease_seconds

    def kept(self, seen: Sighting) -> bool:
        """Whether a free lease was given back for a gateway that is there to take it."""
        return (
            seen.lease.owner is None
            and seen.lease.wanted_by in self.live
            and not self.left_alone(seen)
        )

    @cached_property
    def heirs(self) -> dict[int, WorkerId]:
        """Whose each lease is that is free or about to be.

        All are dealt out at once: it must not matter in which order we saw several gateways die.
        """
        if not self.lapsing:
            return {}
        owners = {seen.lease.owner for seen in self.lapsing.values()}
        too_late = {owner: self._too_late_for(owner) for owner in owners}
        heirs: dict[int, WorkerId] = {}
        rest: defaultdict[frozenset[WorkerId], list[int]] = defaultdict(list)
        for shard, seen in self.lapsing.items():
            heir = seen.lease.wanted_by
            if heir is not None and self.kept(seen):
                heirs[shard] = heir
            else:
                rest[too_late[seen.lease.owner]].append(shard)
        counts = self.counts(among=self.well)
        for late in sorted(rest, key=len, reverse=True):
            able = {who: have for who, have in counts.items() if who not in late}
            dealt = spread(rest[late], able or counts)
            heirs |= dealt
            for heir in dealt.values():
                counts[heir] += 1
        return heirs

    def _too_late_for(self, owner: WorkerId | None) -> frozenset[WorkerId]:
        """Gateways that came when an owner had been silent before.

        They know later than the others that it is dead, so what was its is nothing for them. Of
        itself a gateway cannot say so: that it came late it sees by nobody's silence.
        """
        peer = None if owner is None else self.view.peers.get(owner)
        if peer is None:
            return frozenset()
        others = self.well - {self.me}
        return frozenset(who for who in others if self.view.peers[who].came > peer.since)

    def news(self) -> dict[WorkerId, tuple[bool, int]]:
        """What the others tell of the leases: while it is the same, so are they."""
        return {
            name: (peer.worker.leaving, peer.worker.moves)
            for name, peer in self.view.peers.items()
            if name != self.me
        }

    @cached_property
    def calm(self) -> bool:
        """Whether every shard is held by a gateway that is well, or is on its way to one."""
        return all(
            seen.lease.owner in self.well or self.kept(seen) for seen in self.view.leases.values()
        )

    @cached_property
    def uneven(self) -> bool:
        """Whether it is time to ask for shards.

        Nobody came or went for a while; or one has far too many, as the first of a fleet has.
        """
        have = self.counts().values()
        most, share = max(have), -(-sum(have) // len(have))
        steady = self.now - self.view.changed >= self.patience
        return most - min(have) >= UNEVEN and (steady or most > CROWDED * share)

    def restless(self) -> bool:
        """Whether leases may change hands next turn: then they are read every turn."""
        return not self.calm or self.uneven

    def expected(self) -> tuple[int, ...]:
        """Shards that are on their way to us."""
        return tuple(
            shard
            for shard, seen in self.view.leases.items()
            if seen.lease.wanted_by == self.me and seen.lease.owner != self.me
        )

    def next_turn(self) -> float:
        """When (monotonic seconds) to look again: in a turn, or once a lease is ours to take.

        Counted from this look's beginning. What became free while it was under way was not taken,
        so the next is due at once: four turns are a lease time, so that is the rule, not the
        exception.
        """
        grace = GRACE_SHARE * self.lease_seconds
        moments = (
            self.free_since(seen) + (0 if self.heirs.get(shard) == self.me else grace)
            for shard, seen in self.lapsing.items()
        )
        turn = self.now + self.lease_seconds / TURNS
        return min([turn, *(moment for moment in moments if moment > self.now)])


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
    lost = tuple(
        shard
        for shard, hold in holds.items()
        if (seen := at.view.leases[shard].lease).owner != at.me or seen.epoch != hold.lease.epoch
    )
    return Plan(
        lost=lost,
        take=_take(at, holds, closing),
        ask=_ask(at, wanted) if at.calm and at.uneven else (),
        withdraw=_withdraw(at, wanted) if wanted else (),
        hand_over=_hand_over(at, holds.keys() - set(lost), handing) if at.calm else (),
        bury=_bury(at),
    )


def _take(at: Standing, holds: Mapping[int, Hold], closing: Collection[int]) -> tuple[Lease, ...]:
    mine = {
        shard: seen
        for shard, seen in at.free.items()
        if at.left_alone(seen) or at.heirs.get(shard) == at.me
    }
    # Ours by the table and not by us: the answer that gave it to us was lost, or we gave it up.
    mine |= {shard: seen for shard, seen in at.view.leases.items() if seen.lease.owner == at.me}
    return tuple(seen.lease for shard, seen in mine.items() if shard not in {*holds, *closing})


def _ask(at: Standing, wanted: tuple[Lease, ...]) -> tuple[Lease, ...]:
    asked = {lease.shard for lease in wanted}
    have = at.counts(asked)
    # Those who ask at the same time had better ask different ones, and for different leases.
    rank = sorted(at.live).index(at.me)
    offers: defaultdict[WorkerId, list[Lease]] = defaultdict(list)
    for shard, seen in at.view.leases.items():
        lease, owner = seen.lease, seen.lease.owner
        if owner is not None and shard not in asked and lease.wanted_by not in at.live:
            offers[owner].append(lease)
    asks: list[Lease] = []
    for _ in range(MOVES - len(wanted)):
        most = max(have.values())
        richest = sorted(who for who in have if have[who] == most and offers[who])
        if not richest or most - have[at.me] < UNEVEN:
            break
        giver = richest[rank % len(richest)]
        asks.append(offers[giver].pop(rank % len(offers[giver])))
        have[giver] -= 1
        have[at.me] += 1
    return tuple(asks)


def _withdraw(at: Standing, wanted: tuple[Lease, ...]) -> tuple[Lease, ...]:
    have = at.counts()
    needless = {who for who, count in have.items() if count - have[at.me] < UNEVEN}
    return tuple(lease for lease in wanted if lease.owner in needless)


def _hand_over(at: Standing, held: Collection[int], handing: Collection[int]) -> tuple[Lease, ...]:
    asked = [
        lease
        for shard in sorted(set(held) - set(handing))
        if (lease := at.view.leases[shard].lease).wanted_by is not None
    ]
    have = at.counts(handing) if asked else {}
    given: list[Lease] = []
    for lease in asked:
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
    patience = BURY_SHARE * at.lease_seconds * (1 if at.me == max(at.live) else 2)
    return tuple(
        peer.worker
        for name, peer in at.view.peers.items()
        if name != at.me and name not in owners and at.now - peer.since >= patience
    )


def bequests(at: Standing, holds: Mapping[int, Hold]) -> dict[int, WorkerId]:
    """Who is to have what we hold when we go: who was told so, else who has least."""
    have = at.counts(holds, at.live - {at.me})
    told = {
        shard: heir
        for shard in holds
        if (heir := at.view.leases[shard].lease.wanted_by) in have and heir is not None
    }
    return {**spread(holds.keys() - told.keys(), have), **told}
