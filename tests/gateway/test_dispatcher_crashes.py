"""A gateway that is killed at any step of a delivery, and the one that goes on."""

import asyncio
import signal
import sys

import msgspec
import pytest

from gateway.delivery import CLAIM
from gateway.due import GRACE
from gateway.frames import Entry
from gateway.outbox import Outbox
from shared import clock, ids
from shared.delivery import DeliveryState, Outcome
from shared.events import SessionChange, SessionConnected
from shared.ids import EventId
from shared.session import SessionState
from shared.store import deliveries
from tests.gateway.conftest import World
from tests.gateway.crashing import Part
from tests.gateway.receivers import Receiver, response, served
from tests.gateway.test_dispatcher import Clock, log_of, opened, parts_of
from tests.gateway.waiting import until

STEPS = [
    ("query", 1, "before"),  # the tenant's endpoints
    ("transact_write_items", 1, "before"),  # the event, its delivery, the session's state
    ("get_item", 1, "before"),  # the tenant's status
    ("post", 1, "before"),  # answered 500
    ("transact_write_items", 2, "before"),  # that result and its attempt
    ("send_message", 1, "before"),  # the wake-up of the retry
    ("get_item", 2, "before"),  # what the wake-up names
    ("put_item", 1, "before"),  # the retry's claim
    ("post", 2, "before"),  # answered 200
    ("transact_write_items", 3, "before"),  # that result
    ("transact_write_items", 3, "after"),
]
"""All that it does: what comes after a step comes before the next."""


@pytest.mark.parametrize(("kind", "nth", "moment"), STEPS)
async def test_nothing_is_lost_and_every_attempt_is_counted(
    world: World, kind: str, nth: int, moment: str
) -> None:
    """Whenever it ends, another gateway delivers the event under the same id.

    An attempt is counted before it begins and told of when it is over or its claim has lapsed, so
    the log has one row for each, and the receiver never saw more requests than there are rows.
    """
    receiver = Receiver([response(500), response(200)])
    async with served(receiver) as url:
        tenant_id = await world.tenant()
        session = await world.session(tenant_id)
        endpoint = await world.endpoint(tenant_id, url)
        event = SessionConnected(
            id=EventId(clock.mint(ids.EVENT)),
            timestamp=clock.instant(clock.millis()),
            session_id=session.id,
            sequence=1,
            data=SessionChange(state=SessionState.CONNECTED, previous=SessionState.STARTING),
        )
        part = {
            "settings": world.settings,
            "session": session,
            "event": event,
            "kind": kind,
            "nth": nth,
            "moment": moment,
        }
        assert msgspec.convert(msgspec.to_builtins(part), Part)
        gateway = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.gateway.crashing", stdin=asyncio.subprocess.PIPE
        )
        await gateway.communicate(msgspec.json.encode(part) + b"\n")
        assert gateway.returncode == -signal.SIGKILL

        time = Clock()
        async with opened(world, time) as dispatcher:
            # What its journal still holds is recorded again by whoever has the session now.
            async with Outbox(**parts_of(world), deliverer=dispatcher, now=time) as outbox:
                await outbox.record(session, [Entry(sequence=1, event=event)])

            async def delivered() -> bool:
                op = deliveries.read_delivery(tenant_id, endpoint.id, event.id)
                row = await world.aws.run(op)
                assert row is not None
                if row.state is DeliveryState.WAITING or row.state is DeliveryState.SENDING:
                    time.ahead += CLAIM + GRACE
                    await dispatcher.sweep()
                return row.state is DeliveryState.DELIVERED

            await until(delivered, 20)
        row = await world.aws.run(deliveries.read_delivery(tenant_id, endpoint.id, event.id))
        assert row is not None
        attempts = await log_of(world, row)
    assert {request.headers["webhook-id"] for request in receiver.requests} == {event.id}
    assert [each.number for each in attempts] == list(range(1, row.attempt + 1))
    told = [each for each in attempts if each.outcome is not Outcome.INTERRUPTED]
    assert len(told) <= len(receiver.requests) <= len(attempts)
    assert len(attempts) - len(told) <= 1
