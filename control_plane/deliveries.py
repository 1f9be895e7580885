"""Deliveries: events on their way to an endpoint, and the event that tests one."""

from datetime import datetime
from typing import Final

import msgspec
from litestar import Response, post
from litestar.params import FromPath

from control_plane import waiting
from control_plane.call import Call
from control_plane.idempotency import Answer, once, reply
from control_plane.problems import Problem
from control_plane.webhooks import ITEM, found
from shared import clock, events, ids, queue
from shared.delivery import Delivery, DeliveryState, Wake
from shared.events import EndpointTest, Ping
from shared.ids import EndpointId, EventId
from shared.store import deliveries
from shared.store import events as event_store
from shared.store.dynamo import transact
from shared.store.events import UNBOUND, StoredEvent
from shared.tenant import Scope
from shared.webhook import EndpointStatus


class DeliveryOut(msgspec.Struct, frozen=True, kw_only=True):
    """An event on its way to an endpoint."""

    event_id: str
    endpoint_id: str
    event_type: str
    state: DeliveryState
    attempts: int
    last_status: int | None
    """HTTP status of the last answer."""
    last_error: str | None
    """Code of the last failure."""
    next_attempt_at: datetime | None
    created_at: datetime
    updated_at: datetime


def shown(row: Delivery) -> DeliveryOut:
    waits = row.state is DeliveryState.WAITING and row.due_at is not None
    return DeliveryOut(
        event_id=row.event_id,
        endpoint_id=row.endpoint_id,
        event_type=row.event_type,
        state=row.state,
        attempts=row.attempt,
        last_status=row.last_status,
        last_error=row.last_error,
        next_attempt_at=clock.instant(row.due_at) if waits and row.due_at else None,
        created_at=clock.instant(row.created_at),
        updated_at=clock.instant(row.updated_at),
    )


@post(f"{ITEM}/test", needs=Scope.WEBHOOKS_WRITE, status_code=202)
async def test_endpoint(endpoint_id: FromPath[str], request: Call) -> Response[DeliveryOut]:
    """Send an `endpoint.test` event to this endpoint, whatever its filter.

    With `Prefer: wait=N` the answer waits for the first attempt's outcome.
    """

    def work() -> Answer[DeliveryOut]:
        plane = request.plane
        row = found(request, endpoint_id)
        if row.status is not EndpointStatus.ENABLED:
            raise Problem("conflict", "The endpoint is disabled; enable it first.")
        now = plane.now()
        event_id = EventId(clock.mint(ids.EVENT))
        event = EndpointTest(
            id=event_id,
            timestamp=clock.instant(now),
            data=Ping(note="Sent because you asked for a test of this endpoint."),
        )
        stored = StoredEvent(
            id=event_id,
            tenant_id=request.tenant_id,
            type=events.type_name(event),
            created_at=now,
            recorded_at=now + UNBOUND,
            body=events.encode(event).decode(),
        )
        delivery = Delivery(
            tenant_id=request.tenant_id,
            endpoint_id=row.id,
            event_id=event_id,
            event_type=stored.type,
            state=DeliveryState.WAITING,
            attempt=0,
            created_at=now,
            updated_at=now,
            due_at=now,
        )
        plane.aws.run(
            transact(
                [
                    event_store.record_event(request.tenant_id, stored),
                    deliveries.record_delivery(request.tenant_id, delivery),
                ]
            )
        )
        wake = Wake(tenant_id=request.tenant_id, endpoint_id=row.id, event_id=event_id)
        plane.aws.run(queue.send_delivery(request.tenant_id, msgspec.json.encode(wake).decode(), 0))
        return Answer(202, shown(delivery))

    done = await once(request, work)
    if done.body is None or not request.wait:
        return done.response
    op = deliveries.read_delivery(
        request.tenant_id, EndpointId(endpoint_id), EventId(done.body.event_id)
    )
    delivery = await waiting.until(request, lambda: request.plane.aws.run(op), _attempted)
    return reply(
        200 if delivery is not None and _attempted(delivery) else 202,
        msgspec.json.encode(done.body if delivery is None else shown(delivery)),
        headers=waiting.applied(request),
    )


def _attempted(delivery: Delivery | None) -> bool:
    """Whether the first attempt is over, well or not."""
    if delivery is None:
        return True
    return delivery.state is not DeliveryState.SENDING and delivery.attempt > 0


ROUTES: Final = [test_endpoint]
