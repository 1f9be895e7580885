"""An endpoint as its tenant writes and reads it, and the one way in which it is changed."""

from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final, assert_never

import msgspec
from msgspec import UNSET, Meta, UnsetType

from control_plane.call import Call
from control_plane.contention import contended, tries
from control_plane.fields import instant
from control_plane.problems import Problem, not_found
from shared import clock, headers, ids
from shared.ids import EndpointId
from shared.store import webhooks as store
from shared.webhook import DISABLED_AFTER, LONGEST_URL, Endpoint, EndpointStatus, live_retired

PATH: Final = "/v1/webhooks"
ITEM: Final = f"{PATH}/{{endpoint_id:str}}"

LARGEST_FILTER: Final = 50
"""Sessions or event patterns of one endpoint: each event is matched against all of them."""

Patterns = Annotated[
    tuple[Annotated[str, Meta(max_length=100)], ...],
    Meta(
        min_length=1,
        max_length=LARGEST_FILTER,
        description="Event types, families such as `message.*`, or `*`.",
        examples=[["message.*", "session.connected"]],
    ),
]
Sessions = Annotated[
    tuple[str, ...],
    Meta(max_length=LARGEST_FILTER, description="Only these sessions' events; none means all."),
]
Url = Annotated[
    str,
    Meta(max_length=LONGEST_URL, examples=["https://example.com/zapgate"]),
]
Description = Annotated[str, Meta(max_length=500)]
Instant = Annotated[datetime, Meta(extra_json_schema={"format": "date-time"})]
Headers = Annotated[
    dict[str, str],
    Meta(
        examples=[{"Authorization": "Bearer 3f9a0c71"}],
        extra_json_schema={"maxProperties": headers.MOST},
    ),
]
ABOUT_HEADERS: Final = (
    "Headers of your own on every request to it, such as a credential. They are kept sealed and "
    "not shown again. Values are visible ASCII; a header has at most "
    f"{headers.LONGEST} bytes, all together {headers.LARGEST}. These are not yours to set: "
    + ", ".join(f"`{pattern}`" for pattern in headers.RESERVED)
    + "."
)


class EndpointIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An endpoint to make."""

    url: Url
    """https, to a public host on port 443 or 8443."""
    events: Patterns = ("*",)
    sessions: Sessions = ()
    description: Description = ""
    headers: Annotated[Headers, Meta(description=ABOUT_HEADERS)] = msgspec.field(
        default_factory=dict[str, str]
    )


class EndpointPatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to change; what is not given stays."""

    url: Url | UnsetType = UNSET
    events: Patterns | UnsetType = UNSET
    sessions: Sessions | UnsetType = UNSET
    description: Description | UnsetType = UNSET
    headers: Headers | UnsetType = UNSET
    """As on creation, in place of all it had; `{}` removes them. With a `url` on another server
    they must be given, because those it has were meant for that one."""
    status: EndpointStatus | UnsetType = UNSET
    """As by pause and resume; `disabled` records no further events for it."""


class HealthState(StrEnum):
    HEALTHY = "healthy"
    FAILING = "failing"
    RESTING = "resting"
    """Its breaker is open."""


class HealthOut(msgspec.Struct, frozen=True, kw_only=True):
    """How an endpoint has been answering."""

    state: HealthState
    """`healthy`; `failing`: nothing succeeded since `failing_since`, and each delivery is tried
    again on its schedule; `resting`: nothing is sent before `next_probe_at`, and waits."""
    failing_since: datetime | None
    """The first failure since which nothing succeeded."""
    failures: int
    """Attempts failed since then, at least."""
    last_error: str | None
    """Code of the last failure."""
    next_probe_at: datetime | None
    """When a resting endpoint is tried again, once. Resume it to have it tried at once."""
    disables_at: datetime | None
    """When it is disabled, at the earliest, if nothing succeeds before."""


class EndpointOut(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint."""

    id: str
    url: str
    events: tuple[str, ...]
    sessions: tuple[str, ...]
    description: str
    header_names: Annotated[tuple[str, ...], Meta(examples=[["Authorization"]])]
    """Your own headers; their values are not shown."""
    status: EndpointStatus
    """`enabled`; `paused`: events wait for it; `disabled`: events are not recorded for it."""
    disabled_reason: str | None
    """Why it is disabled: by you, by what it answered, or for how long it failed."""
    health: HealthOut
    previous_secrets_until: tuple[Instant, ...]
    """For each former secret that signs beside the newest, when it stops."""
    created_at: datetime
    updated_at: datetime


class EndpointCreated(EndpointOut, frozen=True, kw_only=True):
    """An endpoint with its new signing secret, shown this once."""

    secret: str
    """`whsec_…`: give it to any library of Standard Webhooks."""


def shown(row: Endpoint, now: int) -> EndpointOut:
    return EndpointOut(
        id=row.id,
        url=row.url,
        events=row.events,
        sessions=row.sessions,
        description=row.description,
        header_names=row.header_names,
        status=row.status,
        disabled_reason=row.disabled_reason,
        health=_health(row),
        previous_secrets_until=tuple(clock.instant(each.until) for each in live_retired(row, now)),
        created_at=clock.instant(row.created_at),
        updated_at=clock.instant(row.updated_at),
    )


def _health(row: Endpoint) -> HealthOut:
    health = row.health
    # Nothing is sent to a paused or disabled one: it neither rests nor comes closer to its end.
    enabled = row.status is EndpointStatus.ENABLED
    state, probe_at, disables_at = HealthState.HEALTHY, None, None
    if health.failing_since is not None:
        state = HealthState.FAILING
        disables_at = health.failing_since + DISABLED_AFTER if enabled else None
    if enabled and health.open_until is not None:
        state, probe_at = HealthState.RESTING, health.open_until
    return HealthOut(
        state=state,
        failing_since=instant(health.failing_since),
        failures=health.failures,
        last_error=health.last_error,
        next_probe_at=instant(probe_at),
        disables_at=instant(disables_at),
    )


def found(call: Call, endpoint_id: str) -> Endpoint:
    """The tenant's endpoint. Raises Problem, the same whoever else's it may be."""
    row: Endpoint | None = None
    if ids.is_id(ids.ENDPOINT, endpoint_id):
        row = call.plane.aws.run(store.read_endpoint(call.tenant_id, EndpointId(endpoint_id)))
    if row is None:
        raise not_found("webhook endpoint")
    return row


def changed(
    call: Call, endpoint_id: str, change: Callable[[Endpoint], Endpoint]
) -> tuple[Endpoint, Endpoint]:
    """Change the tenant's endpoint: as it was, and as it is.

    Args:
        call: whose it is.
        endpoint_id: which.
        change: what is to become of it. It is asked again when another change came between, and
            hands the very endpoint back where there is nothing to change.

    Raises:
        Problem: there is no such endpoint, `change` refuses, or others kept changing it.
    """
    plane = call.plane
    for _ in tries():
        before = found(call, endpoint_id)
        after = change(before)
        if after is before:
            return before, before
        after = msgspec.structs.replace(after, updated_at=plane.now())
        if plane.aws.run(store.replace_endpoint(call.tenant_id, before, after)):
            return before, after
    raise contended()


def enabled(endpoint: Endpoint, to_do: str) -> Endpoint:
    """The endpoint, if deliveries to it are attempted. Raises Problem."""
    match endpoint.status:
        case EndpointStatus.ENABLED:
            return endpoint
        case EndpointStatus.PAUSED:
            said = f"The endpoint is paused: resume it, then {to_do}."
        case EndpointStatus.DISABLED:
            said = f"The endpoint is disabled: enable it, then {to_do}."
        case _:
            assert_never(endpoint.status)
    raise Problem("conflict", said)
