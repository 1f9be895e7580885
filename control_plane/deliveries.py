"""Deliveries: events on their way to an endpoint, and each attempt at them."""

import logging
from datetime import datetime
from typing import Annotated, Final

import msgspec
from litestar import Response, get
from litestar.params import FromPath, QueryParameter

from control_plane import paging
from control_plane.call import Call
from control_plane.endpoints import ITEM, found
from control_plane.events import Order, check_filters, span
from control_plane.fields import instant
from control_plane.idempotency import reply
from control_plane.paging import DEFAULT_LIMIT, Cursor, Limit, PageOut
from control_plane.problems import not_found
from shared import clock, ids
from shared.delivery import Attempt, Delivery, DeliveryState, HeldBy, Outcome, Phases, Trigger
from shared.ids import EndpointId, EventId, SessionId, TenantId
from shared.store import deliveries as store
from shared.store import keys
from shared.store.deliveries import Choice
from shared.store.dynamo import Page, Range
from shared.tenant import Scope

log = logging.getLogger(__name__)

PATH: Final = f"{ITEM}/deliveries"
ONE: Final = f"{PATH}/{{event_id:str}}"

FILTERED_ROWS: Final = 200
"""Rows read at a time where a filter may pass over most of them."""
MOST_READS: Final = 10
"""Reads for one page; what is rare may need another page with more to come."""
ATTEMPTS_SHOWN: Final = 50
"""Of one delivery: four times a whole schedule."""


class DeliveryOut(msgspec.Struct, frozen=True, kw_only=True):
    """An event on its way to an endpoint."""

    event_id: str
    """Sent as `webhook-id`, the same in every attempt."""
    endpoint_id: str
    event_type: str
    session_id: str | None
    state: DeliveryState
    held_by: HeldBy | None
    """What it waits for, where it is held: no attempt is made meanwhile, and none is counted."""
    trigger: Trigger
    """Why it is attempted, or was last."""
    attempts: int
    """How many were begun, redeliveries included."""
    last_status: int | None
    """HTTP status of the last answer."""
    last_error: str | None
    """Code of the last failure."""
    next_attempt_at: datetime | None
    created_at: datetime
    updated_at: datetime


class AttemptOut(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt of a delivery. Secrets in its headers are masked."""

    number: int
    began_at: datetime
    trigger: Trigger
    outcome: Outcome
    url: str
    status: int | None
    """Of the answer; null where there was none."""
    error: str | None
    """Code of the failure."""
    next_at: datetime | None
    """When the next attempt was to be made, where there was one to be."""
    phases: Phases | None
    """Milliseconds."""
    request_headers: dict[str, str]
    response_headers: dict[str, str]
    response_body: str
    """Its beginning."""
    response_cut: bool
    """Whether the answer's body was longer than what is kept."""


class DeliveryLog(DeliveryOut, frozen=True, kw_only=True):
    """A delivery with its attempts."""

    log: tuple[AttemptOut, ...]
    """The last fifty attempts that are over, in their order."""


State = Annotated[
    DeliveryState | None,
    QueryParameter(
        name="state",
        description="Only deliveries in this state. `held` and `gave_up` come from an index that "
        "is about a second behind.",
    ),
]
Kind = Annotated[
    str | None, QueryParameter(name="type", description="An event type, or `message.*`.")
]
OfSession = Annotated[
    str | None, QueryParameter(description="Only deliveries of this session's events.")
]
Since = Annotated[
    str | None,
    QueryParameter(
        format="date-time", description="Only of events not before this instant (RFC 3339)."
    ),
]
Until = Annotated[
    str | None,
    QueryParameter(
        format="date-time", description="Only of events before this instant (RFC 3339)."
    ),
]
Which = Annotated[Order, QueryParameter(description="Which events' deliveries come first.")]


@get(PATH, needs=Scope.WEBHOOKS_READ)
async def list_deliveries(
    *,
    endpoint_id: FromPath[str],
    request: Call,
    state_: State = None,
    kind: Kind = None,
    session_id: OfSession = None,
    since: Since = None,
    until: Until = None,
    order: Which = Order.NEWEST,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Response[PageOut[DeliveryOut]]:
    """List an endpoint's deliveries by state, type, session and time.

    They are kept for thirty days. A page may be short, or empty, with more to come.
    """
    check_filters(kind, session_id)
    between = span(since, until)
    choice = Choice(
        states=() if state_ is None else (state_,),
        types=() if kind is None or kind == "*" else (kind,),
        session_id=None if session_id is None else SessionId(session_id),
    )
    name = f"deliveries|{endpoint_id}|{state_}|{kind}|{session_id}|{between}|{order}"
    rows = paging.page(request, name, limit, cursor, newest_first=order is Order.NEWEST)

    def read() -> Page[Delivery]:
        endpoint = found(request, endpoint_id)
        if between[0] >= between[1]:
            return Page((), None)
        return _read(request, endpoint.id, choice, rows, between)

    return paging.answer(request, name, await request.run(read), shown)


@get(ONE, needs=Scope.WEBHOOKS_READ)
async def read_delivery(
    endpoint_id: FromPath[str], event_id: FromPath[str], request: Call
) -> Response[DeliveryLog]:
    """Read a delivery and what became of each attempt."""

    def read() -> DeliveryLog:
        endpoint = found(request, endpoint_id)
        row = find(request, endpoint.id, event_id)
        if row is None:
            raise not_found("delivery")
        made = tuple(shown_attempt(each) for each in attempts(request, row, ATTEMPTS_SHOWN))
        return DeliveryLog(log=made, **msgspec.structs.asdict(shown(row)))

    return reply(200, msgspec.json.encode(await request.run(read)))


def shown(row: Delivery) -> DeliveryOut:
    waits = row.state is DeliveryState.WAITING
    return DeliveryOut(
        event_id=row.event_id,
        endpoint_id=row.endpoint_id,
        event_type=row.event_type,
        session_id=row.session_id,
        state=row.state,
        held_by=row.held_by,
        trigger=row.trigger,
        attempts=row.attempt,
        last_status=row.last_status,
        last_error=row.last_error,
        next_attempt_at=instant(row.due_at) if waits else None,
        created_at=clock.instant(row.created_at),
        updated_at=clock.instant(row.updated_at),
    )


def shown_attempt(row: Attempt) -> AttemptOut:
    return AttemptOut(
        number=row.number,
        began_at=clock.instant(row.began_at),
        trigger=row.trigger,
        outcome=row.outcome,
        url=row.url,
        status=row.status,
        error=row.error,
        next_at=instant(row.next_at),
        phases=row.phases,
        request_headers=row.request_headers,
        response_headers=row.response_headers,
        response_body=row.response_body,
        response_cut=row.response_cut,
    )


def attempts(call: Call, delivery: Delivery, most: int) -> list[Attempt]:
    """The last attempts of a delivery, in their order."""
    kept: list[Attempt] = []
    rows = Range(most)
    while True:
        page = call.plane.aws.run(
            store.every_attempt(call.tenant_id, delivery.endpoint_id, delivery.event_id, rows)
        )
        kept.extend(page.rows)
        # Attempts carry bodies: fifty may be more than DynamoDB reads at once.
        if page.next is None or len(kept) >= most:
            return kept[:most][::-1]
        rows = Range(most, page.next)


def find(call: Call, endpoint_id: EndpointId, event_id: str) -> Delivery | None:
    """The delivery of an event to an endpoint, if there is one."""
    if not ids.is_id(ids.EVENT, event_id):
        return None
    op = store.read_delivery(call.tenant_id, endpoint_id, EventId(event_id))
    return call.plane.aws.run(op)


def _read(
    call: Call,
    endpoint_id: EndpointId,
    choice: Choice,
    rows: Range,
    between: tuple[str, str],
) -> Page[Delivery]:
    """A page. Filters apply after DynamoDB's limit, so a filtered one is read in several goes."""
    kept: list[Delivery] = []
    size = rows.limit if choice.only is None else FILTERED_ROWS
    reads = Range(size, rows.start, rows.newest_first)
    for _ in range(MOST_READS):
        op = store.chosen(call.tenant_id, endpoint_id, choice, reads, between=between)
        page = call.plane.aws.run(op)
        kept.extend(page.rows)
        reads = Range(size, page.next, rows.newest_first)
        if page.next is None or len(kept) >= rows.limit:
            break
    if len(kept) > rows.limit:
        last = kept[rows.limit - 1]
        return Page(tuple(kept[: rows.limit]), _place(call.tenant_id, last, choice))
    return Page(tuple(kept), reads.start)


def _place(tenant_id: TenantId, row: Delivery, choice: Choice) -> dict[str, str]:
    pk, sk = keys.delivery(tenant_id, row.endpoint_id, row.event_id)
    if choice.index is None:
        return {"PK": pk, "SK": sk}
    listed = keys.deliveries_in(tenant_id, row.endpoint_id, choice.index)
    return {"PK": pk, "SK": sk, "GSI1PK": listed, "GSI1SK": row.event_id}


ROUTES: Final = [list_deliveries, read_delivery]
