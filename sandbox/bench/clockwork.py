"""A loop that always does the same, so that its time tells how even the machine is."""

import time
from typing import Final

_TURNS: Final = 400_000
"""Some 20 ms on a small machine: long enough to be disturbed, short enough not to disturb."""


class Clockwork:
    """Seconds the loop took, each time it was wound."""

    def __init__(self) -> None:
        self.loops: list[float] = []

    def tick(self) -> None:
        begun = time.perf_counter()
        total = 0
        for number in range(_TURNS):
            total ^= number
        self.loops.append(time.perf_counter() - begun)
