"""Webhook endpoints: where a tenant receives events, and how they have been answering."""

from enum import StrEnum
from typing import Final

import msgspec

from shared import clock
from shared.ids import EndpointId, SessionId, TenantId

ENDPOINTS_PER_TENANT: Final = 50
"""Every event is matched against all of them, so the number is bounded."""
LONGEST_URL: Final = 2_048
RETIRED_SECRETS: Final = 3
"""Former secrets that may still sign beside the newest: each makes every header longer."""
LONGEST_OVERLAP: Final = 7 * clock.DAY
"""How long (ms) a former secret may go on to sign: long enough for any receiver to be changed."""
DISABLED_AFTER: Final = 5 * clock.DAY
"""An endpoint is disabled that long (ms) after its last success, if enough failed since."""


class EndpointStatus(StrEnum):
    ENABLED = "enabled"
    PAUSED = "paused"
    """Events are recorded for it and wait until it is resumed."""
    DISABLED = "disabled"
    """Events are not recorded for it; what was on its way is given up, and can be recovered."""


class Retired(msgspec.Struct, frozen=True, kw_only=True):
    """A former secret, which signs beside the newest until `until` (ms)."""

    sealed: bytes
    until: int


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """How an endpoint has been answering, as all gateways know it. The default is a healthy one."""

    failing_since: int | None = None
    """The first failure (ms) since which nothing succeeded."""
    failures: int = 0
    """Attempts failed since then. Gateways add theirs up and write now and then: a lower bound."""
    last_error: str | None = None
    opened: int = 0
    """How many times in a row its breaker opened; 0 while it is closed."""
    open_until: int | None = None
    """Until then (ms) no attempt is made; then exactly one, which moves this on as its claim."""
    warned: int = 0
    """How many of the warnings before it is disabled were given."""


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where a tenant receives events."""

    id: EndpointId
    tenant_id: TenantId
    url: str
    events: tuple[str, ...]
    """Event types, or `message.*`, or `*`."""
    sealed_secret: bytes
    """The signing secret under `shared.sealing`, for `owner`."""
    status: EndpointStatus
    created_at: int
    updated_at: int
    """Of the last change its tenant made, or that disabled it."""
    version: int = 0
    """Counts the writes of this row: whoever replaces it says which it saw."""
    description: str = ""
    sessions: tuple[SessionId, ...] = ()
    """Only these sessions' events; empty means all."""
    disabled_reason: str | None = None
    retired: tuple[Retired, ...] = ()
    """Former secrets, newest first; those whose time is over sign no more."""
    header_names: tuple[str, ...] = ()
    sealed_headers: bytes | None = None
    """The tenant's own headers as a JSON object, sealed like the secret: they may hold one."""
    health: Health = Health()

    @property
    def owner(self) -> str:
        """What the secrets are sealed for."""
        return f"{self.tenant_id}/{self.id}"

    @property
    def receives(self) -> bool:
        """Whether attempts are made: it is enabled, and its breaker is closed."""
        return self.status is EndpointStatus.ENABLED and self.health.open_until is None

    def wants(self, event_type: str, session_id: SessionId | None) -> bool:
        """Whether an event of this type and session is recorded for it."""
        if self.status is EndpointStatus.DISABLED:
            return False
        if self.sessions and session_id not in self.sessions:
            return False
        return any(matches(pattern, event_type) for pattern in self.events)


def matches(pattern: str, event_type: str) -> bool:
    """`*` matches all, `message.*` all of a family, anything else itself."""
    if pattern == "*":
        return True
    if pattern.endswith(".*"):
        return event_type.startswith(pattern[:-1])
    return pattern == event_type


def live_secrets(endpoint: Endpoint, now: int) -> tuple[bytes, ...]:
    """The sealed secrets that sign at `now` (ms), newest first."""
    return endpoint.sealed_secret, *(each.sealed for each in live_retired(endpoint, now))


def live_retired(endpoint: Endpoint, now: int) -> tuple[Retired, ...]:
    """The former secrets that still sign at `now` (ms), newest first."""
    return tuple(each for each in endpoint.retired if now < each.until)


def rotated(endpoint: Endpoint, sealed: bytes, now: int, overlap: int) -> Endpoint:
    """The endpoint with a new secret; the one it had signs for `overlap` ms more.

    Those retired before keep the time they were given.
    """
    retired = live_retired(endpoint, now)
    if overlap > 0:
        former = Retired(sealed=endpoint.sealed_secret, until=now + overlap)
        retired = (former, *retired)
    return msgspec.structs.replace(endpoint, sealed_secret=sealed, retired=retired)


def revoked(endpoint: Endpoint) -> Endpoint:
    """The endpoint with its newest secret alone; itself where there is no other."""
    return msgspec.structs.replace(endpoint, retired=()) if endpoint.retired else endpoint


def turned(endpoint: Endpoint, status: EndpointStatus, reason: str | None = None) -> Endpoint:
    """The endpoint in another status, or itself if it is in it; `reason` is why it is disabled.

    Whoever enables it says that it works: what went wrong before is forgotten.
    """
    if status is endpoint.status:
        return endpoint
    disabled = status is EndpointStatus.DISABLED
    enabled = status is EndpointStatus.ENABLED
    return msgspec.structs.replace(
        endpoint,
        status=status,
        disabled_reason=reason if disabled else None,
        health=Health() if enabled else endpoint.health,
    )


def resumed(endpoint: Endpoint) -> Endpoint:
    """The endpoint enabled, and its rest or its failures forgotten; itself if it is well."""
    if endpoint.status is EndpointStatus.ENABLED and endpoint.health == Health():
        return endpoint
    enabled = turned(endpoint, EndpointStatus.ENABLED)
    return msgspec.structs.replace(enabled, health=Health())


def moved(endpoint: Endpoint, url: str) -> Endpoint:
    """The endpoint at another URL: another server, of which nothing bad is known."""
    if url == endpoint.url:
        return endpoint
    return msgspec.structs.replace(endpoint, url=url, health=Health())
