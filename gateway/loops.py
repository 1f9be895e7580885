"""The one loop: a step, a pause, a step. An agent supplies the step.

A failed step is logged and tried again after a growing pause; a loop ends by cancellation, or
between two steps when it is told that it is over.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import Final

from shared.errors import Unavailable
from shared.logs import fields

log = logging.getLogger(__name__)

FIRST_BACKOFF: Final = 0.5
"""Seconds."""
JITTER: Final = 0.2
"""Share of a pause by which loops of one age drift apart."""

_random = random.SystemRandom().random


class Loop:
    """A step done again and again, and whether it still is."""

    def __init__(
        self,
        name: str,
        step: Callable[[], Awaitable[object]],
        *,
        pause: float,
        allowance: float = 60.0,
        longest_backoff: float = 30.0,
        over: Callable[[], bool] = lambda: False,
    ) -> None:
        """`pause` and the others in seconds; a step that takes more than `allowance` hangs."""
        self.name = name
        self._step = step
        self._pause = pause
        self._allowance = allowance
        self._longest_backoff = longest_backoff
        self._over = over
        self._failures = 0
        self._beat: float | None = None

    async def run(self) -> None:
        """Until cancelled or over.

        A step may miss that it is cancelled: where something else ends in the same moment,
        `asyncio.wait_for` (before Python 3.12) and whoever catches too much go on. Nobody would
        cancel it again, so it is looked up.
        """
        task = asyncio.current_task()
        try:
            while not self._over():
                self._beat = time.monotonic()
                pause = await self._once()
                if task is not None and task.cancelling():
                    raise asyncio.CancelledError
                await asyncio.sleep(pause)
        finally:
            self._beat = None

    def alive(self) -> bool:
        """Whether it runs and no step of it hangs."""
        longest_pause = max(self._pause, self._longest_backoff) * (1 + JITTER)
        return (
            self._beat is not None
            and time.monotonic() - self._beat < self._allowance + longest_pause
        )

    async def _once(self) -> float:
        try:
            await self._step()
        except Unavailable as error:
            return self._failed(str(error), error=None)
        except Exception as error:  # noqa: BLE001 - whatever a step raises must not end the loop
            return self._failed(type(error).__name__, error=error)
        self._failures = 0
        return self._pause * (1 + JITTER * (2 * _random() - 1))

    def _failed(self, cause: str, error: Exception | None) -> float:
        pause = min(FIRST_BACKOFF * 2**self._failures, self._longest_backoff)
        pause *= 1 + JITTER * (2 * _random() - 1)
        # The power stops where the pause has long stopped growing.
        self._failures = min(self._failures + 1, 16)
        log.warning(
            "loop.step_failed",
            extra=fields(loop=self.name, cause=cause, pause=round(pause, 2)),
            exc_info=error,
        )
        return pause
