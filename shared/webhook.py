"""Webhook endpoints and deliveries: the things and their states."""

from enum import StrEnum
from typing import Final, Self

import msgspec

from shared.errors import Malformed
from shared.ids import EndpointId, EventId, SessionId, TenantId

ENDPOINTS_PER_TENANT: Final = 50
"""Every event is matched against all of them, so the number is bounded."""
LONGEST_URL: Final = 2_048


class EndpointStatus(StrEnum):
    ENABLED = "enabled"
    DISABLED = "disabled"


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where a tenant receives events."""

    id: EndpointId
    tenant_id: TenantId
    url: str
    events: tuple[str, ...]
    """Event types, or `message.*`, or `*`."""
    sealed_secret: bytes
    """The signing secret under `shared.sealing`, for the owner `tenant/endpoint`."""
    status: EndpointStatus
    created_at: int
    updated_at: int
    description: str = ""
    sessions: tuple[SessionId, ...] = ()
    """Only these sessions' events; empty means all."""
    disabled_reason: str | None = None

    @property
    def owner(self) -> str:
        """What the secret is sealed for."""
        return f"{self.tenant_id}/{self.id}"

    def wants(self, event_type: str, session_id: SessionId | None) -> bool:
        """Whether an event of this type and session is delivered here."""
        if self.status is not EndpointStatus.ENABLED:
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


class DeliveryState(StrEnum):
    SENDING = "sending"
    """Claimed by a gateway until `due_at`; after that anyone may claim it."""
    WAITING = "waiting"
    """Due at `due_at`."""
    DELIVERED = "delivered"
    GAVE_UP = "gave_up"


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One event on its way to one endpoint."""

    tenant_id: TenantId
    endpoint_id: EndpointId
    event_id: EventId
    event_type: str
    state: DeliveryState
    attempt: int
    """How many attempts were begun, this one included while sending."""
    created_at: int
    updated_at: int
    due_at: int | None = None
    """When a waiting one is due, or when a claim lapses; None once it is over."""
    last_status: int | None = None
    """HTTP status of the last answer; None where there was none."""
    last_error: str | None = None
    """Code of the last failure: `timeout`, `tls_error`, `blocked_address`, …"""


class Wake(msgspec.Struct, frozen=True, kw_only=True):
    """Body of a delivery-queue message: which delivery to look at. The row says the rest.

    It may be lost or repeated. One that names an `attempt` is void once the row has another.
    """

    tenant_id: TenantId
    endpoint_id: EndpointId
    event_id: EventId
    attempt: int | None = None

    @classmethod
    def of(cls, delivery: Delivery) -> Self:
        """The wake-up of a delivery that waits."""
        return cls(
            tenant_id=delivery.tenant_id,
            endpoint_id=delivery.endpoint_id,
            event_id=delivery.event_id,
            attempt=delivery.attempt,
        )

    def encode(self) -> str:
        return msgspec.json.encode(self).decode()

    @classmethod
    def decode(cls, text: str) -> Self:
        """Raises Malformed."""
        try:
            return msgspec.json.decode(text, type=cls)
        except msgspec.DecodeError as error:
            raise Malformed(f"not a wake-up: {error}") from error
