"""Webhook endpoints, events and deliveries: rows and requests."""

import zlib

import msgspec

from shared import clock
from shared.aws import Op
from shared.env import Places
from shared.ids import EndpointId, EventId, SessionId, TenantId
from shared.store import keys
from shared.store.dynamo import (
    ABSENT,
    PRESENT,
    Expression,
    Page,
    Range,
    Write,
    attribute,
    delete,
    from_item,
    get,
    put,
    query,
    to_item,
)
from shared.store.tenants import Making, erase_counted, make_counted
from shared.webhook import ENDPOINTS_PER_TENANT, Delivery, Endpoint

KEEP: int = 30 * clock.DAY
"""How long events and deliveries are kept."""
FORMER_KEPT: int = KEEP + 7 * clock.DAY
"""How long a deleted endpoint's id is kept: longer than its deliveries, which DynamoDB may erase
some days after their time."""
DUE_SHARDS: int = 8
"""Partitions of the due-index, so that its writes spread."""


class StoredEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event as stored: the exact bytes that are sent, and what lists are filtered by."""

    id: EventId
    tenant_id: TenantId
    type: str
    created_at: int
    body: str
    session_id: SessionId | None = None


def create_endpoint(
    tenant_id: TenantId, endpoint: Endpoint, most: int = ENDPOINTS_PER_TENANT
) -> Op[Making]:
    row = put(to_item(endpoint, keys.endpoint(tenant_id, endpoint.id)), ABSENT)
    return make_counted(tenant_id, "endpoints", most, (row,))


def read_endpoint(tenant_id: TenantId, endpoint_id: EndpointId) -> Op[Endpoint | None]:
    return get(keys.endpoint(tenant_id, endpoint_id), Endpoint)


def every_endpoint(tenant_id: TenantId, rows: Range) -> Op[Page[Endpoint]]:
    return query(keys.tenant_partition(tenant_id), Endpoint, rows, prefix="ENDPOINT#")


def replace_endpoint(tenant_id: TenantId, endpoint: Endpoint, seen: int) -> Op[bool]:
    """Store a changed endpoint, unless another change came since `updated_at` was `seen`."""
    unchanged = Expression("#updated_at = :seen", {"seen": seen})
    return put(to_item(endpoint, keys.endpoint(tenant_id, endpoint.id)), unchanged).alone()


class FormerEndpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A deleted endpoint, so that its deliveries are found when its tenant is erased."""

    id: EndpointId


def delete_endpoint(tenant_id: TenantId, endpoint_id: EndpointId, now: int) -> Op[bool]:
    """False where it is gone already. Its deliveries stay until their time is over."""
    former = to_item(
        FormerEndpoint(id=endpoint_id),
        keys.former_endpoint(tenant_id, endpoint_id),
        ttl=(now + FORMER_KEPT) // clock.SECOND,
    )
    rows = (delete(keys.endpoint(tenant_id, endpoint_id), PRESENT), put(former))
    return erase_counted(tenant_id, "endpoints", rows)


def every_former_endpoint(tenant_id: TenantId, rows: Range) -> Op[Page[FormerEndpoint]]:
    return query(keys.tenant_partition(tenant_id), FormerEndpoint, rows, prefix="FORMER#")


def record_event(tenant_id: TenantId, event: StoredEvent) -> Write:
    """Write an event once: the condition fails where it is stored already."""
    ttl = (event.created_at + KEEP) // clock.SECOND
    return put(to_item(event, keys.event(tenant_id, event.id), ttl=ttl), ABSENT)


def read_event(tenant_id: TenantId, event_id: EventId) -> Op[StoredEvent | None]:
    return get(keys.event(tenant_id, event_id), StoredEvent)


def every_event(
    tenant_id: TenantId,
    rows: Range,
    *,
    between: tuple[str, str],
    kind: str | None = None,
    session_id: SessionId | None = None,
) -> Op[Page[StoredEvent]]:
    """Events whose ids lie between two, of a kind (a type, or `family.*`) and session if given.

    The filter is applied after the page is read, so a page may be short or empty with more to come.
    """
    parts: list[str] = []
    values: dict[str, object] = {}
    if kind is not None and kind.endswith("*"):
        parts.append("begins_with(#type, :type)")
        values["type"] = kind[:-1]
    elif kind is not None:
        parts.append("#type = :type")
        values["type"] = kind
    if session_id is not None:
        parts.append("#session_id = :session_id")
        values["session_id"] = session_id
    only = Expression(" AND ".join(parts), values) if parts else None
    return query(keys.events_partition(tenant_id), StoredEvent, rows, between=between, only=only)


def _delivery_item(tenant_id: TenantId, delivery: Delivery) -> dict[str, object]:
    return to_item(
        delivery,
        keys.delivery(tenant_id, delivery.endpoint_id, delivery.event_id),
        ttl=(delivery.created_at + KEEP) // clock.SECOND,
        due_shard=None if delivery.due_at is None else due_shard(delivery.event_id),
    )


def due_shard(event_id: EventId) -> str:
    return f"DUE#{zlib.crc32(event_id.encode()) % DUE_SHARDS}"


def record_delivery(tenant_id: TenantId, delivery: Delivery) -> Write:
    """Write a new delivery, once."""
    return put(_delivery_item(tenant_id, delivery), ABSENT)


def read_delivery(
    tenant_id: TenantId, endpoint_id: EndpointId, event_id: EventId
) -> Op[Delivery | None]:
    return get(keys.delivery(tenant_id, endpoint_id, event_id), Delivery)


def move_delivery(tenant_id: TenantId, before: Delivery, after: Delivery) -> Op[bool]:
    """Replace a delivery by its next state. False where another has moved it meanwhile."""
    as_seen = Expression(
        "#state = :seen_state AND #attempt = :seen_attempt",
        {"seen_state": before.state.value, "seen_attempt": before.attempt},
    )
    return put(_delivery_item(tenant_id, after), as_seen).alone()


def due_deliveries(shard: int, now: int, limit: int) -> Op[tuple[Delivery, ...]]:
    """Deliveries of every tenant that are due, oldest first, for the sweeper."""

    def params(at: Places) -> dict[str, object]:
        return {
            "TableName": at.table,
            "IndexName": "Due",
            "Limit": limit,
            "KeyConditionExpression": "due_shard = :shard AND due_at <= :now",
            "ExpressionAttributeValues": {
                ":shard": attribute(f"DUE#{shard}"),
                ":now": attribute(now),
            },
        }

    return Op(
        "dynamodb",
        "query",
        params,
        lambda response: tuple(from_item(item, Delivery) for item in response["Items"]),
    )


def every_delivery(tenant_id: TenantId, endpoint_id: EndpointId, rows: Range) -> Op[Page[Delivery]]:
    return query(keys.deliveries_partition(tenant_id, endpoint_id), Delivery, rows)
