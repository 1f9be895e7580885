"""The event log: a tenant's events in the order they were recorded, read by cursor.

A receiver that was down, or that wants no webhooks, reads on from where it was and has them all,
each at least once. `shared.store.events` says what the order is and why nothing appears behind a
cursor: the log is shown as far as it has settled, ten seconds behind the present.

A cursor is a place and nothing else. It may be used with other filters than those it was given
with, and as often as one likes; it is good for as long as what follows it is kept.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Final, cast

import msgspec
from litestar import Response, get
from litestar.params import QueryParameter

from control_plane import paging, waiting
from control_plane.call import Call
from control_plane.events import (
    EventOut,
    Kind,
    OfSession,
    check_filters,
    is_full,
    moment,
    shown,
)
from control_plane.idempotency import reply
from control_plane.problems import Problem, invalid_parameter
from shared import clock
from shared.aws import Op
from shared.ids import SessionId
from shared.store import events as store
from shared.store.dynamo import Page
from shared.store.events import KEEP, SETTLE, StoredEvent
from shared.tenant import Scope

PATH: Final = "/v1/event-log"

DEFAULT_LIMIT: Final = 100
LARGEST_LIMIT: Final = 500
"""Events of a page; large ones end it earlier."""
FILTERED_ROWS: Final = 200
"""Rows read at a time where a filter may pass over most of them."""
MOST_READS: Final = 10
"""Reads for one page. The cursor has then moved beyond what was passed over, so that whoever looks
for a rare type goes on from there."""
OLDEST: Final = KEEP - clock.HOUR
"""The age at which `from=beginning` begins: an hour before a cursor expires, so that whoever reads
from there is not overtaken at once."""

_NAME: Final = "event-log"


class LogOut(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the log, oldest first."""

    data: tuple[EventOut, ...]
    next_cursor: str
    """Where to go on, always: keep it once you have dealt with `data`, and send it as `after`."""
    caught_up: bool
    """Whether there is no more for now. If not, ask again at once, even if `data` is empty."""
    settled_until: datetime
    """What was recorded before this instant is in the log; what is younger follows."""


@dataclass(frozen=True, slots=True)
class Part:
    """What one request found."""

    rows: tuple[StoredEvent, ...]
    place: str
    """Where the next part begins."""
    until: int
    caught_up: bool


After = Annotated[
    str | None, QueryParameter(max_length=2_048, description="`next_cursor` of the part before.")
]
Begin = Annotated[
    str | None,
    QueryParameter(
        name="from",
        max_length=40,
        description="Where to begin without a cursor: `beginning` (as far back as the log goes, "
        "which is meant where nothing is said), `now`, or an instant (RFC 3339) not after now.",
    ),
]
Limit = Annotated[
    int,
    QueryParameter(ge=1, le=LARGEST_LIMIT, description="How many to return at the most."),
]


@get(PATH, needs=Scope.EVENTS_READ)
async def read_event_log(
    *,
    request: Call,
    after: After = None,
    begin: Begin = None,
    kind: Kind = None,
    session_id: OfSession = None,
    limit: Limit = DEFAULT_LIMIT,
) -> Response[LogOut]:
    """Read events in the order they were recorded, from where you were.

    Send `next_cursor` as `after` of the next request, for ever: a receiver that was down has missed
    nothing. The log is some ten seconds behind the present and thirty days long; a cursor older
    than that is 410 `cursor_expired`. With `Prefer: wait=N` the answer waits for an event if there
    is none. Events of one session come by their `sequence`; drop an `id` you have seen.
    """
    check_filters(kind, session_id)
    now = request.plane.now()
    if after is not None and begin is not None:
        raise invalid_parameter("from", "with_after", "A cursor says where to begin already.")
    place = _beginning(begin, now) if after is None else _given(request, after, now)
    read = Reading(request, place, limit, None if kind == "*" else kind, session_id)
    part = await waiting.until(request, read, lambda seen: bool(seen.rows) or not seen.caught_up)
    body = LogOut(
        data=tuple(shown(row) for row in part.rows),
        next_cursor=paging.cursor_of(request, _NAME, part.place),
        caught_up=part.caught_up,
        settled_until=clock.instant(part.until),
    )
    return reply(200, msgspec.json.encode(body), headers=waiting.applied(request))


@dataclass(slots=True)
class Reading:
    """Reads on, from where it was, each time it is called."""

    call: Call
    place: str
    limit: int
    kind: str | None
    session_id: str | None

    def __call__(self) -> Part:
        until = self.call.plane.now() - SETTLE
        kept: list[StoredEvent] = []
        # It may lie ahead: of a process with a later clock, or an instant that is yet to settle.
        caught_up = self.place >= store.place_at(until)
        for _ in range(MOST_READS):
            if caught_up or is_full(kept, self.limit):
                break
            page = self.call.plane.aws.run(self._read(until, self.limit - len(kept)))
            kept.extend(page.rows)
            caught_up = page.next is None
            self.place = store.place_at(until) if page.next is None else page.next["GSI1SK"]
        if len(kept) > self.limit:
            del kept[self.limit :]
            self.place, caught_up = store.place_of(kept[-1]), False
        return Part(tuple(kept), self.place, until, caught_up)

    def _read(self, until: int, room: int) -> Op[Page[StoredEvent]]:
        filtered = self.kind is not None or self.session_id is not None
        return store.read_log(
            self.call.tenant_id,
            self.place,
            until,
            FILTERED_ROWS if filtered else room,
            kind=self.kind,
            session_id=None if self.session_id is None else SessionId(self.session_id),
        )


def _given(call: Call, cursor: str, now: int) -> str:
    place = cast("str", paging.opened(call, _NAME, cursor))
    if store.moment_of(place) < now - KEEP:
        raise Problem(
            "cursor_expired",
            "The cursor is older than thirty days, and so may be the first event after it.",
        )
    return place


def _beginning(begin: str | None, now: int) -> str:
    oldest = now - OLDEST
    match begin:
        case None | "beginning":
            return store.place_at(oldest)
        case "now":
            # What has not settled yet may be what is happening now.
            return store.place_at(now - SETTLE)
        case _:
            since = moment("from", begin, or_else="`beginning`, `now`, or ")
            if since > now:
                # The cursor would lie ahead of events that nobody then sees.
                raise invalid_parameter("from", "out_of_range", "It must not be later than now.")
            return store.place_at(max(since, oldest))


ROUTES: Final = [read_event_log]
