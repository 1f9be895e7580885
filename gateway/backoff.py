"""How long to wait before trying again."""

from typing import Final

FIRST: Final = 1.0
"""Seconds before the second try."""
LONGEST: Final = 300.0
"""Seconds: a lasting outage is asked about every few minutes, by each session at its own time."""
_DOUBLINGS: Final = 16
"""Beyond this many the pause has long been at its longest; keeps the power small."""


def pause(failures: int, jitter: float, *, first: float = FIRST, longest: float = LONGEST) -> float:
    """Seconds to wait after so many failures in a row (at least one).

    `jitter` is uniform in [0, 1): half of the pause is kept and half is chance, so that hundreds of
    sessions that failed together do not come back together.
    """
    whole = min(longest, first * 2 ** min(failures - 1, _DOUBLINGS))
    return whole * (0.5 + 0.5 * jitter)
