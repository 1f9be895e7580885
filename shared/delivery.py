"""Deliveries: events on their way to endpoints, and the attempts that were made."""

from enum import StrEnum
from typing import Self

import msgspec

from shared.errors import Malformed
from shared.ids import EndpointId, EventId, SessionId, TenantId, WorkerId


class DeliveryState(StrEnum):
    SENDING = "sending"
    """Claimed by a gateway until `due_at`; after that, or its end, anyone may claim it."""
    WAITING = "waiting"
    """Due at `due_at`."""
    HELD = "held"
    """Waits for something else than its time (`held_by`), and is looked at again at `due_at`."""
    DELIVERED = "delivered"
    GAVE_UP = "gave_up"


class HeldBy(StrEnum):
    """What a held delivery waits for. No attempt is made meanwhile, and none is counted."""

    ENDPOINT_PAUSED = "endpoint_paused"
    ENDPOINT_RESTING = "endpoint_resting"
    """The endpoint's breaker is open: it failed too often, and is left alone for a while."""
    TENANT_SUSPENDED = "tenant_suspended"


class Trigger(StrEnum):
    """Why a delivery is attempted."""

    EVENT = "event"
    REDELIVERY = "redelivery"
    """Somebody asked for this one again."""
    RECOVERY = "recovery"
    """Somebody asked for all that had failed."""
    TEST = "test"
    """Attempted once, whatever the endpoint's status, filter and breaker say."""


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
    session_id: SessionId | None = None
    trigger: Trigger = Trigger.EVENT
    scheduled_from: int = 0
    """Attempts that were made before its present schedule began: a redelivery begins it anew."""
    due_at: int | None = None
    """When it is due or looked at, or when a claim lapses; None once it is over."""
    held_by: HeldBy | None = None
    claimed_by: WorkerId | None = None
    """While sending, the gateway that claimed it: what it leaves when it dies is found by that."""
    last_status: int | None = None
    """HTTP status of the last attempt's answer; None where there was none."""
    last_error: str | None = None
    """Code of the last failure: `timeout`, `tls_error`, `blocked_address`, …"""


class Phases(msgspec.Struct, frozen=True, kw_only=True):
    """How long each part of an attempt took (ms); None for what did not happen.

    On a kept connection there is no `dns`, `connect` and `tls`.
    """

    total: float
    dns: float | None = None
    connect: float | None = None
    tls: float | None = None
    first_byte: float | None = None
    """From when the request was handed to the connection to the answer's first byte."""


class Outcome(StrEnum):
    """What followed from an attempt."""

    DELIVERED = "delivered"
    RETRY = "retry"
    GAVE_UP = "gave_up"
    INTERRUPTED = "interrupted"
    """The gateway ended while it was being made: whether it arrived is not known."""


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt of a delivery, for the log. Secrets in its headers are masked."""

    tenant_id: TenantId
    endpoint_id: EndpointId
    event_id: EventId
    number: int
    """Counts from 1 over the delivery's life, redeliveries included."""
    trigger: Trigger
    began_at: int
    outcome: Outcome
    url: str
    status: int | None = None
    error: str | None = None
    next_at: int | None = None
    """When the next attempt is due (ms), where there is one."""
    phases: Phases | None = None
    request_headers: dict[str, str] = {}
    response_headers: dict[str, str] = {}
    response_body: str = ""
    """The beginning of the answer's body, as text."""
    response_cut: bool = False
    """Whether the answer's body was longer than what is kept."""


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
