"""Events that the table refuses, put beside a session's journal so that those behind them go on.

What is refused again and again for its own sake, and not because AWS is away, would stop its
session for ever. It is written to a file in the session's folder; it is counted, and its tenant
sees a gap in the sequence. When the session is next held, and from time to time, it is tried again,
under the ids it had: a defect that was mended gives back what it withheld.
"""

import asyncio
import errno
import logging
import os
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from gateway.frames import Entry
from shared.errors import Contended, Unavailable
from shared.ids import EventId, SessionId
from shared.logs import fields
from shared.session import Session

log = logging.getLogger(__name__)

FILE: Final = "aside.jsonl"
LARGEST: Final = 64 * 1024 * 1024
"""Bytes of a session's file: then its journal keeps what is refused, and whatever follows that."""
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
    """Entries in its file, as far as is known."""


class Aside:
    """Where refused entries go, how many did, and how many came back."""

    def __init__(self, folder: Callable[[Session], Path], now: Callable[[], int]) -> None:
        self._folder = folder
        self._now = now
        self._held: dict[SessionId, _Held] = {}
        self._turn = asyncio.Lock()
        self.count = 0
        self.recorded = 0

    @property
    def left(self) -> int:
        """Entries that wait in the files of the sessions held here."""
        return sum(held.left for held in self._held.values())

    def heed(self, session: Session) -> None:
        """It is held here now: what was put aside of it is soon tried again."""
        self._held[session.id] = _Held(session, time.monotonic())

    def leave(self, session_id: SessionId) -> None:
        """It is held here no more."""
        self._held.pop(session_id, None)

    async def put(self, session: Session, entry: Entry, error: Exception) -> None:
        """Write the entry down; it is on the disk when this returns. Raises OSError."""
        why = type(error).__name__
        line = msgspec.json.encode(_Line(self._now(), f"{why}: {error}", entry)) + b"\n"
        async with self._turn:
            await asyncio.to_thread(_append, self._folder(session) / FILE, line)
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
            path = self._folder(held.session) / FILE
            try:
                await self._try_again(held, path, record)
            except (Unavailable, Contended):
                held.due_at = now  # nothing is wrong with it: at the next look
                raise
            except OSError as error:
                log.warning(
                    "aside.unreadable", extra=fields(session_id=held.session.id, cause=str(error))
                )

    async def _try_again(self, held: _Held, path: Path, record: RecordLate) -> None:
        lines = await asyncio.to_thread(_read, path)
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
                    held.left = await asyncio.to_thread(_leave, path, recorded, tried)


def _entry(line: bytes) -> Entry | None:
    """None for one cut off by the end of a machine, or of another version."""
    try:
        return _decoder.decode(line).entry
    except msgspec.DecodeError:
        return None


def _read(path: Path) -> list[bytes]:
    try:
        return path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return []


def _append(path: Path, line: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with open(descriptor, "ab") as file:  # noqa: PTH123 (a descriptor: the mode is given above)
        if file.tell() + len(line) > LARGEST:
            raise OSError(errno.EFBIG, "as much is set aside as may be", str(path))
        file.write(line)
        file.flush()
        os.fsync(file.fileno())


def _leave(path: Path, recorded: Collection[EventId], tried: Collection[EventId]) -> int:
    """Take out what is recorded, put last what was tried in vain; how many are left."""
    kept: list[bytes] = []
    last: list[bytes] = []
    for line in _read(path):
        entry = _entry(line)
        if entry is None or entry.event.id not in recorded:
            vain = entry is not None and entry.event.id in tried
            (last if vain else kept).append(line if line.endswith(b"\n") else line + b"\n")
    if kept or last:
        fresh = path.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        _append(fresh, b"".join(kept + last))
        fresh.replace(path)
    else:
        path.unlink(missing_ok=True)
    return len(kept) + len(last)
