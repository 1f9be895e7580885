"""Threads that wait for the device store."""

import asyncio
import threading

import pytest

from gateway.threads import Threads


async def test_a_store_that_hangs_keeps_nobody_from_looking_up_a_name() -> None:
    """However many wait for it: leases are renewed by connections that are made anew."""
    threads, over = Threads(2), threading.Event()
    waiting = [asyncio.ensure_future(threads.run(over.wait)) for _ in range(4)]
    try:
        async with asyncio.timeout(30):
            assert await asyncio.get_running_loop().getaddrinfo("localhost", 80)
        assert not any(each.done() for each in waiting)
        threads.close()
        begun = waiting[:2]
        over.set()
        assert await asyncio.gather(*begun) == [True, True]
    finally:
        over.set()
    gone = await asyncio.gather(*waiting[2:], return_exceptions=True)
    assert [type(each) for each in gone] == [asyncio.CancelledError] * 2


async def test_what_the_work_says_is_handed_on() -> None:
    """Its answer as well as its error."""
    threads = Threads(1)
    assert await threads.run(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await threads.run(divmod, 7, 0)
    threads.close()
