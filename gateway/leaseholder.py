"""Holds this gateway's shards: the loop that carries out the plan of `gateway.leases`.

Two things run: several times a lease time all leases are vouched for in one write and it is read
who is there, and a watch that needs no answer from anybody drops a lease at its local deadline. Who
holds what is read where the others tell of a change, or one is to be expected. Losing a lease
closes its sockets first; the shard can be taken again only when they are closed. Handing one over
is done in order, under the lease, which is given to its heir afterwards.
"""

import asyncio
import logging
import secrets
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Final, TypeVar

import msgspec

from gateway.aws import Aws
from gateway.leases import (
    HOST_SHARE,
    REREAD_SHARE,
    SAFE_SHARE,
    TURNS,
    Hold,
    Plan,
    Sighting,
    Standing,
    View,
    bequests,
    deadline,
    overdue,
    plan,
    renewed,
    saw_leases,
    saw_workers,
    spread,
)
from gateway.loops import Loop
from shared import clock
from shared.aws import Op
from shared.errors import Contended, Unavailable
from shared.ids import WorkerId
from shared.logs import fields
from shared.store import keys, leases
from shared.store.dynamo import Page, Range
from shared.store.leases import Lease, Worker

log = logging.getLogger(__name__)

T = TypeVar("T")

PATIENCE: Final = 1 / 6
"""Of the lease time: how long a request may take. With renewals at a quarter of it and a quick
second try, a lease outlives one request that was lost."""
WATCH_SECONDS: Final = 0.1
"""How late a passed deadline may be noticed: small beside the fifth of a lease kept in reserve."""
QUICK_SHARE: Final = 0.05
"""Of the lease time: between two looks at a shard that is on its way to us."""
FRESH_SHARE: Final = 0.8
"""Of a turn: a renewal that is younger is not repeated because the table is looked at again."""
HAND_OVER_SECONDS: Final = 30.0
"""Longer than commands in hand and hosts that stop are waited for; then a shard is closed at once,
and given up even if that hangs too."""
PAGE: Final = 1_000
SHORTEST_PAUSE: Final = 0.01
"""Seconds."""


class Leaseholder:
    """Wins, renews, hands over, loses and resigns shards."""

    def __init__(
        self,
        *,
        aws: Aws,
        me: WorkerId,
        shards: int,
        lease_seconds: float,
        won: Callable[[int], None],
        left: Callable[[int], Coroutine[object, object, None]],
        lost: Callable[[int], Coroutine[object, object, None]],
        patience: float = 0,
        inherits: Callable[[WorkerId], None] = lambda _: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`won` begins to serve a shard. `left` ends that in order, `lost` at once.

        Both return when nothing of the shard is served any more; `lost` may cut `left` short.
        `patience` is how many seconds after a gateway came or went shares may stay uneven.
        `inherits` is told of a gateway whose lease had lapsed when it was taken.
        """
        self._aws = aws
        self._me = me
        self._shards = shards
        self._lease_seconds = lease_seconds
        self._won = won
        self._left = left
        self._lost = lost
        self._inherits = inherits
        self._patience = patience
        self._monotonic = monotonic
        self._view = View()
        self._holds: dict[int, Hold] = {}
        self._handing: dict[int, asyncio.Task[None]] = {}
        self._closing: set[int] = set()
        self._winning = False
        self._leaving = False
        self._gone = False
        self._turn = asyncio.Lock()
        self._read_at: float | None = None
        self._leases_at = float("-inf")
        self._leases_moves = -1
        self._news: Mapping[WorkerId, tuple[bool, int]] = {}
        self._moves = 0
        """Leases we have written, or tried to."""
        self._said: Worker | None = None
        self._vouched_at = float("-inf")
        self._unheld_at = float("-inf")
        self._look = asyncio.Event()
        self._tasks = asyncio.TaskGroup()
        self.moves: Counter[str] = Counter()
        """Shards by what became of them here: won, handed_over, lost."""
        self._pause = lease_seconds / TURNS
        self.loop = Loop("leases", self._round, pause=0, longest_backoff=self._pause)
        pause = min(WATCH_SECONDS, self._pause / 3)
        self.watch = Loop("lease_watch", self._watch, pause=pause)

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

    def gateways(self) -> int:
        """How many gateways there are to share the shards, this one among them."""
        return len(self._standing().live)

    def matter(self) -> str | None:
        """What is the matter with the leases, in words: nothing if all are held by somebody."""
        if self._read_at is None or self._monotonic() - self._read_at > self._lease_seconds:
            return "the table of leases could not be read for one lease time"
        if not (self._winning or self._leaving):
            return "no shard is taken yet"
        unheld = self.unheld()
        return f"nobody holds the shards {unheld}" if unheld else None

    def unheld(self) -> list[int]:
        """Shards that nobody took in the time there was for it."""
        at = self._standing()
        return [
            shard
            for shard, seen in at.free.items()
            if shard not in self._holds and (seen.lease.epoch == 0 or at.left_alone(seen))
        ]

    def fenced(self, shard: int, epoch: int) -> None:
        """A write under this epoch was refused: the shard is another's."""
        hold = self._holds.get(shard)
        if hold is not None and hold.lease.epoch == epoch:
            self._lose(shard, "fenced")

    def pass_on(self, shard: int) -> bool:
        """Begin to hand a shard to the gateway that has fewest; whether there is one to take it."""
        hold = self._holds.get(shard)
        have = self._standing().counts(self._handing)
        have.pop(self._me, None)
        heir = spread([shard], have).get(shard)
        if hold is None or heir is None or shard in self._handing:
            return False
        self._handing[shard] = self._tasks.create_task(
            self._hand_over(hold, heir), name=f"pass on shard {shard}"
        )
        return True

    async def start_winning(self) -> None:
        """Take what is free, now and from now on."""
        self._winning = True
        try:
            await self.step()
        except Unavailable:
            log.warning("leases.unanswered")

    def stop_winning(self) -> None:
        """Take no further shard, and say so; what is held is still renewed."""
        self._winning = False
        self._leaving = True
        self._look.set()

    async def resign(self) -> None:
        """Give every lease back, after its sessions were stopped: to each gateway its share."""
        async with self._turn:
            self._gone = True
            holds, self._holds = self._holds, {}
            heirs = bequests(self._standing(), holds)
            answers = await asyncio.gather(
                *(
                    self._wrote(leases.resign(hold.lease, _stamp(), heirs.get(shard)))
                    for shard, hold in holds.items()
                )
            )
            if self._said is not None:
                await self._asked(leases.bury(self._said))
        failed = answers.count(None)
        log.info("leases.resigned", extra=fields(shards=len(holds), failed=failed))

    async def step(self) -> Standing:
        """One turn: renew, read, act; what was acted on."""
        async with self._turn:
            return await self._step()

    async def _round(self) -> None:
        self._look.clear()
        at = await self.step()
        due = at.next_turn() if self._winning else at.now + self._pause
        due = max(due, self._monotonic() + SHORTEST_PAUSE)
        while (left := due - self._monotonic()) > 0:
            expected = self._expected()
            if expected:
                left = min(left, QUICK_SHARE * self._lease_seconds)
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._look.wait()
                return
            await self._fetch(expected)

    def _expected(self) -> tuple[int, ...]:
        """Shards on their way to us, whose leases are looked at one by one till they come."""
        if not self._winning:
            return ()
        return tuple(
            shard
            for shard in self._standing().expected()
            if shard not in self._holds and shard not in self._closing
        )

    async def _fetch(self, expected: tuple[int, ...]) -> None:
        """Take those of the shards that were given back for us."""
        async with self._turn:
            rows = await asyncio.gather(*(self._asked(leases.read(shard)) for shard in expected))
            there = [
                lease
                for lease in rows
                if lease is not None and lease.owner is None and lease.wanted_by == self._me
            ]
            if self._winning:
                await asyncio.gather(*(self._take(lease) for lease in there))

    async def _step(self) -> Standing:
        before = self._standing()
        if self._gone:
            return before
        vouched, workers = await asyncio.gather(self._vouch(), self._read_workers())
        read = False
        at = before
        if workers is not None:
            self._view = saw_workers(self._view, workers, self._monotonic())
            read = await self._read_leases(replace(before, view=self._view))
        if read:
            self._read_at = self._monotonic()
            at = replace(before, view=self._view)
            todo = plan(at, self._holds, self._handing, self._closing)
            for shard in todo.lost:
                self._lose(shard, "taken")
            if self._winning:
                await self._act(todo)
                self._tell()
            elif self._leaving:
                await self._bequeath(at)
        if not (read and vouched):
            # The loop tries again soon: a lease time has no room for waiting two turns.
            raise Unavailable("dynamodb", "leases", "unanswered")
        return at

    async def _vouch(self) -> bool:
        """Renew what is held; whether there was an answer, or need of one."""
        before = self._monotonic()
        said = self._said
        same = said is not None and (said.leaving, said.moves) == (self._leaving, self._moves)
        if same and before - self._vouched_at < FRESH_SHARE * self._pause:
            return True
        worker = Worker(
            worker=self._me,
            stamp=_beat(),
            leaving=self._leaving,
            moves=self._moves,
            good_until=clock.millis() + round(self._lease_seconds * clock.SECOND),
        )
        if not await self._asked(leases.vouch(worker)):
            return False
        self._said, self._vouched_at = worker, before
        self._holds = renewed(self._holds, before, self._monotonic(), self._lease_seconds)
        return True

    async def _read_workers(self) -> list[Worker] | None:
        return await self._read(leases.workers, keys.beats_partitions())

    async def _read_leases(self, at: Standing) -> bool:
        """Read the leases if they may not be as we know them; whether we know them now."""
        news, moves, began = at.news(), self._moves, self._monotonic()
        known = news == self._news and moves == self._leases_moves
        fresh = began - self._leases_at < REREAD_SHARE * self._lease_seconds
        if known and fresh and not at.restless():
            return True
        rows = await self._read(leases.every, keys.leases_partitions(self._shards))
        if rows is None:
            return False
        self._view = saw_leases(self._view, self._shards, rows, self._monotonic())
        self._news, self._leases_moves, self._leases_at = news, moves, began
        return True

    async def _read(
        self, rows: Callable[[str, Range], Op[Page[T]]], partitions: tuple[str, ...]
    ) -> list[T] | None:
        """All rows of these partitions, None unless all could be read."""
        parts = await asyncio.gather(*(self._read_one(rows, each) for each in partitions))
        found = [part for part in parts if part is not None]
        return [row for part in found for row in part] if len(found) == len(parts) else None

    async def _read_one(
        self, rows: Callable[[str, Range], Op[Page[T]]], partition: str
    ) -> list[T] | None:
        found: list[T] = []
        start = None
        while True:
            page = await self._asked(rows(partition, Range(limit=PAGE, start=start)))
            if page is None:
                return None
            found += page.rows
            start = page.next
            if start is None:
                return found

    def _standing(self) -> Standing:
        now = self._monotonic()
        return Standing(self._me, self._view, now, self._lease_seconds, self._patience)

    def _tell(self) -> None:
        """Log what nobody holds, once a lease time: an alarm counts it."""
        unheld, now = self.unheld(), self._monotonic()
        if unheld and now - self._unheld_at >= self._lease_seconds:
            self._unheld_at = now
            log.warning("shards.unheld", extra=fields(count=len(unheld), shards=unheld[:10]))

    async def _act(self, todo: Plan) -> None:
        for lease in todo.hand_over:
            self._handing[lease.shard] = self._tasks.create_task(
                self._hand_over(self._holds[lease.shard], lease.wanted_by),
                name=f"hand over shard {lease.shard}",
            )
        work: list[Coroutine[object, object, object]] = [self._take(seen) for seen in todo.take]
        work += (self._ask(lease, self._me) for lease in todo.ask)
        work += (self._ask(lease, None) for lease in todo.withdraw)
        work += (self._asked(leases.bury(worker)) for worker in todo.bury)
        await asyncio.gather(*work)

    async def _bequeath(self, at: Standing) -> None:
        """Tell each shard's heir in time, so that it looks out for it."""
        told = {shard: at.view.leases[shard].lease for shard in self._holds}
        heirs = bequests(at, self._holds)
        await asyncio.gather(
            *(
                self._ask(told[shard], heir)
                for shard, heir in heirs.items()
                if told[shard].wanted_by != heir and shard not in self._handing
            )
        )

    async def _ask(self, lease: Lease, asker: WorkerId | None) -> None:
        if await self._wrote(leases.ask(lease, asker)):
            seen = self._view.leases[lease.shard]
            wanted = Sighting(msgspec.structs.replace(lease, wanted_by=asker), seen.since)
            known = {**self._view.leases, lease.shard: wanted}
            self._view = replace(self._view, leases=known)

    async def _take(self, seen: Lease) -> None:
        shard, stamp, before = seen.shard, _stamp(), self._monotonic()
        op = (
            leases.take(seen, self._me, stamp)
            if seen.epoch
            else leases.create(shard, self._me, stamp)
        )
        if not await self._wrote(op):
            return
        hold = Hold(
            Lease(shard=shard, epoch=seen.epoch + 1, stamp=stamp, owner=self._me),
            deadline(before, self._lease_seconds),
        )
        if not self._winning:
            await self._wrote(leases.resign(hold.lease, _stamp()))
        elif hold.good(self._monotonic()):
            self._holds[shard] = hold
            self.moves["won"] += 1
            log.info("lease.won", extra=fields(shard=shard, epoch=hold.lease.epoch))
            self._won(shard)
            if seen.owner is not None and seen.owner != self._me:
                self._inherits(seen.owner)

    async def _hand_over(self, given: Hold, heir: WorkerId | None) -> None:
        shard, epoch = given.lease.shard, given.lease.epoch
        try:
            async with asyncio.timeout(HAND_OVER_SECONDS):
                await self._left(shard)
        except TimeoutError:
            del self._handing[shard]
            self._lose(shard, "not_left")
            return
        hold = self._holds.pop(shard, None)
        if hold is None:
            return  # lost meanwhile: that is seen to
        self._closing.add(shard)
        del self._handing[shard]
        await self._wrote(leases.resign(hold.lease, _stamp(), heir))
        self._closing.discard(shard)
        self.moves["handed_over"] += 1
        log.info("lease.handed_over", extra=fields(shard=shard, epoch=epoch, heir=heir))

    async def _wrote(self, op: Op[bool]) -> bool | None:
        """The answer to a write of a lease, of which the others are told."""
        self._moves += 1
        answer = await self._asked(op)
        # Once more, for a reader who asked between our first word and the write.
        self._moves += 1
        return answer

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
        handing = self._handing.pop(shard, None)
        self._closing.add(shard)
        self.moves["lost"] += 1
        log.warning("lease.lost", extra=fields(shard=shard, epoch=hold.lease.epoch, cause=cause))
        self._tasks.create_task(self._close(hold, handing), name=f"close shard {shard}")

    async def _close(self, hold: Hold, handing: "asyncio.Task[None] | None") -> None:
        shard = hold.lease.shard
        try:
            if handing is not None:
                handing.cancel()
                await asyncio.wait([handing])
            closing = self._tasks.create_task(self._lost(shard))
            hosts_end = hold.until + (1 - SAFE_SHARE) * self._lease_seconds
            limit = max(0.0, hosts_end - self._monotonic())
            _, hangs = await asyncio.wait([closing], timeout=limit)
            if hangs:
                # Its hosts have ended by themselves; but what we vouch for, nobody else may take.
                log.error("lease.close_hangs", extra=fields(shard=shard))
                await self._give_up(hold)
                await asyncio.wait([closing])
        finally:
            self._closing.discard(shard)
            self._look.set()

    async def _give_up(self, hold: Hold) -> None:
        answer = None
        while answer is None:
            answer = await self._wrote(leases.resign(hold.lease, _stamp()))
            if answer is None:
                await asyncio.sleep(self._pause)


def _stamp() -> str:
    return secrets.token_hex(8)


def _beat() -> str:
    """Only to differ from the last one, and short: all gateways read it all the time."""
    return secrets.token_hex(4)
