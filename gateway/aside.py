"""Events that the table refuses, put beside a session's journal so that those behind them go on.

What is refused again and again for its own sake, and not because AWS is away, would stop its
session for ever. It is put into the session's part of the device store (`aside.jsonl`, or the table
`aside`), where people find it; it is counted, and its tenant sees a gap in the sequence. When the
session is next held, and from time to time, it is tried again, under the ids it had: a defect that
was mended gives back what it withheld.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Final

import msgspec

from gateway.frames import Entry
from gateway.host.store import Store, StoreFailed
from gateway.threads import Threads
from shared.errors import Contended, Unavailable
from shared.ids import EventId, SessionId
from shared.logs import fields
from shared.session import Session

log = logging.getLogger(__name__)

ROUND: Final = 100
"""Entries of a session that are tried at a time."""
AGAIN: Final = 600.0
"""Seconds until what was refused once more is tried again."""

RecordLate = Callable[[Session, Entry], Awaitable[None]]
"""Store an entry out of its turn, once. Raises Unavailable, Contended, or what is wrong with it."""


class _Line(msgspec.Struct):
    at: int
    why: str
    entry: Entry


_decoder: Final = msgspec.json.Decoder(_Line)


@dataclass(slots=True)
class _Held:
    session: Session
    due_at: float
    """Monotonic seconds."""
    left: int = 0
    """Entries set aside, as far as is known."""


class Aside:
    """Where refused entries go, how many did, and how many came back."""

    def __init__(
        self, store: Callable[[Session], Store], now: Callable[[], int], threads: Threads
    ) -> None:
        self._store = store
        self._now = now
        self._threads = threads
        self._held: dict[SessionId, _Held] = {}
        self._turn = asyncio.Lock()
        self.count = 0
        self.recorded = 0

    @property
    def left(self) -> int:
        """Entries set aside of the sessions held here."""
        return sum(held.left for held in self._held.values())

    def heed(self, session: Session) -> None:
        """It is held here now: what was put aside of it is soon tried again."""
        self._held[session.id] = _Held(session, time.monotonic())

    def leave(self, session_id: SessionId) -> None:
        """It is held here no more."""
        self._held.pop(session_id, None)

    async def put(self, session: Session, entry: Entry, error: Exception) -> None:
        """Write the entry down; it is on the disk when this returns. Raises StoreFailed."""
        why = type(error).__name__
        line = msgspec.json.encode(_Line(self._now(), f"{why}: {error}", entry))
        async with self._turn:
            await self._threads.run(self._store(session).set_aside, line)
        self.count += 1
        held = self._held.get(session.id)
        if held is not None:
            held.left += 1
            held.due_at = time.monotonic() + AGAIN
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

    async def try_again(self, record: RecordLate) -> None:
        """Record what can be by now, of the sessions whose time has come; the rest stays."""
        now = time.monotonic()
        for held in [each for each in self._held.values() if each.due_at <= now]:
            held.due_at = now + AGAIN
            try:
                await self._try_again(held, self._store(held.session), record)
            except StoreFailed as error:
                log.warning(
                    "aside.unreadable", extra=fields(session_id=held.session.id, cause=str(error))
                )
            except (Unavailable, Contended):
                held.due_at = now  # nothing is wrong with it: at the next look
                raise

    async def _try_again(self, held: _Held, store: Store, record: RecordLate) -> None:
        lines = await self._threads.run(store.aside)
        held.left = len(lines)
        recorded: set[EventId] = set()
        tried: set[EventId] = set()
        try:
            for entry in [entry for line in lines if (entry := _entry(line))][:ROUND]:
                try:
                    await record(held.session, entry)
                except (Unavailable, Contended):
                    raise
                except Exception:  # noqa: BLE001 - it was refused before, and logged
                    tried.add(entry.event.id)
                else:
                    recorded.add(entry.event.id)
                    log.info(
                        "event.brought_back",
                        extra=fields(session_id=held.session.id, event_id=entry.event.id),
                    )
        finally:
            self.recorded += len(recorded)
            if recorded or len(lines) > ROUND:
                async with self._turn:
                    held.left = await self._threads.run(_leave, store, recorded, tried)


def _entry(line: bytes) -> Entry | None:
    """None for one cut off by the end of a machine, or of another version."""
    try:
        return _decoder.decode(line).entry
    except msgspec.DecodeError:
        return None


def _leave(store: Store, recorded: Collection[EventId], tried: Collection[EventId]) -> int:
    """Take out what is recorded, put last what was tried in vain; how many are left."""
    kept: list[bytes] = []
    last: list[bytes] = []
    for line in store.aside():
        entry = _entry(line)
        if entry is None or entry.event.id not in recorded:
            vain = entry is not None and entry.event.id in tried
            (last if vain else kept).append(line)
    store.leave_aside(kept + last)
    return len(kept) + len(last)
