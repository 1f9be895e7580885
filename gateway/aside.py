"""Events that the table refuses, put beside a session's journal so that those behind them go on.

What is refused again and again for its own sake, and not because AWS is away, would stop its
session for ever. It is written to a file in the session's folder, where people find it; it is
counted, and its tenant sees a gap in the sequence.
"""

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from gateway.frames import Entry
from shared.logs import fields
from shared.session import Session

log = logging.getLogger(__name__)

FILE: Final = "aside.jsonl"


class _Line(msgspec.Struct):
    at: int
    why: str
    entry: Entry


class Aside:
    """Where refused entries go, and how many did."""

    def __init__(self, folder: Callable[[Session], Path], now: Callable[[], int]) -> None:
        self._folder = folder
        self._now = now
        self.count = 0

    async def put(self, session: Session, entry: Entry, error: Exception) -> None:
        """Write the entry down; it is on the disk when this returns. Raises OSError."""
        why = type(error).__name__
        line = msgspec.json.encode(_Line(self._now(), f"{why}: {error}", entry)) + b"\n"
        await asyncio.to_thread(_append, self._folder(session) / FILE, line)
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


def _append(path: Path, line: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with open(descriptor, "ab") as file:  # noqa: PTH123 (a descriptor: the mode is given above)
        file.write(line)
        file.flush()
        os.fsync(file.fileno())
