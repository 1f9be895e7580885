"""Which shards a gateway holds now: what a session's state is worth.

A session's row says what a gateway last saw. Where none is there, it may be otherwise meanwhile,
and whoever reads it must be told.
"""

import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from control_plane.aws import Runner
from shared.errors import ZapgateError
from shared.ids import WorkerId
from shared.store import keys, leases
from shared.store.dynamo import Range

log = logging.getLogger(__name__)

MEMORY: Final = 2.0
"""Seconds what was read is remembered: all sessions that are read meanwhile share the requests."""


class Attendance:
    """The held shards."""

    def __init__(self, aws: Runner, now: Callable[[], int]) -> None:
        self._aws = aws
        self._now = now
        self._owners: dict[int, WorkerId | None] = {}
        self._good_until: dict[WorkerId, int] = {}
        self._read_at: dict[str, float] = {}
        # Requests share a process outside Lambda: whoever comes while one reads waits for it,
        # because what was known before may be of an hour ago.
        self._turn = threading.Lock()

    def of(self, shard: int) -> bool:
        """Whether a gateway holds a shard; as it was last known, if the table does not answer."""
        partition = keys.leases_partition(shard)
        with self._turn:
            try:
                self._once(partition, partial(self._read_owners, partition))
                owner = self._owners.get(shard)
                if owner is not None:
                    self._once(owner, partial(self._read_worker, owner))
            except ZapgateError:
                log.warning("attendance.unknown")
            owner = self._owners.get(shard)
        return owner is not None and self._good_until.get(owner, 0) > self._now()

    def _once(self, what: str, read: Callable[[], None]) -> None:
        """Read something unless it was, or could not be, a moment ago."""
        now = time.monotonic()
        if now - self._read_at.get(what, -MEMORY) < MEMORY:
            return
        self._read_at[what] = now
        read()

    def _read_owners(self, partition: str) -> None:
        rows = Range(limit=keys.LEASES_TOGETHER)
        page = self._aws.run(leases.every(partition, rows))
        self._owners.update((lease.shard, lease.owner) for lease in page.rows)

    def _read_worker(self, worker_id: WorkerId) -> None:
        worker = self._aws.run(leases.worker(worker_id))
        self._good_until[worker_id] = 0 if worker is None else worker.good_until
