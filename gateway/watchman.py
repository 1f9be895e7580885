"""The watchman: looks at what must move, repairs what stands still, and says so.

The parts are the reading of each held shard, the commands in hand of each, and the outbox; what to
do about each is judged by `gateway.vigil`. A session and its host are watched by their keeper, the
loops by `/healthz`. It also measures how late the event loop is, on which everything here depends.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import Final, Protocol

from gateway.aws import Aws
from gateway.inbox import Inbox
from gateway.loops import Loop
from gateway.outbox import Outbox
from gateway.shard import ShardInbox
from gateway.vigil import Patience, Sight, Verdict, Vigil, begun, heeded, look
from shared.ids import SessionId
from shared.logs import fields

log = logging.getLogger(__name__)

LOOK: Final = 5.0
"""Seconds between two looks."""
READING: Final = Patience(late=60, still=60, lost=120)
"""A poll is over within twenty seconds, and a hung one is cut off after forty."""
WORKING: Final = Patience(late=float("inf"), still=90, lost=180)
"""A send may take 90 seconds until its host is ended. Which session waits, its tenant sees."""
STORING: Final = Patience(late=60, still=30)
"""A transaction takes milliseconds, and a hung one is cut off after thirty seconds."""
PASSED_ON: Final = 3600.0
"""Seconds in which a shard is passed on once: each move ends its sessions' sockets for a moment,
and what nobody can read must not go round."""
LAG_SPAN: Final = 0.5
LAG: Final = 2.0
"""Seconds by which the event loop may be late without a word: a lease time has room for it."""
LAG_MEMORY: Final = 60.0
"""Seconds for which the longest lag is told."""


class Leases(Protocol):
    """What we need of the leaseholder."""

    def gateways(self) -> int:
        """How many gateways share the shards."""
        ...

    def pass_on(self, shard: int) -> bool:
        """Begin to hand a shard to another; whether there is one."""
        ...


class Watchman:
    """Keeps watch over one gateway's shards and outbox."""

    def __init__(
        self,
        *,
        aws: Aws,
        inbox: Inbox,
        outbox: Outbox,
        leaseholder: Leases,
        moving: Callable[[], Collection[SessionId]],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`moving` are the sessions that could send now."""
        self._aws = aws
        self._inbox = inbox
        self._outbox = outbox
        self._leaseholder = leaseholder
        self._moving = moving
        self._monotonic = monotonic
        self._readers: dict[int, Vigil] = {}
        self._workers: dict[int, Vigil] = {}
        self._store: Vigil | None = None
        self._verdicts: dict[str, dict[int, Verdict]] = {}
        self._words: dict[str, str] = {}
        self._passed_on: dict[int, float] = {}
        self._lag = 0.0
        self._lag_at = 0.0
        self.steps: Counter[tuple[str, Verdict]] = Counter()
        """Repairs and shards passed on, by what stood still."""
        self._looks = Loop("watchman", self.look, pause=LOOK)
        self._clock = Loop("event_loop", self._measure, pause=0)

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for loop in self.loops():
                tasks.create_task(loop.run(), name=loop.name)

    def loops(self) -> list[Loop]:
        """The watchman's own: nobody else watches it."""
        return [self._looks, self._clock]

    def matter(self) -> dict[str, str]:
        """What stands still or is late, by part, in words."""
        words = dict(self._words)
        if self.lag > LAG:
            words["event_loop"] = f"it was late by {self.lag:.1f} s within the last minute"
        return words

    @property
    def lag(self) -> float:
        """Seconds by which the event loop was late at the most, lately."""
        return self._lag if self._monotonic() - self._lag_at < LAG_MEMORY else 0.0

    def count(self, part: str) -> int:
        """How many of a part's kind (`reading`, `working`, `storing`) stand still or are late."""
        verdicts = self._verdicts.get(part, {})
        return sum(verdict is not Verdict.FINE for verdict in verdicts.values())

    async def look(self) -> None:
        """One look at everything, and what it takes."""
        shards = {inbox.shard: inbox for inbox in self._inbox.served()}
        moving = self._moving()
        await self._look_at_readers(shards)
        await self._look_at_workers(shards, moving)
        await self._look_at_outbox()

    async def _look_at_readers(self, shards: Mapping[int, ShardInbox]) -> None:
        sights = {shard: inbox.reading() for shard, inbox in shards.items()}
        verdicts = self._judged("reading", self._readers, sights, READING)
        if Verdict.REPAIR in verdicts.values():
            await self._aws.renew("poll")
        for shard, verdict in verdicts.items():
            if verdict is Verdict.REPAIR:
                shards[shard].read_anew()

    async def _look_at_workers(
        self, shards: Mapping[int, ShardInbox], moving: Collection[SessionId]
    ) -> None:
        sights = {shard: inbox.working(moving) for shard, inbox in shards.items()}
        verdicts = self._judged("working", self._workers, sights, WORKING)
        for shard, verdict in verdicts.items():
            if verdict is Verdict.REPAIR:
                await shards[shard].begin_anew()

    async def _look_at_outbox(self) -> None:
        vigils = {} if self._store is None else {0: self._store}
        verdicts = self._judged("storing", vigils, {0: self._outbox.draining()}, STORING)
        self._store = vigils[0]
        if verdicts[0] is Verdict.REPAIR:
            await self._aws.renew("dynamodb")
            self._outbox.store_anew()

    def _judged(
        self, part: str, vigils: dict[int, Vigil], sights: Mapping[int, Sight], patience: Patience
    ) -> dict[int, Verdict]:
        """The verdicts on parts of a kind; what is to be passed on is."""
        now = self._monotonic()
        verdicts: dict[int, Verdict] = {}
        for gone in vigils.keys() - sights.keys():
            del vigils[gone]
        for key, sight in sights.items():
            before = vigils.get(key) or begun(sight, now)
            vigils[key], verdicts[key] = look(before, sight, now, patience)
        spared = {key for key, at in self._passed_on.items() if now - at < PASSED_ON}
        verdicts = heeded(verdicts, others=self._leaseholder.gateways() > 1, spared=spared)
        self._tell(part, verdicts, vigils, sights)
        for shard, verdict in verdicts.items():
            if verdict is Verdict.PASS_ON and self._leaseholder.pass_on(shard):
                self._passed_on[shard] = now
        return verdicts

    def _tell(
        self,
        part: str,
        verdicts: dict[int, Verdict],
        vigils: Mapping[int, Vigil],
        sights: Mapping[int, Sight],
    ) -> None:
        now = self._monotonic()
        before = self._verdicts.get(part, {})
        words: list[str] = []
        for key, verdict in sorted(verdicts.items()):
            still = round(now - vigils[key].moved_at)
            known = fields(part=part, shard=key, still=still, waits=round(sights[key].waits, 1))
            if verdict in {Verdict.REPAIR, Verdict.PASS_ON}:
                self.steps[part, verdict] += 1
                log.error("watch.stepped_in", extra={**known, **fields(step=verdict.value)})
            elif verdict is Verdict.LATE and before.get(key) is not Verdict.LATE:
                log.warning("watch.late", extra=known)
            elif verdict is Verdict.FINE and before.get(key, verdict) is not Verdict.FINE:
                log.warning("watch.well_again", extra=known)
            if verdict is not Verdict.FINE:
                words.append(self._in_words(part, key, verdict, still, sights[key]))
        self._verdicts[part] = verdicts
        self._words.pop(part, None)
        if words:
            self._words[part] = "; ".join(words)

    def _in_words(self, part: str, key: int, verdict: Verdict, still: int, sight: Sight) -> str:
        waits = round(sight.waits)
        late = verdict is Verdict.LATE
        match part:
            case "reading" if late:
                return f"the commands of shard {key} wait {waits} s until they are read"
            case "reading":
                return f"the queue of shard {key} was not read for {still} s"
            case "working":
                return f"the commands in hand of shard {key} stand still for {still} s"
            case _ if late:
                return f"events of {self._outbox.owed} sessions wait, the oldest for {waits} s"
            case _:
                return (
                    f"nothing was stored for {still} s; events of {self._outbox.owed} sessions "
                    "wait in their journals"
                )

    async def _measure(self) -> None:
        before = self._monotonic()
        await asyncio.sleep(LAG_SPAN)
        lag = self._monotonic() - before - LAG_SPAN
        if lag > self.lag:
            self._lag, self._lag_at = lag, self._monotonic()
        if lag > LAG:
            log.error("event_loop.late", extra=fields(seconds=round(lag, 2)))
