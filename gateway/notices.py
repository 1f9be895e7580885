"""Events about the webhooks themselves: what is stored and owed when one happens.

A notice about an endpoint is never owed to that endpoint: if it works it need not be told, and if
it does not it cannot be. Nothing is made of what becomes of a notice's own deliveries, so two dead
endpoints do not tell each other about each other for ever.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, get_args

from gateway.recording import Born
from shared import clock
from shared.delivery import Delivery
from shared.events import DeliveryExhausted, Exhaustion, OperationalEvent, encode, type_name
from shared.ids import EndpointId, EventId, TenantId
from shared.store import deliveries, events
from shared.store.dynamo import Write
from shared.store.events import StoredEvent
from shared.webhook import Endpoint

TYPES: Final = frozenset(type_name(kind) for kind in get_args(OperationalEvent))


@dataclass(frozen=True, slots=True)
class Notice:
    """An operational event and its deliveries."""

    event: StoredEvent
    owed: tuple[Delivery, ...]

    @property
    def writes(self) -> tuple[Write, ...]:
        """To be made by `gateway.stamps`."""
        tenant_id = self.event.tenant_id
        owed = (deliveries.record_delivery(tenant_id, delivery) for delivery in self.owed)
        return events.record_event(tenant_id, self.event), *owed


def notice(
    tenant_id: TenantId,
    event: OperationalEvent,
    endpoints: Sequence[Endpoint],
    now: int,
    born: Born,
) -> Notice:
    """An event of now, owed to the endpoints that want it."""
    kind = type_name(event)
    stored = StoredEvent(
        id=event.id,
        tenant_id=tenant_id,
        type=kind,
        created_at=now,
        recorded_at=now,
        body=encode(event).decode(),
    )
    about: EndpointId = event.data.endpoint_id
    owed = tuple(
        born(deliveries.owing(stored, endpoint.id, now), endpoint)
        for endpoint in endpoints
        if endpoint.id != about and endpoint.wants(kind, None)
    )
    return Notice(stored, owed)


def exhausted(delivery: Delivery, event_id: EventId, now: int) -> DeliveryExhausted | None:
    """What is told of a delivery whose last attempt failed, if anything is."""
    if delivery.event_type in TYPES:
        return None
    return DeliveryExhausted(
        id=event_id,
        timestamp=clock.instant(now),
        data=Exhaustion(
            endpoint_id=delivery.endpoint_id,
            event_id=delivery.event_id,
            event_type=delivery.event_type,
            session_id=delivery.session_id,
            attempts=delivery.attempt,
            last_status=delivery.last_status,
            last_error=delivery.last_error,
        ),
    )
