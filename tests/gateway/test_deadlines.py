"""One timer for many deadlines."""

import asyncio

import pytest

from gateway.deadlines import Deadlines

SECONDS = 0.2


async def take(deadlines: Deadlines, seconds: float, after: float = 0.0) -> float:
    """Something that takes so long, begun `after` so many; how long it was let."""
    await asyncio.sleep(after)
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        async with asyncio.timeout(None) as timeout:
            deadlines.begin(timeout)
            try:
                await asyncio.sleep(seconds)
            finally:
                deadlines.end(timeout)
    except TimeoutError:
        assert loop.time() - began >= SECONDS
        return loop.time() - began
    assert seconds < SECONDS
    return loop.time() - began


async def test_each_has_its_own_time() -> None:
    """What takes too long ends when its own time is over, whatever began before or ended since."""
    deadlines = Deadlines(SECONDS)
    async with asyncio.timeout(30):
        lengths = await asyncio.gather(
            take(deadlines, 60),
            take(deadlines, 0, after=0.02),
            take(deadlines, 60, after=0.1),
            take(deadlines, 60, after=2 * SECONDS),
        )
    assert all(length < 10 for length in lengths)
    deadlines.close()


async def test_who_is_cancelled_meanwhile_is_cancelled() -> None:
    """A cancellation from elsewhere is told as one, and leaves nothing to be ended later."""
    deadlines = Deadlines(SECONDS)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(take(deadlines, 60))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert await take(deadlines, 60) >= SECONDS
    deadlines.close()
