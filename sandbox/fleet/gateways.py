"""Gateways that share shards by the real rules, on a simulated clock and a counted table.

A gateway here does what `gateway.leaseholder` does, without a network. Whom nothing concerns is
spared the thinking: a plan that is bound to be empty is not made, and where the whole fleet is at
rest its requests are multiplied instead of made one by one. `exact` turns both off, so that a small
fleet can be held against the other.
"""

import heapq
import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from gateway.leases import (
    BURY_SHARE,
    CROWDED,
    GRACE_SHARE,
    REREAD_SHARE,
    SAFE_SHARE,
    SUSPECT_SHARE,
    TURNS,
    UNEVEN,
    Hold,
    Peer,
    Plan,
    Standing,
    View,
    bequests,
    plan,
    saw_leases,
    saw_workers,
)
from sandbox.fleet.meter import Meter
from sandbox.fleet.table import NAME_LENGTH, Table
from shared.ids import WorkerId
from shared.store import keys
from shared.store.leases import Lease, Worker

QUICK_SHARE: Final = 0.05
"""As `gateway.leaseholder` has it."""
CLOSE_SECONDS: Final = 2.0
"""To close a shard's sockets in order."""
STOP_SECONDS: Final = 5.0
"""From SIGTERM until a gateway's hosts are gone and its leases are given back."""
FOREVER: Final = float("inf")


@dataclass(eq=False, slots=True)
class Gateway:
    """One, as far as leases go."""

    name: WorkerId
    turn_at: float
    came: float = 0
    turned: float = 0
    holds: dict[int, Hold] = field(default_factory=dict[int, Hold])
    handing: set[int] = field(default_factory=set[int])
    leaving: bool = False
    silent: bool = False
    """Dead or frozen."""
    moves: int = 0
    view: View = field(default_factory=View)
    told: int = -1
    """Up to where it knows what the others told."""
    news: dict[WorkerId, tuple[bool, int]] = field(default_factory=dict[WorkerId, tuple[bool, int]])
    leases_moves: int = -1
    leases_at: float = -FOREVER
    changed: float = 0
    staff: int = -1
    bequeathed: bool = False
    last_seen: dict[WorkerId, float] = field(default_factory=dict[WorkerId, float])
    """Since when each silent one is the same, as it sees it."""


class Fleet:
    """Gateways, their table, and the time."""

    def __init__(
        self,
        shards: int,
        *,
        lease_seconds: float = 10.0,
        patience: float = 120.0,
        seed: int = 1,
        exact: bool = False,
    ) -> None:
        self.meter = Meter()
        self.table = Table(shards, self.meter)
        self.ttl = lease_seconds
        self.turn = lease_seconds / TURNS
        self.patience = patience
        self.exact = exact
        self.random = random.Random(seed)  # noqa: S311 - is to be repeatable
        self.now = 0.0
        self.gateways: dict[WorkerId, Gateway] = {}
        self.taken: list[tuple[float, int, WorkerId]] = []
        """When each shard was won, and by whom."""
        self.gaps: list[float] = []
        """How long (seconds) each shard that was given back was nobody's."""
        self.left = 0
        """Shards that were left in order: each costs a nudge of its long poll."""
        self._silent: dict[WorkerId, float] = {}
        """Gateways whose rows are there and change no more, and when they last did."""
        self._staff = 0
        self._turns: list[tuple[float, int, Gateway]] = []
        self._later: list[tuple[float, int, Callable[[], None]]] = []
        self._number = itertools.count()
        self._tried = -FOREVER
        """When we last saw whether the fleet is at rest."""
        self._expected_since: dict[int, float] = {}
        self._peers: dict[WorkerId, Peer] = {}
        self._heirs: tuple[object, dict[int, WorkerId]] = (None, {})
        self._serving: dict[WorkerId, Gateway] = {}
        """Those that neither leave nor are silent."""
        self._known_sizes: tuple[object, tuple[int, int]] = (None, (0, 0))
        self._leavers: set[WorkerId] = set()

    # What happens to gateways.

    def join(self) -> Gateway:
        number = f"{next(self._number):06}"
        name = WorkerId(f"gw_{number}".ljust(NAME_LENGTH, "0"))
        gateway = Gateway(name, self.now, self.now)
        self.gateways[name] = self._serving[name] = gateway
        self._came_or_went()
        self._push(gateway, self.now)
        return gateway

    def deal(self) -> None:
        """Give the gateways their shares, as if they had been there for long."""
        names = sorted(self.gateways)
        for shard in self.table.leases:
            gateway = self.gateways[names[shard % len(names)]]
            won = self.table.take(self.table.leases[shard], gateway.name, self.now)
            assert won is not None  # noqa: S101 - nobody else is at it
            gateway.holds[shard] = Hold(won, FOREVER)
        for n, name in enumerate(names):
            self._push(self.gateways[name], self.now + self.turn * n / len(names))
        self.run(self.now + 2 * self.turn)
        self.meter.forget()

    def leave(self, gateway: Gateway) -> None:
        """SIGTERM."""
        gateway.leaving = True
        self._serving.pop(gateway.name, None)
        self._leavers.add(gateway.name)
        self._came_or_went()
        self.after(STOP_SECONDS, lambda: self._resign(gateway))

    def kill(self, gateway: Gateway) -> None:
        self._silence(gateway)
        del self.gateways[gateway.name]

    def freeze(self, gateway: Gateway, seconds: float) -> None:
        self._silence(gateway)
        self.after(seconds, lambda: self._thaw(gateway))

    def after(self, seconds: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._later, (self.now + seconds, next(self._number), do))

    def _silence(self, gateway: Gateway) -> None:
        gateway.silent = True
        self._serving.pop(gateway.name, None)
        if gateway.name in self.table.workers:
            self._silent[gateway.name] = gateway.turned
            self._peers.pop(gateway.name, None)

    def _thaw(self, gateway: Gateway) -> None:
        gateway.silent = False
        self._serving[gateway.name] = gateway
        self._silent.pop(gateway.name, None)
        if gateway.name not in self.table.workers:
            self._came_or_went()
        # It did not see itself go and come.
        gateway.staff = self._staff
        for each in self.gateways.values():
            each.last_seen.pop(gateway.name, None)
        # It slept past its deadlines: what it held is closed before anything else.
        if self.now - gateway.turned >= SAFE_SHARE * self.ttl:
            gateway.holds.clear()
            gateway.handing.clear()
        self._push(gateway, self.now)

    def _resign(self, gateway: Gateway) -> None:
        if gateway.silent:
            return
        heirs = bequests(self._standing(gateway), gateway.holds)
        for shard, hold in gateway.holds.items():
            self.left += 1
            self.table.resign(hold.lease, heirs.get(shard), self.now)
            self._fetched(shard, heirs.get(shard))
        gateway.holds.clear()
        del self.gateways[gateway.name]
        self._leavers.discard(gateway.name)
        self._peers.pop(gateway.name, None)
        row = self.table.workers.get(gateway.name)
        if row is not None:
            self.table.bury(gateway.name, row.stamp, self.now)

    def _came_or_went(self) -> None:
        self._staff += 1

    # Time.

    def run(self, until: float, enough: Callable[[], bool] = lambda: False) -> None:
        """Let time pass, until then or until there was enough of it, where leases changed."""
        told = -1
        while True:
            if told != self.table.told:
                told = self.table.told
                if enough():
                    return
            if not self.exact and self.now >= self._tried + self.turn:
                self._tried = self.now
                if self._at_rest():
                    self._rest(until)
            later = self._later[0][0] if self._later else FOREVER
            turn = self._turns[0][0] if self._turns else FOREVER
            if min(later, turn) > until:
                self.now = until
                return
            if later <= turn:
                self.now, _, do = heapq.heappop(self._later)
                do()
                continue
            at, _, gateway = heapq.heappop(self._turns)
            if gateway.turn_at != at or gateway.silent or gateway.name not in self.gateways:
                continue
            self.now = at
            self._turn(gateway)

    def _push(self, gateway: Gateway, at: float) -> None:
        gateway.turn_at = at
        heapq.heappush(self._turns, (at, next(self._number), gateway))

    def _at_rest(self) -> bool:
        """Whether every gateway's next turns are like its last."""
        table = self.table
        if self._silent or table.wanted or table.by_owner[None]:
            return False
        if any(each.leaving or each.told != table.told for each in self.gateways.values()):
            return False
        low, high = self._sizes()
        return high - low < UNEVEN or (
            self.now < self._steady_at() - self.turn and not self._crowded(high)
        )

    def _steady_at(self) -> float:
        return min(each.changed for each in self.gateways.values()) + self.patience

    def _rest(self, until: float) -> None:
        """Skip whole turns until something is to happen, and count what they would have asked."""
        low, high = self._sizes()
        ends = min(until, self._later[0][0] if self._later else until)
        if high - low >= UNEVEN:
            ends = min(ends, self._steady_at() - self.turn)
        turns = int((ends - self.now) / self.turn) - 1
        if turns <= 0:
            return
        seconds, count = turns * self.turn, len(self.gateways)
        often = count / self.turn
        beats = keys.beats_partitions()
        for key, cost in self.table.beat_units().items():
            self.meter.quiet("PutItem beat", key, often / len(beats), seconds, 0)
            self.meter.quiet("Query beats", key, often, seconds, cost)
        for key, cost in self.table.lease_units().items():
            seldom = count / (REREAD_SHARE * self.ttl)
            self.meter.quiet("Query leases", key, seldom, seconds, cost)
        self.now += seconds
        for gateway in self.gateways.values():
            gateway.turned += seconds
            gateway.leases_at += seconds
        moved = [(at + seconds, number, each) for at, number, each in self._turns]
        for gateway in self.gateways.values():
            gateway.turn_at += seconds
        self._turns = moved

    # A gateway's turn.

    def _turn(self, gateway: Gateway) -> None:
        now, table = self.now, self.table
        worker = Worker(
            worker=gateway.name,
            stamp=table.stamp() if self.exact else "",
            leaving=gateway.leaving,
            moves=gateway.moves,
        )
        table.vouch(worker, now)
        table.read_workers(now)
        self._see(gateway)
        if self.exact:
            gateway.view = saw_workers(gateway.view, table.workers.values(), now)
        else:
            self._peers[gateway.name] = Peer(worker, FOREVER, gateway.came)
        self._read_leases(gateway)
        if gateway.leaving:
            self._bequeath(gateway)
        elif self.exact or self._concerned(gateway):
            self._act(gateway, plan(self._standing(gateway), gateway.holds, gateway.handing, ()))
        gateway.turned = now
        self._push(gateway, self._next_turn(gateway))

    def _see(self, gateway: Gateway) -> None:
        """Who is silent, and since when, by the turns of this one."""
        for name, last in self._silent.items():
            if name not in gateway.last_seen:
                gateway.last_seen[name] = max(gateway.turned, last)
                if gateway.turned < last:
                    gateway.last_seen[name] = self.now
        if gateway.staff != self._staff:
            gateway.staff, gateway.changed = self._staff, self.now

    def _read_leases(self, gateway: Gateway) -> None:
        now, table = self.now, self.table
        fresh = now - gateway.leases_at < REREAD_SHARE * self.ttl
        if self.exact:
            at = self._standing(gateway)
            news = at.news()
            known = news == gateway.news and gateway.moves == gateway.leases_moves
            if known and fresh and not at.restless():
                return
            rows = table.leases.values()
            gateway.view = saw_leases(gateway.view, len(table.leases), rows, now)
            gateway.news = news
        elif gateway.told == table.told and fresh and not self._restless(gateway):
            return
        gateway.told, gateway.leases_moves, gateway.leases_at = table.told, gateway.moves, now
        table.read_leases(now)

    def _standing(self, gateway: Gateway) -> Standing:
        view = gateway.view if self.exact else self._view(gateway)
        return Standing(gateway.name, view, self.now, self.ttl, self.patience)

    def _view(self, gateway: Gateway) -> View:
        """What it would know of the table now, without having kept it."""
        workers = self.table.workers
        silent = {
            name: Peer(workers[name], since)
            for name, since in gateway.last_seen.items()
            if name in self._silent and name in workers
        }
        peers = {**self._peers, **silent} if silent else self._peers
        return View(self.table.seen, peers, {}, gateway.changed)

    def _next_turn(self, gateway: Gateway) -> float:
        due = self.now + self.turn
        if gateway.leaving:
            return due
        if self.exact:
            return max(self._standing(gateway).next_turn(), self.now + 0.01)
        soon = [gateway.last_seen[name] + self.ttl for name in self._lapsing_for(gateway)]
        return min([due, *(look for look in soon if look > self.now)])

    def _lapsing_for(self, gateway: Gateway) -> Iterator[WorkerId]:
        if not self._silent:
            return
        heirs = self._heirs_of_silent(gateway)
        for name in self._silent:
            if any(heirs.get(n) == gateway.name for n in self.table.by_owner.get(name, ())):
                yield name

    def _heirs_of_silent(self, gateway: Gateway) -> dict[int, WorkerId]:
        """Heirs by a view in which all that are silent are lapsing: one for all gateways."""
        key = (self.table.told, tuple(self._silent), self._staff)
        if self._heirs[0] != key:
            workers = self.table.workers
            lapsed = {
                name: Peer(workers[name], min(since, self.now - self.ttl))
                for name, since in self._silent.items()
                if name in workers
            }
            view = View(self.table.seen, {**self._peers, **lapsed}, {}, 0)
            self._heirs = key, Standing(gateway.name, view, self.now, self.ttl).heirs
        return self._heirs[1]

    # Whether to think at all.

    def _sizes(self) -> tuple[int, int]:
        """The least and the most that one of those has who serve."""
        key = (self.table.told, self._staff, len(self._serving))
        if self._known_sizes[0] != key:
            owned = self.table.by_owner
            sizes = [len(owned.get(name, ())) for name in self._serving] or [0]
            self._known_sizes = key, (min(sizes), max(sizes))
        return self._known_sizes[1]

    def _crowded(self, most: int) -> bool:
        return most > CROWDED * -(-len(self.table.leases) // max(1, len(self._serving)))

    def _disturbed(self, now: float) -> bool:
        """Whether a shard is without a gateway that is well."""
        owned = self.table.by_owner
        return (
            bool(owned[None])
            or any(owned.get(name) for name in self._leavers)
            or any(
                owned.get(name) and now - last >= SUSPECT_SHARE * self.ttl
                for name, last in self._silent.items()
            )
        )

    def _restless(self, gateway: Gateway) -> bool:
        if self._disturbed(self.now):
            return True
        low, high = self._sizes()
        return high - low >= UNEVEN and (
            self.now - gateway.changed >= self.patience or self._crowded(high)
        )

    def _concerned(self, gateway: Gateway) -> bool:
        """Whether a plan could hold anything for it."""
        return (
            self._lost_or_won_in_vain(gateway)
            or any(self._free_for(gateway, shard) for shard in self.table.by_owner[None])
            or any(self._asked(gateway, shard) for shard in self.table.wanted)
            or any(self._overdue(gateway, name) for name in self._silent)
            or any(
                self.now - gateway.last_seen[name] >= self.ttl
                for name in self._lapsing_for(gateway)
            )
            or (
                self._sizes()[1] - len(gateway.holds) >= UNEVEN
                and not self._disturbed(self.now)
                and self._restless(gateway)
            )
        )

    def _lost_or_won_in_vain(self, gateway: Gateway) -> bool:
        owned = self.table.by_owner.get(gateway.name, set[int]())
        return owned != gateway.holds.keys()

    def _free_for(self, gateway: Gateway, shard: int) -> bool:
        seen = self.table.seen[shard]
        heir = seen.lease.wanted_by
        kept = heir in self.gateways and self.now - seen.since < GRACE_SHARE * self.ttl
        return heir == gateway.name or not kept

    def _asked(self, gateway: Gateway, shard: int) -> bool:
        lease = self.table.leases[shard]
        mine = lease.wanted_by == gateway.name and lease.owner not in self._leavers
        return mine or lease.owner == gateway.name

    def _overdue(self, gateway: Gateway, name: WorkerId) -> bool:
        """Whether what a silent one held is anybody's by now, or its row to be removed."""
        silent = self.now - gateway.last_seen[name]
        if self.table.by_owner.get(name):
            return silent >= (1 + GRACE_SHARE) * self.ttl
        return silent >= BURY_SHARE * self.ttl

    # What it does.

    def _act(self, gateway: Gateway, todo: Plan) -> None:
        table, now, me = self.table, self.now, gateway.name
        for shard in todo.lost:
            del gateway.holds[shard]
            gateway.handing.discard(shard)
        for lease in todo.take:
            self._take(gateway, lease)
        for lease in todo.ask:
            gateway.moves += 2
            if table.ask(lease, me, now):
                self._expected_since[lease.shard] = now
        for lease in todo.withdraw:
            gateway.moves += 2
            table.ask(lease, None, now)
        for lease in todo.hand_over:
            gateway.handing.add(lease.shard)
            hold, heir = gateway.holds[lease.shard], lease.wanted_by
            self.after(CLOSE_SECONDS, lambda h=hold, to=heir: self._handed(gateway, h, to))
        for worker in todo.bury:
            stamp = table.workers[worker.worker].stamp if worker.worker in table.workers else ""
            if table.bury(worker.worker, stamp if not self.exact else worker.stamp, now):
                self._silent.pop(worker.worker, None)
                self._peers.pop(worker.worker, None)
                self._came_or_went()

    def _bequeath(self, gateway: Gateway) -> None:
        if gateway.bequeathed:
            return
        gateway.bequeathed = True
        for shard, heir in bequests(self._standing(gateway), gateway.holds).items():
            lease = self.table.leases[shard]
            if lease.wanted_by != heir:
                gateway.moves += 2
                self.table.ask(lease, heir, self.now)
                self._expected_since[shard] = self.now

    def _handed(self, gateway: Gateway, hold: Hold, heir: WorkerId | None) -> None:
        shard = hold.lease.shard
        if gateway.holds.get(shard) is not hold or gateway.silent:
            return
        del gateway.holds[shard]
        gateway.handing.discard(shard)
        gateway.moves += 2
        self.left += 1
        self.table.resign(hold.lease, heir, self.now)
        self._fetched(shard, heir)

    def _fetched(self, shard: int, heir: WorkerId | None) -> None:
        """Have the heir find what was given back for it, if it looks out for it."""
        since = self._expected_since.pop(shard, None)
        gateway = self.gateways.get(heir) if heir is not None else None
        if gateway is None or since is None or gateway.turned < since:
            return
        quick = QUICK_SHARE * self.ttl
        for n in range(int((self.now - since) / quick) + 1):
            self.table.peek(shard, since + n * quick)

        def found() -> None:
            lease = self.table.leases[shard]
            kept = (lease.owner, lease.wanted_by) == (None, gateway.name)
            if kept and gateway.name in self._serving:
                self._take(gateway, lease)

        self.after(self.random.uniform(0, quick), found)

    def _take(self, gateway: Gateway, seen: Lease) -> None:
        gateway.moves += 2
        before = self.table.seen[seen.shard]
        won = self.table.take(seen, gateway.name, self.now)
        if won is not None and before.lease.owner is None:
            self.gaps.append(self.now - before.since)
        if won is not None:
            # A simulated holder is on time: what ends its hold is silence, not the clock.
            gateway.holds[won.shard] = Hold(won, FOREVER)
            self.taken.append((self.now, won.shard, gateway.name))

    # What is to be seen of it.

    def even(self) -> bool:
        """Whether every shard is held and shares are even."""
        low, high = self._sizes()
        return self.all_held() and high - low < UNEVEN

    def all_held(self) -> bool:
        owned = self.table.by_owner
        return sum(len(owned.get(name, ())) for name in self.gateways) == len(
            self.table.leases
        ) and not any(owned.get(name) for name in self._silent)
