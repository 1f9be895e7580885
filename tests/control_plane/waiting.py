"""Waiting for what must come, with a deadline."""

import time
from collections.abc import Callable

DEADLINE = 30.0
"""Seconds; generous, for busy machines."""


def until(condition: Callable[[], object]) -> None:
    """Return when the condition holds; fail when it does not in time."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "it did not come in time"
        time.sleep(0.01)
