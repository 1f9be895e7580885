"""One session's entries on their way to the outbox, and its pairing to whoever shows it.

Both are tried until they succeed: an outage of AWS delays events and loses none. An entry that is
refused for its own sake is set aside after some tries, so that it does not stop those behind it.
"""

import asyncio
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice
from typing import Final

from gateway.backoff import pause
from gateway.changes import follow
from gateway.frames import Entry
from gateway.house import Publish, Record
from shared.errors import Contended, Unavailable
from shared.logs import fields
from shared.session import Pairing, Session

log = logging.getLogger(__name__)

BATCH: Final = 100
"""Entries handed to the outbox at a time."""
FIRST_PAUSE: Final = 0.2
REFUSALS: Final = 5
"""Tries of a batch that is refused although AWS is there, before its entries go one by one."""
LONGEST_PAUSE: Final = 15.0
"""Seconds between tries: an outage is noticed to be over soon, and not hammered on meanwhile."""

SetAside = Callable[[Session, Entry, Exception], Awaitable[None]]
"""Keep an entry that cannot be stored. Raises OSError."""


async def record_alone(record: Record, aside: SetAside, session: Session, entry: Entry) -> None:
    """Store one entry, or set it aside if it is refused.

    Raises Unavailable or Contended if AWS did not answer, OSError if it could not be set aside.
    """
    try:
        await record(session, [entry])
    except (Unavailable, Contended):
        raise
    except Exception as error:  # noqa: BLE001 (whatever is wrong with it stays with it)
        await aside(session, entry, error)


class Recorder:
    """Records entries in order, each once as long as this gateway holds the session."""

    def __init__(
        self,
        session: Session,
        record: Record,
        offer: Publish,
        aside: SetAside,
        recorded: Callable[[Sequence[Entry]], None],
    ) -> None:
        """`recorded` is called with every batch that was stored."""
        self.session = session
        """As the recorded entries tell it."""
        self.last = 0
        """The newest recorded entry's sequence."""
        self.queued = 0
        """The newest entry's that was taken."""
        self._record = record
        self._offer = offer
        self._aside = aside
        self._recorded = recorded
        self._waiting: deque[Entry] = deque()
        self._news = asyncio.Event()
        self._stored = asyncio.Event()
        self.idle = asyncio.Event()
        self.idle.set()
        self._pairing: Pairing | None = None
        self._behind = 0
        self._offered = asyncio.Event()

    @property
    def depth(self) -> int:
        """Entries taken and not recorded yet."""
        return len(self._waiting)

    def take(self, entries: Sequence[Entry]) -> None:
        """Record these when their turn comes; those that were taken before are left out."""
        for entry in entries:
            if entry.sequence > self.queued:
                self.queued = entry.sequence
                self._waiting.append(entry)
        if self._waiting:
            self.idle.clear()
            self._news.set()

    def show(self, pairing: Pairing) -> None:
        """Publish this pairing; an older one that was not published yet is of no use any more.

        It goes behind the entries taken before: the start of its attempt takes the last one away.
        """
        self._pairing = pairing
        self._behind = self.queued
        self._offered.set()

    async def record(self) -> None:
        """The loop that records."""
        failures = refusals = 0
        while True:
            await self._news.wait()
            self._news.clear()
            while self._waiting:
                batch = list(islice(self._waiting, BATCH))
                try:
                    if refusals < REFUSALS:
                        await self._record(self.session, batch)
                        self._done(batch)
                    else:
                        await self._one_by_one(batch)
                except Exception as error:  # noqa: BLE001 (one session's trouble must not end others)
                    failures += 1
                    refusals += not isinstance(error, Unavailable | Contended)
                    await self._pause("record.failed", failures, error)
                else:
                    failures = refusals = 0
            self.idle.set()

    async def _one_by_one(self, batch: Sequence[Entry]) -> None:
        for entry in batch:
            await record_alone(self._record, self._aside, self.session, entry)
            self._done([entry])

    async def publish(self) -> None:
        """The loop that publishes pairings."""
        failures = 0
        while True:
            await self._offered.wait()
            self._offered.clear()
            while self.last < self._behind:
                self._stored.clear()
                await self._stored.wait()
            if self._pairing is None:
                continue
            try:
                await self._offer(self.session, self._pairing)
            except Exception as error:  # noqa: BLE001 (likewise)
                failures += 1
                await self._pause("offer.failed", failures, error)
                self._offered.set()
            else:
                failures = 0

    def _done(self, batch: Sequence[Entry]) -> None:
        for entry in batch:
            self._waiting.popleft()
            self.last = entry.sequence
            self.session = follow(self.session, entry.event)
        self._stored.set()
        self._recorded(batch)

    async def _pause(self, fact: str, failures: int, error: Exception) -> None:
        log.warning(
            fact, extra=fields(session_id=self.session.id, failures=failures, why=repr(error))
        )
        jitter = random.random()  # noqa: S311 (jitter, not a secret)
        await asyncio.sleep(pause(failures, jitter, first=FIRST_PAUSE, longest=LONGEST_PAUSE))
