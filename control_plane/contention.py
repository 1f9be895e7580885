"""Changes that others came between: made again on top of theirs, and in the end given up."""

import random
import time
from collections.abc import Iterator
from typing import Final

from control_plane.problems import RETRY_SECONDS, Problem

TRIES: Final = 12
"""Times a change is tried. One of those who collide has its way each time, so that as many may ask
at once."""
FIRST_PAUSE: Final = 0.01
"""Seconds, at the most, before the second try; twice that before the third."""
LONGEST_PAUSE: Final = 0.2
"""All of them together stay under two seconds."""


def tries() -> Iterator[None]:
    """Once for each try, after a pause from the second on."""
    for number in range(TRIES):
        if number:
            longest = min(FIRST_PAUSE * 2 ** (number - 1), LONGEST_PAUSE)
            # Full jitter: whoever collided must not meet again.
            time.sleep(random.uniform(0, longest))  # noqa: S311 - no secret
        yield


def contended() -> Problem:
    """What to raise when the tries are over, where none of them has changed anything."""
    return Problem(
        "contended",
        "Others are changing it at the same moment. Nothing was changed.",
        headers={"Retry-After": str(RETRY_SECONDS)},
    )
