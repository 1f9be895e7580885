"""Group commit."""

import asyncio
from collections.abc import Sequence

import pytest

from gateway.gather import Gather, Outcomes


def three(gathered: Sequence[int], _: int) -> bool:
    return len(gathered) < 3


async def test_what_comes_in_during_a_flush_shares_the_next() -> None:
    """One alone goes at once; those that come meanwhile go together, in order, as many as fit."""
    flushed: list[list[int]] = []
    gate = asyncio.Event()

    async def flush(items: Sequence[int]) -> Outcomes:
        flushed.append(list(items))
        await gate.wait()
        return [None] * len(items)

    async with Gather(flush, three) as gather:
        first = gather.add(1)
        while not flushed:
            await asyncio.sleep(0)
        rest = [gather.add(n) for n in range(2, 7)]
        gate.set()
        await asyncio.gather(first, *rest)
    assert flushed == [[1], [2, 3, 4], [5, 6]]


async def test_each_learns_its_own_outcome() -> None:
    """One item's failure is that item's; a flush that fails is everybody's."""

    async def flush(items: Sequence[int]) -> Outcomes:
        if 9 in items:
            raise LookupError
        return [ValueError(n) if n == 2 else None for n in items]

    async with Gather(flush, three) as gather:
        outcomes = await asyncio.gather(*(gather.add(n) for n in (1, 2, 3)), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [type(None), ValueError, type(None)]
        with pytest.raises(LookupError):
            await gather.add(9)
        await gather.add(4)


async def test_closing_flushes_what_waits() -> None:
    """Nothing handed in before the end is forgotten, nothing after it is accepted."""
    flushed: list[int] = []

    async def flush(items: Sequence[int]) -> Outcomes:
        flushed.extend(items)
        return [None] * len(items)

    async with Gather(flush, three) as gather:
        for n in range(5):
            gather.add(n)
    assert flushed == [0, 1, 2, 3, 4]
    with pytest.raises(RuntimeError):
        gather.add(5)


async def test_a_waiter_that_leaves_does_not_stop_the_flush() -> None:
    """Cancelling one who waits cancels only the waiting."""
    flushed: list[int] = []

    async def flush(items: Sequence[int]) -> Outcomes:
        flushed.extend(items)
        return [None] * len(items)

    async with Gather(flush, three) as gather:
        gather.add(1).cancel()
        await gather.add(2)
    assert flushed == [1, 2]
