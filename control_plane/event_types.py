"""The catalogue of event types: when each is emitted, what to do, its schema, and an example."""

from functools import cache
from typing import Any, Final, get_args

import msgspec
from litestar import Response, get

from control_plane.call import Call
from control_plane.idempotency import reply
from shared import clock, events
from shared.events import (
    EndpointTrouble,
    Event,
    Exhaustion,
    MessageChange,
    PairingOffer,
    Party,
    Ping,
    ReceivedMessage,
    SessionChange,
)
from shared.ids import EndpointId, EventId, MessageId, SessionId
from shared.message import Failure, FailureCode, MessageStatus, Text
from shared.session import Reason, SessionState
from shared.tenant import Scope


class EventTypeOut(msgspec.Struct, frozen=True, kw_only=True):
    """An event type."""

    type: str
    emitted: str
    means: str
    then: str
    """What to do when it arrives."""
    schema: dict[str, Any]
    """JSON Schema (2020-12) of the whole event."""
    example: dict[str, Any]


class Catalogue(msgspec.Struct, frozen=True, kw_only=True):
    """Every event type."""

    data: tuple[EventTypeOut, ...]


@get("/v1/event-types", needs=Scope.EVENTS_READ)
async def list_event_types(request: Call) -> Response[Catalogue]:
    """List what can happen, with the schema and an example of each type."""
    return reply(200, await request.run(_encoded))


@cache
def _encoded() -> bytes:
    return msgspec.json.encode(catalogue())


def catalogue() -> Catalogue:
    kinds = {events.type_name(kind): kind for kind in get_args(Event)}
    return Catalogue(
        data=tuple(
            EventTypeOut(
                type=entry.type,
                emitted=entry.emitted,
                means=entry.means,
                then=entry.then,
                schema=msgspec.json.schema(kinds[entry.type]),
                example=msgspec.to_builtins(example(entry.type)),
            )
            for entry in events.CATALOGUE
        )
    )


_NOW: Final = clock.instant(1_795_000_000_000)
_LATER: Final = clock.instant(1_795_000_060_000)
_SESSION: Final = SessionId("ses_01k9x6m3qhd5c8w7v2n4t0b1za")
_MESSAGE: Final = MessageId("msg_01k9x6m3qhd5c8w7v2n4t0b1zb")
_ENDPOINT: Final = EndpointId("ep_01k9x6m3qhd5c8w7v2n4t0b1zd")
_EVENT: Final = EventId("evt_01k9x6m3qhd5c8w7v2n4t0b1zc")

_REASONS: Final = {
    SessionState.RECONNECTING: Reason.CONNECTION_LOST,
    SessionState.STOPPED: Reason.STOPPED_BY_TENANT,
    SessionState.LOGGED_OUT: Reason.REMOVED_ON_PHONE,
    SessionState.BANNED: Reason.TEMPORARILY_BANNED,
    SessionState.FAILED: Reason.CONNECTION_REFUSED,
    SessionState.PASSKEY_REQUIRED: Reason.PASSKEY_REQUIRED,
}


def example(type_name: str) -> Event:
    """An event of a type, as it could be."""
    for state, kind in events.SESSION_EVENTS.items():
        if events.type_name(kind) == type_name:
            return kind(
                id=_EVENT,
                timestamp=_NOW,
                session_id=_SESSION,
                sequence=7,
                data=_session_change(state),
            )
    for status, kind in events.MESSAGE_EVENTS.items():
        if events.type_name(kind) == type_name:
            return kind(
                id=_EVENT,
                timestamp=_NOW,
                session_id=_SESSION,
                sequence=7,
                data=_message_change(status),
            )
    if type_name == events.type_name(events.SessionPairing):
        offer = PairingOffer(expires_at=_LATER, has_code=True)
        return events.SessionPairing(
            id=_EVENT, timestamp=_NOW, session_id=_SESSION, sequence=2, data=offer
        )
    if type_name == events.type_name(events.MessageReceived):
        received = ReceivedMessage(
            whatsapp_id="3EB0C767D097B7C7C2A1",
            chat="+4915112345678",
            sender=Party(phone_number="+4915112345678", lid="123456789012345", name="Ada"),
            content=Text("Hello"),
            sent_at=_NOW,
        )
        return events.MessageReceived(
            id=_EVENT, timestamp=_NOW, session_id=_SESSION, sequence=8, data=received
        )
    if type_name == events.type_name(events.EndpointTest):
        return events.EndpointTest(id=_EVENT, timestamp=_NOW, data=Ping(note="A test."))
    return _operational(type_name)


def _operational(type_name: str) -> Event:
    for kind in (events.EndpointFailing, events.EndpointDisabled, events.EndpointRecovered):
        if events.type_name(kind) == type_name:
            return kind(id=_EVENT, timestamp=_NOW, data=_trouble(kind))
    if type_name != events.type_name(events.DeliveryExhausted):
        raise KeyError(type_name)
    data = Exhaustion(
        endpoint_id=_ENDPOINT,
        event_id=EventId("evt_01k9x6m3qhd5c8w7v2n4t0b1ze"),
        event_type="message.received",
        session_id=_SESSION,
        attempts=11,
        last_error="timeout",
    )
    return events.DeliveryExhausted(id=_EVENT, timestamp=_NOW, data=data)


def _trouble(kind: type[events.OperationalEvent]) -> EndpointTrouble:
    trouble = EndpointTrouble(
        endpoint_id=_ENDPOINT,
        url="https://example.com/zapgate",
        reason="Nothing has succeeded for some time.",
        failing_since=_NOW,
        failures=20,
        last_error="http_502",
    )
    if kind is events.EndpointFailing:
        return msgspec.structs.replace(trouble, disable_at=_LATER)
    return trouble


def _session_change(state: SessionState) -> SessionChange:
    previous = SessionState.STARTING if state is not SessionState.STARTING else SessionState.CREATED
    return SessionChange(
        state=state,
        previous=previous,
        reason=_REASONS.get(state),
        until=_LATER if state is SessionState.BANNED else None,
        phone_number="+4915112345678" if state is SessionState.CONNECTED else None,
    )


def _message_change(status: MessageStatus) -> MessageChange:
    failed = status is MessageStatus.FAILED
    return MessageChange(
        message_id=_MESSAGE,
        status=status,
        to="+4915112345678",
        whatsapp_id=None if failed else "3EB0C767D097B7C7C2A1",
        failure=Failure(
            code=FailureCode.NOT_ON_WHATSAPP,
            detail="The number is not on WhatsApp.",
            blame="recipient",
            retryable=False,
        )
        if failed
        else None,
    )


ROUTES: Final = [list_event_types]
