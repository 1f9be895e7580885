"""What becomes of a host, and what its session is told: apart from the library's vocabulary.

The gateway reads it too, and must not load what only hosts need.
"""

from dataclasses import dataclass
from enum import StrEnum

from gateway.changes import Change


class Fate(StrEnum):
    STAY = "stay"
    """The library goes on by itself."""
    AGAIN = "again"
    """This process is done; a new one should try."""
    END = "end"
    """Trying again at once would not mend it."""


@dataclass(frozen=True, slots=True)
class Verdict:
    fate: Fate
    change: Change | None = None
