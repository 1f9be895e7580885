"""Events that the table refuses, put beside a session's journal so that those behind them go on.

What is refused again and again for its own sake, and not because AWS is away, would stop its
session for ever. It is put into the session's part of the device store (`aside.jsonl`, or the table
`aside`), where people find it; it is counted, and its tenant sees a gap in the sequence.
"""

import asyncio
import logging
from collections.abc import Callable

import msgspec

from gateway.frames import Entry
from gateway.host.store import Store
from shared.logs import fields
from shared.session import Session

log = logging.getLogger(__name__)


class _Line(msgspec.Struct):
    at: int
    why: str
    entry: Entry


class Aside:
    """Where refused entries go, and how many did."""

    def __init__(self, store: Callable[[Session], Store], now: Callable[[], int]) -> None:
        self._store = store
        self._now = now
        self.count = 0

    async def put(self, session: Session, entry: Entry, error: Exception) -> None:
        """Write the entry down; it is on the disk when this returns. Raises StoreFailed."""
        why = type(error).__name__
        line = msgspec.json.encode(_Line(self._now(), f"{why}: {error}", entry))
        await asyncio.to_thread(self._store(session).set_aside, line)
        self.count += 1
        log.error(
            "event.set_aside",
            extra=fields(
                session_id=session.id,
                event_id=entry.event.id,
                sequence=entry.sequence,
                type=type(entry.event).__name__,
                why=why,
            ),
        )
