"""The table of leases as DynamoDB would keep it, and what it would refuse; every request counted.

Beside the rows it keeps what makes a large fleet quick to simulate: who holds how many, and which
shards are on their way. Nobody decides by these; they only say whose decision is worth asking for.
"""

from collections import Counter, defaultdict

import msgspec

from gateway.leases import Sighting
from sandbox.fleet.meter import Meter, item_bytes, units
from shared.env import Places
from shared.ids import WorkerId
from shared.store import keys, leases
from shared.store.dynamo import to_item
from shared.store.leases import Lease, Worker

NAME_LENGTH = 29
"""Characters of a gateway's id."""


class Table:
    """Leases and gateways."""

    def __init__(self, shards: int, meter: Meter) -> None:
        self.meter = meter
        self.leases = {n: Lease(shard=n, epoch=0, stamp="") for n in range(shards)}
        self.seen = {n: Sighting(lease, 0) for n, lease in self.leases.items()}
        """The rows, each with the time it was written."""
        self.workers: dict[WorkerId, Worker] = {}
        self.stamps = 0
        self.told = 0
        """Changes that gateways tell each other of."""
        self.by_owner: defaultdict[WorkerId | None, set[int]] = defaultdict(set)
        self.by_owner[None] = set(self.leases)
        self.wanted: set[int] = set()
        self.moves = 0
        self._beats = Counter[str]()
        self._beat_bytes = row_bytes_of_worker()
        self._lease_bytes = row_bytes_of_lease()
        self._groups = Counter(keys.leases_partition(n) for n in range(shards))

    def stamp(self) -> str:
        self.stamps += 1
        return f"{self.stamps:016x}"

    def vouch(self, worker: Worker, now: float) -> None:
        before = self.workers.get(worker.worker)
        key = keys.worker(worker.worker)[0]
        if before is None:
            self._beats[key] += 1
        if before is None or before.leaving != worker.leaving:
            self.told += 1
        self.workers[worker.worker] = worker
        self.meter.write("PutItem beat", key, now)

    def bury(self, worker: WorkerId, stamp: str, now: float) -> bool:
        key = keys.worker(worker)[0]
        self.meter.write("DeleteItem beat", key, now)
        row = self.workers.get(worker)
        if row is None or row.stamp != stamp:
            return False
        del self.workers[worker]
        self._beats[key] -= 1
        self.told += 1
        return True

    def beat_units(self) -> dict[str, int]:
        """Read units of a look at each partition of the gateways' rows."""
        return {key: units(self._beats[key] * self._beat_bytes) for key in keys.beats_partitions()}

    def lease_units(self) -> dict[str, int]:
        """Read units of a look at each partition of leases."""
        return {key: units(count * self._lease_bytes) for key, count in self._groups.items()}

    def read_workers(self, now: float) -> None:
        for key, cost in self.beat_units().items():
            self.meter.read("Query beats", key, cost, now)

    def read_leases(self, now: float) -> None:
        for key, cost in self.lease_units().items():
            self.meter.read("Query leases", key, cost, now)

    def peek(self, shard: int, now: float) -> None:
        self.meter.read("GetItem lease", keys.leases_partition(shard), 1, now)

    def take(self, seen: Lease, me: WorkerId, now: float) -> Lease | None:
        """The lease that was won, None where somebody was faster."""
        row = self.leases[seen.shard]
        self._wrote(seen.shard, now)
        if (row.stamp, row.epoch) != (seen.stamp, seen.epoch):
            return None
        self.moves += 1
        won = Lease(shard=seen.shard, epoch=seen.epoch + 1, stamp=self.stamp(), owner=me)
        self._set(won, now)
        return won

    def ask(self, seen: Lease, asker: WorkerId | None, now: float) -> bool:
        row = self.leases[seen.shard]
        self._wrote(seen.shard, now)
        if (row.owner, row.epoch, row.wanted_by) != (seen.owner, seen.epoch, seen.wanted_by):
            return False
        self._set(msgspec.structs.replace(row, wanted_by=asker), now)
        return True

    def resign(self, held: Lease, heir: WorkerId | None, now: float) -> bool:
        row = self.leases[held.shard]
        self._wrote(held.shard, now)
        if (row.owner, row.epoch) != (held.owner, held.epoch):
            return False
        given = msgspec.structs.replace(row, owner=None, stamp=self.stamp(), wanted_by=heir)
        self._set(given, now)
        return True

    def _wrote(self, shard: int, now: float) -> None:
        self.told += 1
        self.meter.write("UpdateItem lease", keys.leases_partition(shard), now)

    def _set(self, lease: Lease, now: float) -> None:
        shard = lease.shard
        before = self.leases[shard]
        self.by_owner[before.owner].discard(shard)
        self.by_owner[lease.owner].add(shard)
        self.leases[shard] = lease
        same = before.stamp == lease.stamp
        self.seen[shard] = Sighting(lease, self.seen[shard].since if same else now)
        (self.wanted.discard if lease.wanted_by is None else self.wanted.add)(shard)


def row_bytes_of_worker() -> int:
    """A gateway's row, by the request that writes it."""
    worker = Worker(worker=WorkerId("g" * NAME_LENGTH), stamp="0" * 8, moves=100)
    params = leases.vouch(worker).params(Places())
    return item_bytes(params["Item"])


def row_bytes_of_lease() -> int:
    """A lease's row while nobody asks for it."""
    owner = WorkerId("g" * NAME_LENGTH)
    lease = Lease(shard=1000, epoch=10, stamp="0" * 16, owner=owner)
    return item_bytes(to_item(lease, keys.lease(1000)))
