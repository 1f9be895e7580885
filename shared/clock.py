"""The one wall clock. Everything else takes the time as an argument.

Times are whole milliseconds since 1970 in rows, commands and rules; they become RFC 3339 instants
only where a person or a program outside reads them.
"""

import secrets
import time
from datetime import UTC, datetime

from shared import ids

SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR


def millis() -> int:
    """Now, in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def instant(moment: int) -> datetime:
    """`moment` (ms) as an aware UTC datetime, for bodies that go out."""
    return datetime.fromtimestamp(moment / 1000, tz=UTC)


def moment(instant: datetime) -> int:
    """The milliseconds of an aware datetime: what came in from outside."""
    return round(instant.timestamp() * 1000)


def mint(prefix: str) -> str:
    """A new id, now, from the system's randomness: the edge's short form of `ids.mint`."""
    return ids.mint(prefix, millis(), secrets.token_bytes(ids.RANDOM_BYTES))
