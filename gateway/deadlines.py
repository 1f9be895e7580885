"""One timer for the deadlines of many: each ends what takes longer than so many seconds.

As all may take equally long, what began first is due first. A timer for each, of which nearly none
ever goes off, would be a twentieth of what a delivery costs.
"""

import asyncio


class Deadlines:
    """Of what may take so many seconds each."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._due: dict[asyncio.Timeout, float] = {}
        """When each that is under way must end, by the loop's clock; the first to come first."""
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, timeout: asyncio.Timeout) -> None:
        """Its time begins: one that was entered without a time, and is left after `end`."""
        loop = asyncio.get_running_loop()
        due = self._due[timeout] = loop.time() + self._seconds
        if self._timer is None:
            self._timer = loop.call_at(due, self._look)

    def end(self, timeout: asyncio.Timeout) -> None:
        """It is over, or was."""
        self._due.pop(timeout, None)

    def close(self) -> None:
        """Nothing begins any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        while self._due:
            timeout, due = next(iter(self._due.items()))
            if due > loop.time():
                self._timer = loop.call_at(due, self._look)
                return
            del self._due[timeout]
            timeout.reschedule(due)
