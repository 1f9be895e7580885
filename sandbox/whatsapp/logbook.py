"""Who was logged in when: one line for each connection of a companion, as the server saw it.

Two lines of a device that overlap are two owners at once: WhatsApp tells the earlier one that it
was replaced. Times are monotonic seconds, which are the same in every process of a machine.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

KEPT: Final = 100_000
"""Lines; the oldest are forgotten."""


@dataclass(slots=True)
class Line:
    """A connection's time; `index` counts from 0 and is never used twice."""

    index: int
    owner: str
    device: int
    since: float
    until: float | None = None


class Logbook:
    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._lines: list[Line] = []
        self._count = 0

    def opened(self, owner: str, device: int) -> Line:
        """A device logged in."""
        line = Line(self._count, owner, device, self._now())
        self._count += 1
        self._lines.append(line)
        del self._lines[:-KEPT]
        return line

    def closed(self, line: Line) -> None:
        """Its connection ended."""
        line.until = self._now()

    def lines(self, after: int = -1) -> list[Line]:
        """The lines after an index."""
        return [line for line in self._lines if line.index > after]
