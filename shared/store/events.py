"""Events: rows and requests."""

from typing import Final

import msgspec

from shared import clock
from shared.aws import Op
from shared.ids import EventId, SessionId, TenantId
from shared.store import keys
from shared.store.dynamo import ABSENT, Expression, Page, Range, Write, get, put, query, to_item

KEEP: Final = 30 * clock.DAY
"""How long events, their deliveries and attempts are kept."""


class StoredEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event as stored: the exact bytes that are sent, and what lists are filtered by."""

    id: EventId
    tenant_id: TenantId
    type: str
    created_at: int
    body: str
    session_id: SessionId | None = None


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
