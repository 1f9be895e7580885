"""What was moved is taken when it is due, one after the other."""

import asyncio
import time

from gateway.agenda import Agenda
from shared import clock, ids
from shared.delivery import Delivery, DeliveryState
from shared.errors import Unavailable
from shared.ids import EndpointId, EventId, TenantId
from tests.gateway.waiting import until


def due(n: int, at: int) -> Delivery:
    return Delivery(
        tenant_id=TenantId("ten_1"),
        endpoint_id=EndpointId("ep_1"),
        event_id=EventId(ids.mint(ids.EVENT, n, bytes(10))),
        event_type="message.sent",
        state=DeliveryState.WAITING,
        attempt=0,
        created_at=0,
        updated_at=0,
        due_at=at,
    )


class Taker:
    """Notes what it is given, and when."""

    def __init__(self, *, broken: type[Exception] | None = None) -> None:
        self.taken: list[tuple[Delivery, int]] = []
        self._broken = broken

    async def take(self, delivery: Delivery) -> bool:
        self.taken.append((delivery, clock.millis()))
        if self._broken is Unavailable:
            raise Unavailable("dynamodb", "put_item", "away")
        if self._broken is not None:
            raise self._broken
        return True


async def test_each_is_taken_at_its_time_and_in_order() -> None:
    """Not before, and not in the order in which they were told."""
    taker, now = Taker(), clock.millis()
    async with Agenda(taker, clock.millis) as agenda:
        later = [due(n, now + 100 + 50 * n) for n in range(4)]
        agenda.add(later[2:])
        agenda.add(later[:2])
        await until(lambda: len(taker.taken) == 4)
    assert [delivery for delivery, _ in taker.taken] == later
    assert all(at >= (delivery.due_at or 0) for delivery, at in taker.taken)


async def test_one_that_fails_does_not_stop_the_others() -> None:
    """The sweeper has it; whatever was wrong with it stays with it."""
    for broken in (Unavailable, ValueError):
        taker, now = Taker(broken=broken), clock.millis()
        async with Agenda(taker, clock.millis) as agenda:
            agenda.add([due(1, now), due(2, now + 1)])
            await until(lambda taker=taker: len(taker.taken) == 2)


async def test_closing_does_not_wait_for_what_is_due_later() -> None:
    """It is left to whoever sweeps."""
    taker, began = Taker(), time.monotonic()
    async with Agenda(taker, clock.millis) as agenda:
        agenda.add([due(1, clock.millis() + clock.HOUR)])
        await asyncio.sleep(0)
    assert time.monotonic() - began < 30
    assert taker.taken == []
