"""Trying an endpoint: one event, one attempt, and what its outcome means."""

from typing import Annotated, Final

import msgspec
from litestar import Response, post
from litestar.params import FromPath, JSONBody
from msgspec import Meta

from control_plane import waiting
from control_plane.call import Call
from control_plane.deliveries import AttemptOut, DeliveryOut, attempts, shown, shown_attempt
from control_plane.endpoints import ITEM, found
from control_plane.event_examples import examples
from control_plane.idempotency import Answer, once, reply
from control_plane.problems import invalid_value
from control_plane.redelivery import is_settled, settled, wake
from shared import clock, events, ids
from shared.delivery import Attempt, Delivery, Trigger
from shared.diagnosis import Diagnosis, diagnose
from shared.events import EndpointTest
from shared.ids import EndpointId, EventId
from shared.store import deliveries
from shared.store import events as event_store
from shared.store.dynamo import transact
from shared.store.events import UNBOUND, StoredEvent
from shared.tenant import Scope

PLAIN: Final = events.type_name(EndpointTest)


class TrialIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to send."""

    type: Annotated[
        str,
        Meta(
            max_length=100,
            description="An event type: the catalogue's example of it is sent.",
            examples=["message.received"],
        ),
    ] = PLAIN


class TrialOut(DeliveryOut, frozen=True, kw_only=True):
    """A test of an endpoint. Its attempt is the only one: a failure is not tried again."""

    attempt: AttemptOut | None = None
    """Null until it is over."""
    diagnosis: Diagnosis | None = None
    """What the attempt means. Null until it is over."""


@post(f"{ITEM}/test", needs=Scope.WEBHOOKS_WRITE, status_code=202)
async def test_endpoint(
    endpoint_id: FromPath[str], data: JSONBody[TrialIn], request: Call
) -> Response[TrialOut]:
    """Send a test event to this endpoint, once, whatever its filter, status and health.

    With `Prefer: wait=N` the answer waits for the attempt, and says what is wrong, if anything.
    The event has an id and a timestamp of its own; everything else in it is the catalogue's.
    """
    if data.type not in events.TYPES:
        raise invalid_value(
            "/type",
            "unknown_event_type",
            "There is no such event type; GET /v1/event-types lists them.",
        )

    def work() -> Answer[TrialOut]:
        endpoint = found(request, endpoint_id)
        now = request.plane.now()
        event_id = EventId(clock.mint(ids.EVENT))
        event = msgspec.structs.replace(
            examples(data.type)[0], id=event_id, timestamp=clock.instant(now)
        )
        stored = StoredEvent(
            id=event_id,
            tenant_id=request.tenant_id,
            type=data.type,
            created_at=now,
            recorded_at=now + UNBOUND,
            body=events.encode(event).decode(),
            example=None if data.type == PLAIN else True,
        )
        delivery = deliveries.owing(stored, endpoint.id, now, Trigger.TEST)
        request.plane.aws.run(
            transact(
                [
                    event_store.record_event(request.tenant_id, stored),
                    deliveries.record_delivery(request.tenant_id, delivery),
                ]
            )
        )
        wake(request, delivery)
        return Answer(202, _told(delivery))

    done = await once(request, work)
    if done.body is None or not request.wait:
        return done.response
    event_id = EventId(done.body.event_id)
    delivery = await settled(request, EndpointId(endpoint_id), event_id, 0)
    if delivery is None or not is_settled(delivery, 0):
        body = done.body if delivery is None else _told(delivery)
        return reply(202, msgspec.json.encode(body), headers=waiting.applied(request))
    made = await request.run(lambda: attempts(request, delivery, 1))
    body = _told(delivery, made[-1] if made else None, over=True)
    return reply(200, msgspec.json.encode(body), headers=waiting.applied(request))


def _told(row: Delivery, attempt: Attempt | None = None, *, over: bool = False) -> TrialOut:
    phases = attempt.phases if attempt else None
    return TrialOut(
        attempt=shown_attempt(attempt) if attempt else None,
        diagnosis=diagnose(row.last_status, row.last_error, phases.total if phases else None)
        if over
        else None,
        **msgspec.structs.asdict(shown(row)),
    )


ROUTES: Final = [test_endpoint]
