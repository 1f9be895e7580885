"""Which shards a gateway holds now: what a session's state is worth.

A session's row says what a gateway last saw. Where none is there, it may be otherwise meanwhile,
and whoever reads it must be told.
"""

import logging
import time
from collections.abc import Callable
from typing import Final

from control_plane.aws import Runner
from shared.errors import ZapgateError
from shared.store import leases
from shared.store.dynamo import Range
from shared.store.leases import Lease, Worker

log = logging.getLogger(__name__)

MEMORY: Final = 2.0
"""Seconds the leases are remembered: all sessions that are read meanwhile share the request."""
_PAGE: Final = 1_000


class Attendance:
    """The held shards."""

    def __init__(self, aws: Runner, now: Callable[[], int]) -> None:
        self._aws = aws
        self._now = now
        self._rows: tuple[Lease | Worker, ...] = ()
        self._read_at: float | None = None

    def of(self, shard: int) -> bool:
        """Whether a gateway holds a shard; as it was last known, if the table does not answer."""
        if self._read_at is None or time.monotonic() - self._read_at > MEMORY:
            try:
                self._rows = self._read()
            except ZapgateError:
                log.warning("attendance.unknown")
            self._read_at = time.monotonic()
        return shard in held(self._rows, self._now())

    def _read(self) -> tuple[Lease | Worker, ...]:
        rows: tuple[Lease | Worker, ...] = ()
        start = None
        while True:
            page = self._aws.run(leases.every(Range(limit=_PAGE, start=start)))
            rows += page.rows
            start = page.next
            if start is None:
                return rows


def held(rows: tuple[Lease | Worker, ...], now: int) -> frozenset[int]:
    """The shards whose owners have vouched for them, for longer than until now."""
    there = {row.worker for row in rows if isinstance(row, Worker) and row.good_until > now}
    return frozenset(row.shard for row in rows if isinstance(row, Lease) and row.owner in there)
