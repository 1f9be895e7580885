"""Events of each type, as they could be."""

from collections.abc import Iterator
from typing import Any, Final

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
    Unsupported,
)
from shared.ids import EndpointId, EventId, MessageId, SessionId
from shared.message import Failure, FailureCode, MessageStatus, Text
from shared.session import Reason, SessionState

_NOW: Final = clock.instant(1_795_000_000_000)
_LATER: Final = clock.instant(1_795_000_060_000)
_DAYS_AGO: Final = clock.instant(1_795_000_000_000 - 5 * clock.DAY)
_IN_DAYS: Final = clock.instant(1_795_000_000_000 + 5 * clock.DAY)
_SESSION: Final = SessionId("ses_01k9x6m3qhd5c8w7v2n4t0b1za")
_MESSAGE: Final = MessageId("msg_01k9x6m3qhd5c8w7v2n4t0b1zb")
_EVENT: Final = EventId("evt_01k9x6m3qhd5c8w7v2n4t0b1zc")
_ENDPOINT: Final = EndpointId("ep_01k9x6m3qhd5c8w7v2n4t0b1zd")
_OTHER_EVENT: Final = EventId("evt_01k9x6m3qhd5c8w7v2n4t0b1ze")
_URL: Final = "https://example.com/zapgate"
_WHATSAPP_ID: Final = "3EB0C767D097B7C7C2A1"
_NUMBER: Final = "+4915112345678"
_LID: Final = "123456789012345@lid"
_ADA: Final = Party(phone_number=_NUMBER, lid=_LID, name="Ada")
_GROUP: Final = "120363040404040404@g.us"

_REASONS: Final = {
    SessionState.RECONNECTING: Reason.CONNECTION_LOST,
    SessionState.STOPPED: Reason.STOPPED_BY_TENANT,
    SessionState.LOGGED_OUT: Reason.REMOVED_ON_PHONE,
    SessionState.BANNED: Reason.TEMPORARILY_BANNED,
    SessionState.FAILED: Reason.CONNECTION_REFUSED,
    SessionState.PASSKEY_REQUIRED: Reason.PASSKEY_REQUIRED,
}


def examples(type_name: str) -> tuple[Event, ...]:
    """Events of a type. Raises KeyError for an unknown one."""
    found = tuple(event for event in _EXAMPLES if events.type_name(event) == type_name)
    if not found:
        raise KeyError(type_name)
    return found


def _of_sessions() -> Iterator[Event]:
    where: dict[str, Any] = {"id": _EVENT, "timestamp": _NOW, "session_id": _SESSION}
    for state, kind in events.SESSION_EVENTS.items():
        yield kind(**where, sequence=7, data=_session_change(state))
    for has_code in (False, True):
        offer = PairingOffer(expires_at=_LATER, has_code=has_code)
        yield events.SessionPairing(**where, sequence=2, data=offer)
    for status, changed in events.MESSAGE_EVENTS.items():
        yield changed(**where, sequence=8, data=_message_change(status))
    for sequence, received in enumerate(_RECEIVED, 9):
        yield events.MessageReceived(**where, sequence=sequence, data=received)


def _operational() -> Iterator[Event]:
    yield events.EndpointTest(id=_EVENT, timestamp=_NOW, data=Ping(note="A test."))
    yield events.EndpointFailing(
        id=_EVENT,
        timestamp=_NOW,
        data=EndpointTrouble(
            endpoint_id=_ENDPOINT,
            url=_URL,
            reason="It keeps failing, and is left alone for growing pauses between attempts.",
            failing_since=_NOW,
            failures=7,
            last_error="http_502",
            disable_at=_IN_DAYS,
        ),
    )
    yield events.EndpointDisabled(
        id=_EVENT,
        timestamp=_NOW,
        data=EndpointTrouble(
            endpoint_id=_ENDPOINT,
            url=_URL,
            reason="Nothing succeeded for 5 days, and 120 attempts failed.",
            failing_since=_DAYS_AGO,
            failures=120,
            last_error="timeout",
        ),
    )
    yield events.EndpointRecovered(
        id=_EVENT,
        timestamp=_NOW,
        data=EndpointTrouble(
            endpoint_id=_ENDPOINT,
            url=_URL,
            reason="It answered with success again.",
            failing_since=_NOW,
            failures=7,
            last_error="http_502",
        ),
    )
    yield events.DeliveryExhausted(
        id=_EVENT,
        timestamp=_NOW,
        data=Exhaustion(
            endpoint_id=_ENDPOINT,
            event_id=_OTHER_EVENT,
            event_type="message.received",
            session_id=_SESSION,
            attempts=11,
            last_status=502,
            last_error="http_502",
        ),
    )


def _session_change(state: SessionState) -> SessionChange:
    previous = SessionState.STARTING if state is not SessionState.STARTING else SessionState.CREATED
    return SessionChange(
        state=state,
        previous=previous,
        reason=_REASONS.get(state),
        until=_LATER if state is SessionState.BANNED else None,
        phone_number=_NUMBER if state is SessionState.CONNECTED else None,
    )


def _message_change(status: MessageStatus) -> MessageChange:
    failed = status is MessageStatus.FAILED
    return MessageChange(
        message_id=_MESSAGE,
        status=status,
        to=_NUMBER,
        whatsapp_id=None if failed else _WHATSAPP_ID,
        failure=Failure(
            code=FailureCode.NOT_ON_WHATSAPP,
            detail="WhatsApp has no account for this number, or hides it.",
            blame="recipient",
            retryable=False,
        )
        if failed
        else None,
    )


_RECEIVED: Final = (
    ReceivedMessage(
        whatsapp_id=_WHATSAPP_ID, chat=_NUMBER, sender=_ADA, content=Text("Hello"), sent_at=_NOW
    ),
    ReceivedMessage(
        whatsapp_id="3EB0C767D097B7C7C2A2",
        chat=_GROUP,
        sender=_ADA,
        content=Text("Hello, all"),
        sent_at=_NOW,
        group=True,
        edits=_WHATSAPP_ID,
    ),
    ReceivedMessage(
        whatsapp_id="3EB0C767D097B7C7C2A3",
        chat=_LID,
        sender=Party(lid=_LID, name="Ada"),
        content=Unsupported("stickerMessage"),
        sent_at=_NOW,
    ),
)

_EXAMPLES: Final = (*_of_sessions(), *_operational())
