"""What is due within seconds, taken to the moment and in its order.

A recovery makes many deliveries due, one after the other. The sweeper would find them a handful of
seconds late and all at once; whoever moved them knows when each is due. Nothing rests on it: what
is lost with the process is found by the sweeper.
"""

import asyncio
import heapq
import logging
from collections.abc import Callable, Sequence
from typing import Final, Self

from gateway.due import Takes
from shared import clock
from shared.delivery import Delivery
from shared.errors import Contended, Unavailable
from shared.logs import fields

log = logging.getLogger(__name__)

LONGEST_NAP: Final = 0.5
"""Seconds before it looks at the clock again, which may be set."""
MOST: Final = 10_000
"""Deliveries kept in memory; the sweeper has the others."""


class Agenda:
    """Takes deliveries when they are due. Open between `async with` and its end."""

    def __init__(self, takes: Takes, now: Callable[[], int]) -> None:
        self._takes = takes
        self._now = now
        self._due: list[tuple[int, int, Delivery]] = []
        self._count = 0
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._tasks = asyncio.TaskGroup()

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        self._task = self._tasks.create_task(self._run(), name="agenda")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
        await self._tasks.__aexit__(None, None, None)

    def add(self, deliveries: Sequence[Delivery]) -> None:
        """Take each at its `due_at`."""
        for delivery in deliveries:
            if delivery.due_at is not None and len(self._due) < MOST:
                self._count += 1
                heapq.heappush(self._due, (delivery.due_at, self._count, delivery))
        self._news.set()

    async def _run(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            while self._due:
                await asyncio.gather(*map(self._take, self._reached()))
                if self._due:
                    left = (self._due[0][0] - self._now()) / clock.SECOND
                    await asyncio.sleep(min(max(0, left), LONGEST_NAP))

    def _reached(self) -> list[Delivery]:
        now = self._now()
        reached: list[Delivery] = []
        while self._due and self._due[0][0] <= now:
            reached.append(heapq.heappop(self._due)[2])
        return reached

    async def _take(self, delivery: Delivery) -> None:
        try:
            await self._takes.take(delivery)
        except (Unavailable, Contended) as error:
            log.warning("agenda.left", extra=fields(event_id=delivery.event_id, cause=str(error)))
        except Exception:
            log.exception("agenda.failed", extra=fields(event_id=delivery.event_id))
