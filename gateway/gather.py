"""Group commit: what many hand in while one request is under way goes into the next, together.

Alone, an item is sent at once; under load, a request carries as many as fit. Nothing waits for a
timer, and one request at a time keeps the order in which items were handed in.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, Self, TypeVar

T = TypeVar("T")

Outcomes = Sequence[Exception | None]
"""Of each item of a flush, in order: what went wrong with it, if anything."""


class Gather(Generic[T]):
    """Runs `flush` with as many items as `fits` lets through, one call at a time."""

    def __init__(
        self,
        flush: Callable[[Sequence[T]], Awaitable[Outcomes]],
        fits: Callable[[Sequence[T], T], bool],
    ) -> None:
        """`fits` says whether one more item fits beside those gathered; the first always does."""
        self._flush = flush
        self._fits = fits
        self._waiting: deque[tuple[T, asyncio.Future[None]]] = deque()
        self._arrived = asyncio.Event()
        self._tasks = asyncio.TaskGroup()
        self._closing = False

    def __len__(self) -> int:
        return len(self._waiting)

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        self._tasks.create_task(self._run(), name="gather")
        return self

    async def __aexit__(self, *_: object) -> None:
        """Flush what is waiting, then end."""
        self._closing = True
        self._arrived.set()
        await self._tasks.__aexit__(None, None, None)

    def add(self, item: T) -> asyncio.Future[None]:
        """Hand in; the future is done once the item was flushed, with what went wrong if it did."""
        if self._closing:
            raise RuntimeError("nothing is gathered any more")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, done))
        self._arrived.set()
        return done

    async def _run(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._waiting:
                # Whoever is ready to run hands in first, so that a burst is one request, not two.
                await asyncio.sleep(0)
                await self._once()
            if self._closing:
                return

    async def _once(self) -> None:
        items: list[T] = []
        done: list[asyncio.Future[None]] = []
        while self._waiting and (not items or self._fits(items, self._waiting[0][0])):
            item, future = self._waiting.popleft()
            items.append(item)
            done.append(future)
        try:
            outcomes = await self._flush(items)
        except Exception as error:  # noqa: BLE001 - it is theirs who handed the items in
            outcomes = [error] * len(items)
        for future, error in zip(done, outcomes, strict=True):
            if future.done():
                continue
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)
