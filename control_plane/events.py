"""Events: what happened, by type and time, exactly as it was or will be delivered."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Final, cast

import msgspec
from litestar import Response, get
from litestar.params import FromPath, QueryParameter

from control_plane import paging
from control_plane.call import Call
from control_plane.idempotency import reply
from control_plane.paging import DEFAULT_LIMIT, Cursor, Limit, PageOut
from control_plane.problems import invalid_parameter, not_found
from shared import events, ids
from shared.ids import EventId, SessionId, TenantId
from shared.store import events as event_store
from shared.store import keys
from shared.store.dynamo import Page, Range
from shared.store.events import StoredEvent
from shared.tenant import Scope
from shared.webhook import matches

PATH: Final = "/v1/events"

FILTERED_ROWS: Final = 200
"""Rows read at a time where a filter may pass over most of them."""
MOST_READS: Final = 10
"""Reads for one page; a rare type may need another page with more to come."""
LARGEST_PAGE: Final = 2_000_000
"""Bytes of events after which a page ends. One more read may add a megabyte; a function's answer
has 6 MB at the most (AWS)."""
LATEST: Final = 253_402_300_799_000
"""The end of the year 9999 (ms)."""


class EventOut(msgspec.Struct, frozen=True, kw_only=True):
    """An event. `GET /v1/event-types` has the schema of each type's `data`."""

    id: str
    type: str
    timestamp: datetime
    data: dict[str, Any]
    session_id: str | None = None
    sequence: int | None = None
    """Counts up by one per event of the session: a gap is a missed event."""


class Order(StrEnum):
    NEWEST = "newest"
    OLDEST = "oldest"


Kind = Annotated[
    str | None, QueryParameter(name="type", description="An event type, or `message.*`.")
]
Since = Annotated[
    str | None,
    QueryParameter(format="date-time", description="Not before this instant (RFC 3339)."),
]
Until = Annotated[
    str | None, QueryParameter(format="date-time", description="Before this instant (RFC 3339).")
]
OfSession = Annotated[str | None, QueryParameter(description="Only this session's events.")]
Which = Annotated[Order, QueryParameter(description="Which come first.")]


@get(PATH, needs=Scope.EVENTS_READ)
async def list_events(
    *,
    request: Call,
    kind: Kind = None,
    session_id: OfSession = None,
    since: Since = None,
    until: Until = None,
    order: Which = Order.NEWEST,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Response[PageOut[EventOut]]:
    """List events by type, session and time. They are kept for thirty days."""
    check_filters(kind, session_id)
    between = span(since, until)
    name = f"events|{kind}|{session_id}|{between}|{order}"
    rows = paging.page(request, name, limit, cursor, newest_first=order is Order.NEWEST)
    if between[0] >= between[1]:
        return paging.answer(request, name, Page((), None), shown)
    page = await request.run(
        lambda: _read(request, rows, between, None if kind == "*" else kind, session_id)
    )
    return paging.answer(request, name, page, shown)


@get(f"{PATH}/{{event_id:str}}", needs=Scope.EVENTS_READ)
async def read_event(event_id: FromPath[str], request: Call) -> Response[EventOut]:
    """Read an event."""

    def read() -> StoredEvent:
        row: StoredEvent | None = None
        if ids.is_id(ids.EVENT, event_id):
            op = event_store.read_event(request.tenant_id, EventId(event_id))
            row = request.plane.aws.run(op)
        if row is None:
            raise not_found("event")
        return row

    return reply(200, (await request.run(read)).body.encode())


def _read(
    call: Call,
    rows: Range,
    between: tuple[str, str],
    kind: str | None,
    session_id: str | None,
) -> Page[StoredEvent]:
    """A page. Filters apply after DynamoDB's limit, so a filtered one is read in several goes."""
    filtered = kind is not None or session_id is not None
    kept: list[StoredEvent] = []
    reads = Range(FILTERED_ROWS if filtered else rows.limit, rows.start, rows.newest_first)
    for _ in range(MOST_READS):
        page = call.plane.aws.run(
            event_store.every_event(
                call.tenant_id,
                reads,
                between=between,
                kind=kind,
                session_id=None if session_id is None else SessionId(session_id),
            )
        )
        kept.extend(page.rows)
        reads = Range(reads.limit, page.next, reads.newest_first)
        if page.next is None or is_full(kept, rows.limit):
            break
    if len(kept) > rows.limit:
        last = kept[rows.limit - 1]
        return Page(tuple(kept[: rows.limit]), _place(call.tenant_id, last))
    return Page(tuple(kept), reads.start)


def is_full(kept: Sequence[StoredEvent], limit: int) -> bool:
    """Whether no more may be read into a page."""
    return len(kept) >= limit or sum(len(row.body.encode()) for row in kept) >= LARGEST_PAGE


def _place(tenant_id: TenantId, row: StoredEvent) -> dict[str, str]:
    pk, sk = keys.event(tenant_id, row.id)
    return {"PK": pk, "SK": sk}


def check_filters(kind: str | None, session_id: str | None) -> None:
    """Raises Problem for a filter that no event can pass."""
    if kind is not None and not any(matches(kind, name) for name in events.TYPES):
        raise invalid_parameter(
            "type", "unknown_event_type", "No event type fits it; GET /v1/event-types lists them."
        )
    if session_id is not None and not ids.is_id(ids.SESSION, session_id):
        raise invalid_parameter("session_id", "malformed", "This is not a session's id.")


def span(since: str | None, until: str | None) -> tuple[str, str]:
    """The events' ids between which a list's lie. Raises Problem."""
    first = 0 if since is None else moment("since", since)
    end = LATEST if until is None else moment("until", until)
    if first > end:
        raise invalid_parameter("since", "out_of_range", "`since` must not lie after `until`.")
    return ids.floor(ids.EVENT, first), ids.floor(ids.EVENT, end)


def moment(name: str, given: str, *, or_else: str = "") -> int:
    """A parameter's instant in milliseconds. Raises Problem, with what else it may be."""
    # Litestar's own reading of a datetime takes a bare number, too, for seconds of Unix time.
    try:
        instant = msgspec.convert(given, datetime)
    except msgspec.ValidationError:
        detail = f"It is {or_else}an instant (RFC 3339), as in 2026-11-22T10:00:00Z."
        raise invalid_parameter(name, "malformed", detail) from None
    if instant.tzinfo is None:
        raise invalid_parameter(name, "no_offset", "An instant says its offset, as in …Z.")
    return min(max(int(instant.timestamp() * 1000), 0), LATEST)


def shown(row: StoredEvent) -> EventOut:
    """An event as it was or will be delivered, byte for byte."""
    # The stored bytes are an EventOut's already: decoding them to encode them again could only
    # change them.
    return cast("EventOut", msgspec.Raw(row.body.encode()))


ROUTES: Final = [list_events, read_event]
