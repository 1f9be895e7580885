"""Holds this gateway's shards: the loop that carries out the plan of `gateway.leases`.

Two things run: the table is read and written at a third of the lease time, and a watch that needs
no answer from anybody drops a lease at its local deadline. Losing a lease closes its sockets first;
the shard can be taken again only when they are closed.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from gateway.aws import Aws
from gateway.leases import (
    HOST_SHARE,
    RENEWALS,
    SAFE_SHARE,
    Hold,
    Plan,
    Sighting,
    deadline,
    overdue,
    plan,
    saw,
)
from gateway.loops import Loop
from shared.aws import Op
from shared.errors import Contended, Unavailable
from shared.ids import WorkerId
from shared.logs import fields
from shared.store import leases
from shared.store.dynamo import Range
from shared.store.leases import Lease

log = logging.getLogger(__name__)

T = TypeVar("T")

PATIENCE: Final = 1 / 6
"""Of the lease time: how long a request may take. With renewals at a third of it and a quick second
try, a lease outlives one request that was lost."""
WATCH_SECONDS: Final = 0.1
"""How late a passed deadline may be noticed: small beside the fifth of a lease kept in reserve."""


class Leaseholder:
    """Wins, renews, loses and resigns shards."""

    def __init__(
        self,
        *,
        aws: Aws,
        me: WorkerId,
        shards: int,
        lease_seconds: float,
        won: Callable[[int], None],
        lost: Callable[[int], Awaitable[None]],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`won` begins to serve a shard; `lost` returns once nothing of it is served any more."""
        self._aws = aws
        self._me = me
        self._shards = shards
        self._lease_seconds = lease_seconds
        self._won = won
        self._lost = lost
        self._monotonic = monotonic
        self._sightings: dict[int, Sighting] = {}
        self._holds: dict[int, Hold] = {}
        self._closing: set[int] = set()
        self._winning = False
        self._turn = asyncio.Lock()
        self._read_at: float | None = None
        self._tasks = asyncio.TaskGroup()
        pause = lease_seconds / RENEWALS
        self.loop = Loop("leases", self.step, pause=pause, longest_backoff=pause)
        self.watch = Loop("lease_watch", self._watch, pause=min(WATCH_SECONDS, pause / 3))

    async def run(self) -> None:
        """Until cancelled; then what was lost before is still closed."""
        async with self._tasks as tasks:
            tasks.create_task(self.loop.run(), name="leases")
            tasks.create_task(self.watch.run(), name="lease_watch")

    def epoch(self, shard: int) -> int | None:
        """The fencing token of a shard we may act for now, None for any other."""
        hold = self._holds.get(shard)
        return hold.lease.epoch if hold is not None and hold.good(self._monotonic()) else None

    def hosts_until(self, shard: int) -> float | None:
        """Until when (monotonic seconds) hosts of a shard may live; None if we do not hold it."""
        hold = self._holds.get(shard)
        if hold is None or not hold.good(self._monotonic()):
            return None
        return hold.until + (HOST_SHARE - SAFE_SHARE) * self._lease_seconds

    def held(self) -> dict[int, int]:
        """Shards we may act for, with their epochs."""
        now = self._monotonic()
        return {n: hold.lease.epoch for n, hold in self._holds.items() if hold.good(now)}

    def matter(self) -> str | None:
        """What is the matter with the leases, in words: nothing if all are held by somebody."""
        if self._read_at is None or self._monotonic() - self._read_at > self._lease_seconds:
            return "the table of leases could not be read for one lease time"
        orphans = [
            shard
            for shard in range(self._shards)
            if shard not in self._holds
            and ((seen := self._sightings.get(shard)) is None or seen.lease.owner is None)
        ]
        return f"nobody holds the shards {orphans}" if orphans else None

    def fenced(self, shard: int, epoch: int) -> None:
        """A write under this epoch was refused: the shard is another's."""
        hold = self._holds.get(shard)
        if hold is not None and hold.lease.epoch == epoch:
            self._lose(shard, "fenced")

    async def start_winning(self) -> None:
        """Take what is free, now and from now on."""
        self._winning = True
        try:
            await self.step()
        except Unavailable:
            log.warning("leases.unanswered")

    def stop_winning(self) -> None:
        """Take no further shard; what is held is still renewed."""
        self._winning = False

    async def resign(self) -> None:
        """Give every lease back, after its sessions were stopped."""
        holds, self._holds = self._holds, {}
        answers = await asyncio.gather(
            *(self._asked(leases.resign(hold.lease, _stamp())) for hold in holds.values())
        )
        failed = answers.count(None)
        log.info("leases.resigned", extra=fields(shards=len(holds), failed=failed))

    async def step(self) -> None:
        """One round: renew, read, take."""
        async with self._turn:
            renewals = asyncio.gather(*(self._renew(hold) for hold in self._holds.values()))
            everything = await self._asked(leases.every(Range(limit=1_000)))
            answered = await renewals
            if everything is not None:
                now = self._read_at = self._monotonic()
                self._sightings = saw(self._sightings, everything.rows, now)
                if self._winning:
                    await self._act(self._plan(now))
            if everything is None or not all(answered):
                # The loop tries again soon: a lease time has no room for waiting two turns.
                raise Unavailable("dynamodb", "leases", "unanswered")

    def _plan(self, now: float) -> Plan:
        return plan(
            me=self._me,
            shards=self._shards,
            sightings=self._sightings,
            holds=self._holds,
            closing=frozenset(self._closing),
            now=now,
            lease_seconds=self._lease_seconds,
        )

    async def _act(self, todo: Plan) -> None:
        async with asyncio.TaskGroup() as tasks:
            for shard in todo.create:
                tasks.create_task(self._take(Lease(shard=shard, epoch=0, stamp="")))
            for seen in todo.take:
                tasks.create_task(self._take(seen))

    async def _take(self, seen: Lease) -> None:
        stamp, before = _stamp(), self._monotonic()
        never_held = seen.epoch == 0
        op = (
            leases.create(seen.shard, self._me, stamp)
            if never_held
            else leases.take(seen, self._me, stamp)
        )
        if not await self._asked(op):
            return
        hold = Hold(
            Lease(shard=seen.shard, epoch=seen.epoch + 1, stamp=stamp, owner=self._me),
            deadline(before, self._lease_seconds),
        )
        if not (self._winning and hold.good(self._monotonic())):
            return
        self._holds[seen.shard] = hold
        log.info("lease.won", extra=fields(shard=seen.shard, epoch=hold.lease.epoch))
        self._won(seen.shard)

    async def _renew(self, hold: Hold) -> bool:
        """Whether there was an answer."""
        shard, before = hold.lease.shard, self._monotonic()
        kept = await self._asked(leases.renew(hold.lease, _stamp()))
        if self._holds.get(shard) is hold:
            if kept:
                self._holds[shard] = Hold(hold.lease, deadline(before, self._lease_seconds))
            elif kept is False:
                self._lose(shard, "taken")
        return kept is not None

    async def _asked(self, op: Op[T]) -> T | None:
        """The answer, None where there was none in time for another try."""
        try:
            async with asyncio.timeout(self._lease_seconds * PATIENCE):
                return await self._aws.run(op)
        except (TimeoutError, Unavailable, Contended):
            return None

    async def _watch(self) -> None:
        for shard in overdue(self._holds, self._monotonic()):
            self._lose(shard, "overdue")

    def _lose(self, shard: int, cause: str) -> None:
        hold = self._holds.pop(shard)
        self._closing.add(shard)
        log.warning("lease.lost", extra=fields(shard=shard, epoch=hold.lease.epoch, cause=cause))
        self._tasks.create_task(self._close(shard), name=f"close shard {shard}")

    async def _close(self, shard: int) -> None:
        try:
            await self._lost(shard)
        finally:
            self._closing.discard(shard)


def _stamp() -> str:
    return secrets.token_hex(8)
