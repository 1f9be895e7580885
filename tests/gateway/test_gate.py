"""Who starts next, where hundreds want to."""

import asyncio
from contextlib import AsyncExitStack

from hypothesis import given
from hypothesis import strategies as st

from gateway.gate import Claim, Gate, first
from shared.ids import TenantId
from tests.gateway.waiting import until

ANNA, BEN = TenantId("ten_a"), TenantId("ten_b")

CLAIMS = st.builds(
    Claim,
    tenant_id=st.sampled_from([ANNA, BEN]),
    connected_at=st.none() | st.integers(1, 5),
    ordered=st.booleans(),
)


def order(claims: list[Claim]) -> list[Claim]:
    """All of them, as a gate lets them through one by one."""
    turns: dict[TenantId, int] = {}
    waiting, passed = list(claims), list[Claim]()
    while waiting:
        claim = first(waiting, turns)
        waiting.remove(claim)
        passed.append(claim)
        turns[claim.tenant_id] = len(passed)
    return passed


@given(st.lists(CLAIMS, max_size=12))
def test_orders_go_first_and_numbers_that_wait_for_a_phone_last(claims: list[Claim]) -> None:
    """And of one tenant's devices, those connected last go first."""
    passed = order(claims)

    classes = [0 if each.ordered else 1 if each.connected_at else 2 for each in passed]
    assert classes == sorted(classes)
    for tenant in (ANNA, BEN):
        recency = [
            each.connected_at or 0
            for each in passed
            if each.tenant_id == tenant and not each.ordered and each.connected_at
        ]
        assert recency == sorted(recency, reverse=True)


@given(st.integers(1, 20), st.integers(1, 20))
def test_tenants_take_turns(many: int, few: int) -> None:
    """However many one has, the other's come every second time."""
    crowd = [Claim(ANNA, 9) for _ in range(many)]
    others = [Claim(BEN, 1) for _ in range(few)]
    passed = order([*crowd, *others])

    for number, each in enumerate(each for each in passed if each in others):
        assert passed.index(each) <= 2 * number + 1


async def test_no_more_pass_at_a_time_than_it_is_wide() -> None:
    """Each that leaves lets the next in; who becomes urgent while it waits goes before."""
    gate, inside, passed = Gate(2), list[int](), list[int]()
    claims = [Claim(ANNA, connected_at=n) for n in range(1, 7)]
    leave = [asyncio.Event() for _ in claims]

    async def go(number: int) -> None:
        async with gate.passage(claims[number]):
            inside.append(number)
            passed.append(number)
            assert len(inside) <= 2
            await leave[number].wait()
            inside.remove(number)

    async with asyncio.TaskGroup() as group:
        for number in range(6):
            group.create_task(go(number))
        await until(lambda: inside == [0, 1])
        claims[2].ordered = True
        for number in (0, 1, 2, 5, 4, 3):
            leave[number].set()
    assert passed == [0, 1, 2, 5, 4, 3]


async def test_who_gives_up_keeps_no_place() -> None:
    """Neither while it waits nor in the moment its turn comes."""
    gate = Gate(1)

    async def go(claim: Claim) -> None:
        async with gate.passage(claim):
            pass

    async with asyncio.TaskGroup() as group, AsyncExitStack() as place:
        await place.enter_async_context(gate.passage(Claim(ANNA)))
        waiting, next_in = (group.create_task(go(Claim(ANNA))) for _ in range(2))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.sleep(0)
        await place.aclose()
        next_in.cancel()
    async with asyncio.timeout(30):
        await go(Claim(BEN))
