"""Group commit."""

import asyncio
from collections.abc import Sequence
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.gather import Gather, Most, Outcomes


def three() -> Most:
    return Most(3)


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


Item = tuple[str, int, int]
"""Owner, line, number."""


def owner_and_line(item: Item) -> tuple[str, int]:
    return item[0], item[1]


async def flushes(items: Sequence[Item], size: int) -> list[list[Item]]:
    """Handed in at once, flushed so many at a time."""
    flushed: list[list[Item]] = []

    async def flush(gathered: Sequence[Item]) -> Outcomes:
        flushed.append(list(gathered))
        return [None] * len(gathered)

    async with Gather(flush, partial(Most, size), owner_and_line) as gather:
        await asyncio.gather(*(gather.add(item) for item in items))
    return flushed


async def test_who_hands_in_much_delays_itself_alone() -> None:
    """Behind a hundred of one owner, others' single items are in the first flush."""
    noise = [("noisy", 1, number) for number in range(100)]
    first, *rest = await flushes([*noise, ("a", 1, 0), ("b", 1, 0)], 4)
    assert first == [("noisy", 1, 0), ("a", 1, 0), ("b", 1, 0), ("noisy", 1, 1)]
    assert [item for flushed in rest for item in flushed] == noise[2:]


async def test_lines_of_an_owner_take_turns_too() -> None:
    """A busy session does not keep its tenant's other sessions waiting."""
    busy = [("a", 1, number) for number in range(10)]
    first, *_ = await flushes([*busy, ("a", 2, 0)], 3)
    assert first == [("a", 1, 0), ("a", 2, 0), ("a", 1, 1)]


@given(
    owners=st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 3)), max_size=40),
    size=st.integers(1, 7),
)
async def test_nothing_is_lost_and_lines_keep_their_order(
    owners: list[tuple[str, int]], size: int
) -> None:
    """Whatever is handed in comes out once, each line in its order."""
    items = [(owner, line, number) for number, (owner, line) in enumerate(owners)]
    flushed = [item for each in await flushes(items, size) for item in each]
    assert sorted(flushed) == sorted(items)
    for line in set(owners):
        mine = [item for item in flushed if owner_and_line(item) == line]
        assert mine == sorted(mine)


async def test_what_does_not_fit_begins_the_next_flush() -> None:
    """A large item is not overtaken for ever by small ones that still fit."""
    flushed: list[list[tuple[str, int]]] = []

    async def flush(items: Sequence[tuple[str, int]]) -> Outcomes:
        flushed.append(list(items))
        return [None] * len(items)

    class Ten:
        def __init__(self) -> None:
            self._left = 10

        def fits(self, item: tuple[str, int]) -> bool:
            return item[1] <= self._left

        def take(self, item: tuple[str, int]) -> None:
            self._left -= item[1]

    small, large = [(f"s{number}", 4) for number in range(3)], ("large", 9)
    async with Gather(flush, Ten, lambda item: (item[0], None)) as gather:
        await asyncio.gather(*(gather.add(item) for item in [small[0], large, *small[1:]]))
    assert flushed == [[small[0]], [large], small[1:]]
