"""Events: rows and requests; and the log, in which they are read in the order they were recorded.

An event's id is minted where it happens; its row may appear much later, when a killed gateway's
journal is recorded by the next. So the log is not ordered by ids but by `recorded_at`, with which a
writer stamps an event when its request is about to be sent. A reader goes on from its last place
and must find whatever appears from then on beyond it, so it is shown only what is older than
`SETTLE`: older than any request that may still be under way with an older stamp.

What that rests on, part by part:

- `WITHIN`: a writer gives a stamped request no longer than this and then stamps anew. If the first
  one is carried out all the same, the second finds the event stored. A writer that cannot break a
  request off stamps it later by as much.
- `SKEW`: how far writers' and readers' clocks may be apart.
- `LAG`: how long the index may take to show a row that is written.

It breaks where one of these is exceeded: a clock further off than `SKEW`, an index that lags for
longer, or a network that delivers a request whose sender gave up long ago, and before the repeat.
Then an event may appear behind a reader's place: its webhook and `GET /v1/events` have it, the log
only for those who read that part later.

A session's events are recorded one after the other, so the log has them by their `sequence`. Where
a session passes from one gateway to another whose clock is behind, the first that the new one
records may stand before the last of the old one; the sequence tells.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from shared import clock
from shared.aws import Op
from shared.ids import EventId, SessionId, TenantId
from shared.store import keys
from shared.store.dynamo import (
    ABSENT,
    Expression,
    Item,
    Page,
    Range,
    Write,
    attribute,
    get,
    plain,
    put,
    query,
    to_item,
)

KEEP: Final = 30 * clock.DAY
"""How long events, their deliveries and attempts are kept."""

WITHIN: Final = 5 * clock.SECOND
"""How long a request that records an event may take, repeats included, from its stamp on."""
UNBOUND: Final = 25 * clock.SECOND
"""What a writer that cannot break a request off adds to its stamp: a function of the control plane
ends after 30 s, and its requests with it."""
SKEW: Final = 2 * clock.SECOND
"""Clocks that follow AWS's time service agree to a few milliseconds; this is for those that do not
quite."""
LAG: Final = 3 * clock.SECOND
"""An index shows a write within a fraction of a second, as a rule; AWS promises no bound."""
SETTLE: Final = WITHIN + SKEW + LAG
"""The age at which no event can appear any more before those that are there."""

LATEST: Final = 9_999_999_999_999
"""The last moment (ms, in the year 2286) that fits a place in the log."""


class StoredEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event as stored: the exact bytes that are sent, and what lists are filtered by."""

    id: EventId
    tenant_id: TenantId
    type: str
    created_at: int
    """When it happened."""
    recorded_at: int
    """When the request that stores it was about to be sent: its place in the log. No more than
    `WITHIN` may pass between this and the request's end."""
    body: str
    session_id: SessionId | None = None
    sequence: int | None = None
    example: bool | None = None
    """True for the catalogue's example of its type, sent as a test: it never happened, so it is in
    no list and not in the log."""


def record_event(tenant_id: TenantId, event: StoredEvent) -> Write:
    """Write an event once: the condition fails where it is stored already."""
    item = to_item(
        event,
        keys.event(tenant_id, event.id),
        ttl=(event.recorded_at + KEEP) // clock.SECOND,
        GSI1PK=None if event.example else keys.log_partition(tenant_id),
        GSI1SK=None if event.example else place_of(event),
    )
    return put(item, ABSENT)


def stamped(writes: Sequence[Write], at: int) -> list[Write]:
    """The same writes, the events among them recorded at `at` (ms)."""
    return [
        _stamped(write, at) if "recorded_at" in write.body.get("Item", ()) else write
        for write in writes
    ]


def _stamped(write: Write, at: int) -> Write:
    item: Item = write.body["Item"]
    sequence = plain(item["sequence"]) if "sequence" in item else None
    fresh = {
        **item,
        "recorded_at": attribute(at),
        "GSI1SK": attribute(_place(at, sequence, plain(item["id"]))),
        "ttl": attribute((at + KEEP) // clock.SECOND),
    }
    return Write(write.kind, {**write.body, "Item": fresh})


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
    only = _only(kind, session_id)
    return query(keys.events_partition(tenant_id), StoredEvent, rows, between=between, only=only)


def place_of(event: StoredEvent) -> str:
    """An event's place in the log: by when it was recorded, those of a session by `sequence`."""
    return _place(event.recorded_at, event.sequence, event.id)


def _place(recorded_at: int, sequence: int | None, event_id: str) -> str:
    return f"{recorded_at:013}#{sequence or 0:010}#{event_id}"


def place_at(moment: int) -> str:
    """The place before everything that was recorded at `moment` (ms) or later."""
    return f"{min(max(moment, 0), LATEST):013}"


def moment_of(place: str) -> int:
    """The time (ms) of a place in the log."""
    return int(place.partition("#")[0])


def read_log(
    tenant_id: TenantId,
    after: str,
    until: int,
    limit: int,
    *,
    kind: str | None = None,
    session_id: SessionId | None = None,
) -> Op[Page[StoredEvent]]:
    """Up to `limit` rows beyond a place that were recorded before `until`, oldest first.

    Of these the page holds what is of the kind and session; `next` is the place of the last row
    that was looked at, under `GSI1SK`. `after` must lie before `until`.
    """
    # A place goes on with nothing or `#`: with a character before that one, `after` itself is left
    # out and whatever follows it is not.
    between = after + "!", place_at(until)
    return query(
        keys.log_partition(tenant_id),
        StoredEvent,
        Range(limit, newest_first=False),
        between=between,
        only=_only(kind, session_id),
        index=True,
    )


def _only(kind: str | None, session_id: SessionId | None) -> Expression:
    parts = ["attribute_not_exists(#example)"]
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
    return Expression(" AND ".join(parts), values)
