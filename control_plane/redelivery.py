"""Sending one event to an endpoint again, and waiting for what becomes of it."""

import logging
from typing import Final, assert_never, get_args

import msgspec
from litestar import Response, post
from litestar.params import FromPath

from control_plane import waiting
from control_plane.call import Call
from control_plane.contention import contended, tries
from control_plane.deliveries import ONE, DeliveryOut, find, shown
from control_plane.endpoints import enabled, found
from control_plane.idempotency import Answer, once, reply
from control_plane.problems import Problem, not_found
from shared import clock, events, ids, queue
from shared.delivery import Delivery, DeliveryState, Trigger, Wake
from shared.errors import Unavailable
from shared.events import EndpointTrouble, Exhaustion
from shared.ids import EndpointId, EventId
from shared.logs import fields
from shared.recovery import redelivered
from shared.store import deliveries as store
from shared.store import events as event_store
from shared.store.events import KEEP, StoredEvent
from shared.tenant import Scope
from shared.webhook import Endpoint

log = logging.getLogger(__name__)

LONGEST_SENDING: Final = 15
"""Seconds after which an attempt that has begun is over."""


@post(f"{ONE}/redeliver", needs=Scope.WEBHOOKS_WRITE, status_code=202)
async def redeliver(
    endpoint_id: FromPath[str], event_id: FromPath[str], request: Call
) -> Response[DeliveryOut]:
    """Send an event to this endpoint again, now.

    It keeps its `webhook-id`, so a receiver that had it knows it for a repeat. A retry that was due
    later is replaced, and a fresh schedule begins. Any event that is still kept may be sent, also
    one that was never meant for this endpoint. With `Prefer: wait=N` the answer waits for the
    attempt's outcome.
    """

    def work() -> Answer[DeliveryOut]:
        endpoint = enabled(found(request, endpoint_id), "redeliver")
        if not ids.is_id(ids.EVENT, event_id):
            raise not_found("delivery")
        delivery = _due_now(request, endpoint, EventId(event_id))
        wake(request, delivery)
        return Answer(202, shown(delivery))

    done = await once(request, work)
    if done.body is None or not request.wait:
        return done.response
    before = done.body.attempts
    delivery = await settled(request, EndpointId(endpoint_id), EventId(event_id), before)
    return reply(
        200 if delivery is not None and is_settled(delivery, before) else 202,
        msgspec.json.encode(done.body if delivery is None else shown(delivery)),
        headers=waiting.applied(request),
    )


def wake(call: Call, delivery: Delivery) -> None:
    """Have a dispatcher look at a delivery that is due."""
    op = queue.send_delivery(call.tenant_id, Wake.of(delivery).encode(), 0)
    try:
        call.plane.aws.run(op)
    except Unavailable as error:
        # The row is stored, and the sweeper finds it a few seconds later.
        log.warning("wake.unsent", extra=fields(tenant_id=call.tenant_id, cause=str(error)))


async def settled(
    call: Call, endpoint_id: EndpointId, event_id: EventId, before: int
) -> Delivery | None:
    """The delivery when an attempt beyond `before` of them is over, or the wait is."""
    op = store.read_delivery(call.tenant_id, endpoint_id, event_id)
    return await waiting.until(
        call,
        lambda: call.plane.aws.run(op),
        lambda row: row is None or is_settled(row, before),
    )


def is_settled(delivery: Delivery, before: int) -> bool:
    """Whether an attempt beyond `before` of them is over, well or not, or none is to come now."""
    match delivery.state:
        case DeliveryState.SENDING:
            return False
        case DeliveryState.WAITING:
            return delivery.attempt > before
        case DeliveryState.HELD | DeliveryState.DELIVERED | DeliveryState.GAVE_UP:
            return True
        case _:
            assert_never(delivery.state)


def _due_now(call: Call, endpoint: Endpoint, event_id: EventId) -> Delivery:
    """The event's delivery, made due now or made at all."""
    now = call.plane.now()
    for _ in tries():
        before = find(call, endpoint.id, event_id)
        event = call.plane.aws.run(event_store.read_event(call.tenant_id, event_id))
        if event is None or event.recorded_at + KEEP <= now:
            if before is None:
                raise not_found("delivery")
            raise Problem("event_expired", "The event's body is not kept any more.")
        if before is None:
            made = _first(endpoint, event, now)
            if call.plane.aws.run(store.record_delivery(call.tenant_id, made).alone()):
                return made
            continue
        if before.state is DeliveryState.SENDING:
            left = max(0, (before.due_at or now) - now) // clock.SECOND
            raise Problem(
                "conflict",
                "It is being sent right now; see what becomes of it.",
                headers={"Retry-After": str(min(left, LONGEST_SENDING) + 1)},
            )
        if _is_asked_for(before, call.plane.now()):
            return before
        moved = redelivered(before, Trigger.REDELIVERY, now, now)
        if call.plane.aws.run(store.move_delivery(call.tenant_id, before, moved)):
            return moved
    raise contended()


def _is_asked_for(delivery: Delivery, now: int) -> bool:
    """Whether another redelivery has just made it due, and nothing came of it yet."""
    return (
        delivery.state is DeliveryState.WAITING
        and delivery.trigger is Trigger.REDELIVERY
        and delivery.attempt == delivery.scheduled_from
        and delivery.due_at is not None
        and delivery.due_at <= now
    )


def _first(endpoint: Endpoint, event: StoredEvent, now: int) -> Delivery:
    """A delivery of an event that was not meant for the endpoint. Raises Problem."""
    if event.type in _OPERATIONAL:
        data = events.decode(event.body).data
        if isinstance(data, EndpointTrouble | Exhaustion) and data.endpoint_id == endpoint.id:
            raise Problem("conflict", "An event about an endpoint is never sent to that endpoint.")
    return store.owing(event, endpoint.id, now, Trigger.REDELIVERY)


_OPERATIONAL: Final = frozenset(
    events.type_name(kind) for kind in get_args(events.OperationalEvent)
)

ROUTES: Final = [redeliver]
