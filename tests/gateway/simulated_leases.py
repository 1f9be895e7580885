"""Gateways that share shards, on a simulated table, each by a clock of its own.

A gateway here is the plan and what a leaseholder does with it, without a network: what it sends is
kept until somebody lets it arrive, and the answer until somebody lets it be heard.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import msgspec

from gateway.leases import (
    HOST_SHARE,
    REREAD_SHARE,
    SAFE_SHARE,
    TURNS,
    Hold,
    Plan,
    Standing,
    View,
    bequests,
    deadline,
    overdue,
    plan,
    renewed,
    saw_leases,
    saw_workers,
)
from shared.ids import WorkerId
from shared.store.leases import Lease, Worker

TTL = 10.0
TURN = TTL / TURNS
QUICK = TTL / 20


@dataclass
class Table:
    """What DynamoDB would keep, and what it would refuse."""

    leases: dict[int, Lease] = field(default_factory=dict[int, Lease])
    workers: dict[WorkerId, Worker] = field(default_factory=dict[WorkerId, Worker])
    stamps: int = 0
    moves: int = 0
    """Leases that changed hands."""

    def stamp(self) -> str:
        self.stamps += 1
        return str(self.stamps)

    def vouch(self, worker: Worker) -> bool:
        self.workers[worker.worker] = worker
        return True

    def take(self, seen: Lease, me: WorkerId, stamp: str) -> bool:
        row = self.leases.get(seen.shard, Lease(shard=seen.shard, epoch=0, stamp=""))
        if (row.stamp, row.epoch) != (seen.stamp, seen.epoch):
            return False
        self.leases[seen.shard] = Lease(
            shard=seen.shard, epoch=seen.epoch + 1, stamp=stamp, owner=me
        )
        self.moves += 1
        return True

    def ask(self, seen: Lease, asker: WorkerId | None) -> bool:
        row = self.leases[seen.shard]
        if (row.owner, row.epoch, row.wanted_by) != (seen.owner, seen.epoch, seen.wanted_by):
            return False
        self.leases[seen.shard] = msgspec.structs.replace(row, wanted_by=asker)
        return True

    def resign(self, held: Lease, stamp: str, heir: WorkerId | None) -> bool:
        row = self.leases[held.shard]
        if (row.owner, row.epoch) != (held.owner, held.epoch):
            return False
        self.leases[held.shard] = msgspec.structs.replace(
            row, owner=None, stamp=stamp, wanted_by=heir
        )
        return True

    def bury(self, seen: Worker) -> bool:
        row = self.workers.get(seen.worker)
        if row is None or row.stamp != seen.stamp:
            return False
        del self.workers[seen.worker]
        return True


@dataclass
class Request:
    """On its way to the table, or its answer on the way back."""

    write: Callable[[], bool]
    heard: Callable[[bool], None]
    answer: bool | None = None


class Gateway:
    """A leaseholder without a network."""

    def __init__(
        self,
        name: str,
        shards: int,
        table: Table,
        clock: tuple[float, float] = (0, 1),
        patience: float = 0,
    ) -> None:
        """`clock`: how far its clock is off, and how fast it runs."""
        self.name = WorkerId(name)
        self.shards = shards
        self.table = table
        self.offset, self.rate = clock
        self.patience = patience
        self.view = View()
        self.news: dict[WorkerId, tuple[bool, int]] = {}
        self.moves = 0
        self.leaving = False
        self.leases_moves = -1
        self.leases_at = float("-inf")
        self.reads = 0
        """How often it read the leases."""
        self.holds: dict[int, Hold] = {}
        self.hosts: dict[int, float] = {}
        """Until when each shard's hosts may live, as they were told last."""
        self.requests: list[Request] = []
        self.handing: dict[int, Lease] = {}
        self.frozen = False
        self.judged = self.standing(0)
        """What the last look acted on."""
        self.next_turn = 0.0
        self.turn_due = 0.0

    def clock(self, now: float) -> float:
        return self.offset + now * self.rate

    def acts_on(self, now: float) -> set[int]:
        """Shards on which it, or a host of its, may act."""
        mine = self.clock(now)
        good = {shard for shard, hold in self.holds.items() if hold.good(mine)}
        return good | {shard for shard, end in self.hosts.items() if mine < end}

    def standing(self, now: float) -> Standing:
        return Standing(self.name, self.view, self.clock(now), TTL, self.patience)

    def drop(self, shard: int) -> None:
        """Close what is served of a shard."""
        del self.holds[shard]
        self.handing.pop(shard, None)
        self.hosts.pop(shard, None)

    def watch(self, now: float) -> None:
        for shard in overdue(self.holds, self.clock(now)):
            self.drop(shard)

    def vouch(self, now: Callable[[], float]) -> None:
        before = self.clock(now())
        row = Worker(
            worker=self.name, stamp=self.table.stamp(), leaving=self.leaving, moves=self.moves
        )

        def heard(_: bool) -> None:  # noqa: FBT001 - an answer
            self.holds = renewed(self.holds, before, self.clock(now()), TTL)
            self.tell_hosts(now())

        self.requests.append(Request(lambda: self.table.vouch(row), heard))

    def tell_hosts(self, now: float) -> None:
        for shard, hold in self.holds.items():
            if hold.good(self.clock(now)):
                self.hosts[shard] = hold.until + (HOST_SHARE - SAFE_SHARE) * TTL

    def look(self, now: Callable[[], float], wait: Callable[[], None] = lambda: None) -> Plan:
        """Read the table, which may take a while, and send what the plan says."""
        self.watch(now())
        before = self.standing(now())
        workers = list(self.table.workers.values())
        wait()
        self.view = saw_workers(self.view, workers, self.clock(now()))
        self.read_leases(replace(before, view=self.view), self.clock(now()))
        self.judged = replace(before, view=self.view)
        todo = plan(self.judged, self.holds, self.handing, ())
        for shard in todo.lost:
            self.drop(shard)
        if self.leaving:
            self.bequeath(now())
            return todo
        for seen in todo.take:
            self.take(seen, now)
        for lease, asker in (
            *((lease, self.name) for lease in todo.ask),
            *((lease, None) for lease in todo.withdraw),
        ):
            self.write(lambda lease=lease, asker=asker: self.table.ask(lease, asker))
        self.handing |= {lease.shard: lease for lease in todo.hand_over}
        for worker in todo.bury:
            self.send(lambda worker=worker: self.table.bury(worker))
        return todo

    def read_leases(self, at: Standing, read_at: float) -> None:
        """Where they may not be as we know them."""
        known = at.news() == self.news and self.moves == self.leases_moves
        fresh = at.now - self.leases_at < REREAD_SHARE * TTL
        if known and fresh and not at.restless():
            return
        self.reads += 1
        self.view = saw_leases(self.view, self.shards, self.table.leases.values(), read_at)
        self.news, self.leases_moves, self.leases_at = at.news(), self.moves, at.now

    def bequeath(self, now: float) -> None:
        """Tell the heirs of what we hold."""
        for shard, heir in bequests(self.standing(now), self.holds).items():
            lease = self.view.leases[shard].lease
            if lease.wanted_by != heir:
                self.write(lambda lease=lease, heir=heir: self.table.ask(lease, heir))

    def fetch(self, now: Callable[[], float]) -> None:
        """Take what was given back for us."""
        for shard in self.standing(now()).expected():
            row = self.table.leases[shard]
            if shard not in self.holds and (row.owner, row.wanted_by) == (None, self.name):
                self.take(row, now)

    def write(self, write: Callable[[], bool]) -> None:
        """Of a lease: the others are told."""
        self.moves += 1
        self.send(write)

    def send(self, write: Callable[[], bool]) -> None:
        self.requests.append(Request(write, lambda _: None))

    def take(self, seen: Lease, now: Callable[[], float]) -> None:
        before, stamp = self.clock(now()), self.table.stamp()
        self.moves += 1

        def heard(won: bool) -> None:  # noqa: FBT001 - an answer
            lease = msgspec.structs.replace(
                seen, owner=self.name, epoch=seen.epoch + 1, stamp=stamp
            )
            hold = Hold(lease, deadline(before, TTL))
            if won and hold.good(self.clock(now())):
                self.holds[lease.shard] = hold
                self.tell_hosts(now())

        self.requests.append(
            Request(lambda: self.table.take(seen, self.name, stamp), heard),
        )

    def finish_handing(self) -> None:
        """The sockets of what is handed over are closed."""
        for shard, lease in list(self.handing.items()):
            held = self.holds[shard].lease
            self.drop(shard)
            heir = lease.wanted_by
            self.write(
                lambda held=held, heir=heir: self.table.resign(held, self.table.stamp(), heir)
            )

    def leave(self, now: float) -> None:
        """SIGTERM: close everything, then give it to the others."""
        heirs = bequests(self.standing(now), self.holds)
        for shard, hold in list(self.holds.items()):
            self.drop(shard)
            self.table.resign(hold.lease, self.table.stamp(), heirs.get(shard))
        self.table.workers.pop(self.name, None)

    def turn(self, now: Callable[[], float], wait: Callable[[], None]) -> None:
        """A whole turn on a network that is well."""
        self.vouch(now)
        self.settle()
        self.look(now, wait)
        self.settle()
        self.finish_handing()
        self.settle()

    def settle(self) -> None:
        """Whatever is on its way arrives, and is heard."""
        requests, self.requests = self.requests, []
        for request in requests:
            if request.answer is None:
                request.answer = request.write()
            request.heard(request.answer)


class Fleet:
    """Gateways at work, by the true time that none of them knows."""

    def __init__(self, shards: int, patience: float = 0, latency: float = 0) -> None:
        """`latency`: seconds from a look's beginning to its end."""
        self.patience = patience
        self.latency = latency
        self.now = 1000.0
        self.shards = shards
        self.table = Table()
        self.gateways: list[Gateway] = []
        self.born = 0
        self.epochs: dict[int, int] = {}

    def time(self) -> float:
        return self.now

    def wait(self) -> None:
        self.now += self.latency

    def joins(self, offset: float = 0, rate: float = 1) -> Gateway:
        self.born += 1
        gateway = Gateway(
            f"gw_{self.born:03}", self.shards, self.table, (offset, rate), self.patience
        )
        gateway.next_turn = self.now
        self.gateways.append(gateway)
        return gateway

    def run(self, seconds: float) -> None:
        """Let time pass in which all that are not frozen do their turns."""
        end = self.now + seconds
        while True:
            awake = [each for each in self.gateways if not each.frozen]
            first = min(awake, key=lambda each: each.next_turn, default=None)
            if first is None or first.next_turn > end:
                self.now = end
                return
            self.now = max(self.now, first.next_turn)
            if self.now < first.turn_due:
                first.fetch(self.time)
                first.settle()
            else:
                first.turn(self.time, self.wait)
                first.turn_due = self.after(first)
            quick = self.now + QUICK
            expects = set(first.standing(self.now).expected()) - first.holds.keys()
            first.next_turn = min(first.turn_due, quick) if expects else first.turn_due
            self.check()

    def after(self, gateway: Gateway) -> float:
        """When its next turn is, as the leaseholder has it."""
        due = (gateway.judged.next_turn() - gateway.offset) / gateway.rate
        return max(due, self.now) + 1e-6

    def held(self) -> list[int]:
        """How many shards each gateway holds."""
        return [
            sum(hold.good(gateway.clock(self.now)) for hold in gateway.holds.values())
            for gateway in self.gateways
        ]

    def check(self) -> None:
        """Never two on one shard; a fencing token grows with each change of hands."""
        seen: set[int] = set()
        for gateway in self.gateways:
            acting = gateway.acts_on(self.now)
            assert not acting & seen, "two gateways may act on one shard"
            seen |= acting
        for shard, lease in self.table.leases.items():
            assert lease.epoch >= self.epochs.get(shard, 0), "a fencing token went back"
            self.epochs[shard] = lease.epoch
