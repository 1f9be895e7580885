"""Recoveries: many deliveries of an endpoint sent again, and how far that is.

Ordered here, carried out by gateways: what is found is counted first, so that nobody orders more
than they can mean.
"""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final

import msgspec
from litestar import Response, get, post
from litestar.params import FromPath, JSONBody
from msgspec import Meta

from control_plane import paging, waiting
from control_plane.call import Call
from control_plane.contention import contended, tries
from control_plane.endpoints import ITEM, LARGEST_FILTER, enabled, found
from control_plane.fields import instant
from control_plane.idempotency import Answer, once, reply
from control_plane.paging import DEFAULT_LIMIT, Cursor, Limit, PageOut
from control_plane.problems import Problem, invalid_value, not_found
from shared import clock, events, ids
from shared.delivery import DeliveryState
from shared.ids import EndpointId, RecoveryId, SessionId
from shared.recovery import (
    HIGHEST_RATE,
    MOST_FOUND,
    USUAL_RATE,
    Recovery,
    RecoveryKind,
    RecoveryState,
    over,
    progress,
)
from shared.store import recoveries as store
from shared.store.dynamo import Page
from shared.store.events import KEEP
from shared.tenant import Scope
from shared.webhook import matches

PATH: Final = f"{ITEM}/recoveries"
ONE: Final = f"{PATH}/{{recovery_id:str}}"

MOST_COUNTED: Final = 5 * MOST_FOUND
"""Where counting ends: beyond it, how many there are exactly is of no use to anybody."""
COUNTED_ROWS: Final = 2_000
"""Rows of one counting read; DynamoDB ends it at a megabyte, which is about as many."""
COUNTING_READS: Final = 50
"""At some twenty milliseconds each, they stay far below an HTTP API's thirty seconds."""


class Recoverable(StrEnum):
    """States whose deliveries can be recovered. What is held is released by resuming."""

    GAVE_UP = "gave_up"
    WAITING = "waiting"
    """Their next attempt is made now instead of later."""
    DELIVERED = "delivered"
    """Sent once more, for a receiver that has lost them."""


class RecoverIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which deliveries to send again."""

    since: Annotated[
        datetime, Meta(tz=True, description="Of events not before this; at most 30 days ago.")
    ]
    until: (
        Annotated[datetime, Meta(tz=True, description="Of events before this; now if not given.")]
        | None
    ) = None
    types: Annotated[
        tuple[Annotated[str, Meta(max_length=100)], ...],
        Meta(
            max_length=LARGEST_FILTER,
            description="Event types, or families such as `message.*`; none means all.",
        ),
    ] = ()
    session_id: str | None = None
    """Only this session's events."""
    states: Annotated[tuple[Recoverable, ...], Meta(min_length=1, max_length=len(Recoverable))] = (
        Recoverable.GAVE_UP,
    )
    dry_run: bool = False
    """Only say how many there are."""
    per_second: Annotated[
        int, Meta(ge=1, le=HIGHEST_RATE, description="Deliveries sent a second at the most.")
    ] = USUAL_RATE


class RecoveryFound(msgspec.Struct, frozen=True, kw_only=True):
    """What a recovery would send again."""

    found: int
    more: bool
    """Whether there are more than were counted: then a recovery of them is refused."""
    allowed: int = MOST_FOUND
    """How many one recovery may send."""


class RecoveryOut(msgspec.Struct, frozen=True, kw_only=True):
    """A job that sends deliveries again, or releases what was held for an endpoint."""

    id: str
    endpoint_id: str
    kind: RecoveryKind
    state: RecoveryState
    """`done` once all of them are due again, which is before the last of them is sent."""
    reason: str | None
    """Why it was stopped: `endpoint_disabled` or `endpoint_paused`."""
    waits_for: str | None
    """`endpoint_paused` or `endpoint_resting`, while it moves nothing because of that."""
    since: datetime | None
    until: datetime | None
    types: tuple[str, ...]
    session_id: str | None
    states: tuple[DeliveryState, ...]
    per_second: int
    found: int | None
    """How many there were when it was ordered; null where nobody counted."""
    moved: int
    """Deliveries that are due again, or were since. What becomes of each is in the deliveries."""
    skipped: int
    """Deliveries that something else had moved meanwhile."""
    progress: float | None
    """The share of what was found that is dealt with, from 0 to 1; null where nobody counted, as
    for a resumption."""
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None


@post(f"{ITEM}/recover", needs=Scope.WEBHOOKS_WRITE, status_code=202)
async def recover_endpoint(
    endpoint_id: FromPath[str], data: JSONBody[RecoverIn], request: Call
) -> Response[RecoveryOut | RecoveryFound]:
    """Send again what was given up, or whatever else you choose, at a bounded rate.

    Each event keeps its `webhook-id`. A pending retry is replaced, and each delivery begins a fresh
    schedule. One recovery of an endpoint runs at a time, and takes 10,000 deliveries at the most;
    a `dry_run` counts them. None begins while the endpoint is paused or disabled: that is 409. One
    that has begun waits while the endpoint is paused or rests from failures. It is `done` when all
    are due again, not when all were sent: read the deliveries for what becomes of them. With
    `Prefer: wait=N` the answer waits for the recovery to be over in this sense.
    """

    def work() -> Answer[RecoveryOut | RecoveryFound]:
        endpoint = found(request, endpoint_id)
        job = _ordered(request, endpoint.id, data)
        if not data.dry_run:
            enabled(endpoint, "recover")
        number, more = _count(request, job)
        if data.dry_run:
            return Answer(200, RecoveryFound(found=number, more=more))
        if more or number > MOST_FOUND:
            raise _too_many(number, more=more)
        job = msgspec.structs.replace(job, found=number)
        running = request.plane.aws.run(store.begin_recovery(request.tenant_id, job))
        if running is None:
            raise Problem("conflict", "The endpoint was paused, disabled or deleted meanwhile.")
        if running != job.id:
            raise Problem(
                "conflict",
                f"{running} is recovering this endpoint: wait for its end, or cancel it.",
            )
        return Answer(202, shown(job), f"/v1/webhooks/{endpoint.id}/recoveries/{job.id}")

    done = await once(request, work)
    if not isinstance(done.body, RecoveryOut) or not request.wait:
        return done.response
    op = store.read(request.tenant_id, EndpointId(endpoint_id), RecoveryId(done.body.id))
    job = await waiting.until(
        request,
        lambda: request.plane.aws.run(op),
        lambda row: row is None or row.finished_at is not None,
    )
    return reply(
        202 if job is None or job.finished_at is None else 200,
        msgspec.json.encode(done.body if job is None else shown(job)),
        done.response.headers["Location"],
        waiting.applied(request),
    )


@get(PATH, needs=Scope.WEBHOOKS_READ)
async def list_recoveries(
    endpoint_id: FromPath[str],
    request: Call,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Response[PageOut[RecoveryOut]]:
    """List an endpoint's recoveries, newest first, and last its resumption.

    There is one resumption to an endpoint: it begins anew whenever the endpoint is resumed or
    enabled, or has recovered. They are kept for thirty days.
    """
    name = f"recoveries|{endpoint_id}"
    rows = paging.page(request, name, limit, cursor)

    def read() -> Page[Recovery]:
        endpoint = found(request, endpoint_id)
        return request.plane.aws.run(store.every(request.tenant_id, endpoint.id, rows))

    return paging.answer(request, name, await request.run(read), shown)


@get(ONE, needs=Scope.WEBHOOKS_READ)
async def read_recovery(
    endpoint_id: FromPath[str], recovery_id: FromPath[str], request: Call
) -> Response[RecoveryOut]:
    """Read how far a recovery is."""
    job = await request.run(lambda: _found(request, endpoint_id, recovery_id))
    return reply(200, msgspec.json.encode(shown(job)))


@post(f"{ONE}/cancel", needs=Scope.WEBHOOKS_WRITE, status_code=200)
async def cancel_recovery(
    endpoint_id: FromPath[str], recovery_id: FromPath[str], request: Call
) -> Response[RecoveryOut]:
    """Cancel a recovery. What it has moved stays moved and is sent.

    That is what was due until now, and at the most ten seconds' worth of what follows.
    """

    def work() -> Answer[RecoveryOut]:
        for _ in tries():
            job = _found(request, endpoint_id, recovery_id)
            if job.state is RecoveryState.CANCELLED:
                return Answer(200, shown(job))
            if job.state is not RecoveryState.RUNNING:
                raise Problem("conflict", f"The recovery is {job.state.value} already.")
            if job.kind is RecoveryKind.RESUME:
                raise Problem(
                    "conflict", "A resumption is not cancelled: pause the endpoint instead."
                )
            ended = over(job, RecoveryState.CANCELLED, request.plane.now())
            if request.plane.aws.run(store.finish(request.tenant_id, job, ended)):
                return Answer(200, shown(ended))
        raise contended()

    return (await once(request, work)).response


def shown(row: Recovery) -> RecoveryOut:
    ordered = row.kind is RecoveryKind.RECOVER
    return RecoveryOut(
        id=row.id,
        endpoint_id=row.endpoint_id,
        kind=row.kind,
        state=row.state,
        reason=row.reason,
        waits_for=row.waits_for,
        since=clock.instant(ids.minted_at(row.low)) if ordered else None,
        until=clock.instant(ids.minted_at(row.high)) if ordered else None,
        types=row.types,
        session_id=row.session_id,
        states=row.states,
        per_second=row.per_second,
        found=row.found,
        moved=row.moved,
        skipped=row.skipped,
        progress=progress(row),
        created_at=clock.instant(row.created_at),
        updated_at=clock.instant(row.updated_at),
        finished_at=instant(row.finished_at),
    )


def _ordered(call: Call, endpoint_id: EndpointId, data: RecoverIn) -> Recovery:
    """The job a body asks for. Raises Problem."""
    now = call.plane.now()
    since = clock.moment(data.since)
    until = now if data.until is None else min(clock.moment(data.until), now)
    if since < now - KEEP:
        raise invalid_value(
            "/since", "out_of_range", "Deliveries are kept for thirty days: begin later."
        )
    if since >= until:
        pointer = "/since" if data.until is None else "/until"
        raise invalid_value(pointer, "out_of_range", "`since` must lie before `until`, and now.")
    for index, pattern in enumerate(data.types):
        if not any(matches(pattern, name) for name in events.TYPES):
            raise invalid_value(
                f"/types/{index}",
                "unknown_event_type",
                "No event type fits it; GET /v1/event-types lists them.",
            )
    if data.session_id is not None and not ids.is_id(ids.SESSION, data.session_id):
        raise invalid_value("/session_id", "malformed", "This is not a session's id.")
    return Recovery(
        id=RecoveryId(clock.mint(ids.RECOVERY)),
        tenant_id=call.tenant_id,
        endpoint_id=endpoint_id,
        kind=RecoveryKind.RECOVER,
        state=RecoveryState.RUNNING,
        created_at=now,
        updated_at=now,
        states=tuple(dict.fromkeys(DeliveryState(state) for state in data.states)),
        low=ids.floor(ids.EVENT, since),
        high=ids.floor(ids.EVENT, until),
        types=() if "*" in data.types else tuple(dict.fromkeys(data.types)),
        session_id=None if data.session_id is None else SessionId(data.session_id),
        per_second=data.per_second,
        passes_from=now,
        asked_at=now,
        due_at=now,
    )


def _count(call: Call, job: Recovery) -> tuple[int, bool]:
    """How many deliveries a job would find, and whether there are more than were counted."""
    found = 0
    start: Mapping[str, str] | None = None
    for _ in range(COUNTING_READS):
        op = store.count(call.tenant_id, job, COUNTED_ROWS, start)
        counted = call.plane.aws.run(op)
        found, start = found + counted.found, counted.next
        if start is None or found > MOST_COUNTED:
            break
    return found, start is not None


def _too_many(found: int, *, more: bool) -> Problem:
    if more and found <= MOST_FOUND:
        said = f"There is too much to look through; {found:,} were found in the first part of it."
    else:
        said = f"{'More than ' if more else ''}{found:,} are found; {MOST_FOUND:,} are allowed."
    return Problem("too_many_deliveries", said, found=found)


def _found(call: Call, endpoint_id: str, recovery_id: str) -> Recovery:
    endpoint = found(call, endpoint_id)
    row: Recovery | None = None
    if ids.is_id(ids.RECOVERY, recovery_id):
        op = store.read(call.tenant_id, endpoint.id, RecoveryId(recovery_id))
        row = call.plane.aws.run(op)
    if row is None:
        raise not_found("recovery")
    return row


ROUTES: Final = [recover_endpoint, list_recoveries, read_recovery, cancel_recovery]
