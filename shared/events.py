"""What happened: the events tenants receive, read and subscribe to.

One Struct per type; the JSON a tenant gets is exactly its encoding. `CATALOGUE` says of each type
when it is emitted, what it means and what to do next; the API serves it and the tests hold it
against what is really sent.
"""

from datetime import datetime
from typing import Final

import msgspec

from shared.ids import EndpointId, EventId, MessageId, SessionId
from shared.message import Content, Failure, MessageStatus
from shared.session import Reason, SessionState


class SessionChange(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A session's new state."""

    state: SessionState
    previous: SessionState
    reason: Reason | None = None
    detail: str | None = None
    until: datetime | None = None
    phone_number: str | None = None
    lid: str | None = None


class PairingOffer(msgspec.Struct, frozen=True, kw_only=True):
    """A QR or code is ready. The code itself is read over the API, not carried here."""

    expires_at: datetime
    has_code: bool


class MessageChange(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A sent message's new status."""

    message_id: MessageId
    status: MessageStatus
    to: str
    whatsapp_id: str | None = None
    failure: Failure | None = None


class Party(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody on WhatsApp: the phone number where it is known, the LID beside it."""

    phone_number: str | None = None
    lid: str | None = None
    """The LID's JID, `…@lid`."""
    name: str | None = None


class Unsupported(msgspec.Struct, frozen=True, tag_field="type", tag="unsupported"):
    """Content this version does not decode; `kind` is WhatsApp's name for it."""

    kind: str


class ReceivedMessage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A message that arrived, or that the account sent from another of its devices."""

    whatsapp_id: str
    chat: str
    """Where to answer: an E.164 number, a group's JID, or a LID's JID where no number is known."""
    sender: Party
    content: Content | Unsupported
    sent_at: datetime
    group: bool = False
    from_me: bool = False
    edits: str | None = None
    """The `whatsapp_id` of the earlier message that this one replaces the text of."""


class Ping(msgspec.Struct, frozen=True, kw_only=True):
    """Sent on request, to try an endpoint."""

    note: str


class EndpointTrouble(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How an endpoint has been answering."""

    endpoint_id: EndpointId
    url: str
    reason: str
    """In words, for a person."""
    failing_since: datetime | None = None
    failures: int = 0
    """Attempts that failed since, at the least."""
    last_error: str | None = None
    disable_at: datetime | None = None
    """When it will be disabled if nothing succeeds until then."""


class Exhaustion(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A delivery that was given up after its last attempt."""

    endpoint_id: EndpointId
    event_id: EventId
    event_type: str
    attempts: int
    session_id: SessionId | None = None
    last_status: int | None = None
    last_error: str | None = None


class _Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    id: EventId
    timestamp: datetime
    """When it happened, as the gateway saw it."""


class _OfSession(_Event, frozen=True, kw_only=True):
    session_id: SessionId
    sequence: int
    """Counts up by one per event of the session, from 1: a gap is a missed event."""


class SessionStarting(_OfSession, frozen=True, kw_only=True, tag="session.starting"):
    data: SessionChange


class SessionPairing(_OfSession, frozen=True, kw_only=True, tag="session.pairing"):
    data: PairingOffer


class SessionConnected(_OfSession, frozen=True, kw_only=True, tag="session.connected"):
    data: SessionChange


class SessionReconnecting(_OfSession, frozen=True, kw_only=True, tag="session.reconnecting"):
    data: SessionChange


class SessionStopped(_OfSession, frozen=True, kw_only=True, tag="session.stopped"):
    data: SessionChange


class SessionLoggedOut(_OfSession, frozen=True, kw_only=True, tag="session.logged_out"):
    data: SessionChange


class SessionBanned(_OfSession, frozen=True, kw_only=True, tag="session.banned"):
    data: SessionChange


class SessionFailed(_OfSession, frozen=True, kw_only=True, tag="session.failed"):
    data: SessionChange


class SessionPasskeyRequired(_OfSession, frozen=True, kw_only=True, tag="session.passkey_required"):
    data: SessionChange


class MessageSent(_OfSession, frozen=True, kw_only=True, tag="message.sent"):
    data: MessageChange


class MessageDelivered(_OfSession, frozen=True, kw_only=True, tag="message.delivered"):
    data: MessageChange


class MessageRead(_OfSession, frozen=True, kw_only=True, tag="message.read"):
    data: MessageChange


class MessageFailed(_OfSession, frozen=True, kw_only=True, tag="message.failed"):
    data: MessageChange


class MessageUncertain(_OfSession, frozen=True, kw_only=True, tag="message.uncertain"):
    data: MessageChange


class MessageReceived(_OfSession, frozen=True, kw_only=True, tag="message.received"):
    data: ReceivedMessage


class EndpointTest(_Event, frozen=True, kw_only=True, tag="endpoint.test"):
    data: Ping


class EndpointFailing(_Event, frozen=True, kw_only=True, tag="endpoint.failing"):
    data: EndpointTrouble


class EndpointDisabled(_Event, frozen=True, kw_only=True, tag="endpoint.disabled"):
    data: EndpointTrouble


class EndpointRecovered(_Event, frozen=True, kw_only=True, tag="endpoint.recovered"):
    data: EndpointTrouble


class DeliveryExhausted(_Event, frozen=True, kw_only=True, tag="delivery.exhausted"):
    data: Exhaustion


MessageEvent = MessageSent | MessageDelivered | MessageRead | MessageFailed | MessageUncertain
SessionEvent = (
    SessionStarting
    | SessionPairing
    | SessionConnected
    | SessionReconnecting
    | SessionStopped
    | SessionLoggedOut
    | SessionBanned
    | SessionFailed
    | SessionPasskeyRequired
    | MessageEvent
    | MessageReceived
)
OperationalEvent = EndpointFailing | EndpointDisabled | EndpointRecovered | DeliveryExhausted
"""About the webhooks themselves. Never sent to the endpoint they are about, and none is made of
what becomes of their own deliveries."""
Event = SessionEvent | EndpointTest | OperationalEvent

SESSION_EVENTS: Final = {
    SessionState.STARTING: SessionStarting,
    SessionState.CONNECTED: SessionConnected,
    SessionState.RECONNECTING: SessionReconnecting,
    SessionState.STOPPED: SessionStopped,
    SessionState.LOGGED_OUT: SessionLoggedOut,
    SessionState.BANNED: SessionBanned,
    SessionState.FAILED: SessionFailed,
    SessionState.PASSKEY_REQUIRED: SessionPasskeyRequired,
}
"""The event that announces a state. `pairing` is announced by its offers, `created` by the API."""

MESSAGE_EVENTS: Final = {
    MessageStatus.SENT: MessageSent,
    MessageStatus.DELIVERED: MessageDelivered,
    MessageStatus.READ: MessageRead,
    MessageStatus.FAILED: MessageFailed,
    MessageStatus.UNCERTAIN: MessageUncertain,
}


class EventType(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of the catalogue."""

    type: str
    emitted: str
    means: str
    then: str


def _entry(event: type[_Event], emitted: str, means: str, then: str) -> EventType:
    return EventType(type=type_name(event), emitted=emitted, means=means, then=then)


def type_name(event: type[_Event] | _Event) -> str:
    """`message.sent` of `MessageSent`."""
    return str(event.__struct_config__.tag)


VERSION: Final = 1
"""Of the catalogue. Within a version a change only adds: an event type, a field, a value of an
enumeration, a kind of content; a receiver passes over what it does not know. What changes one type
otherwise is a new type beside it (`message.received.v2`), and both are sent; what changes all of
them is a new version.
"""

CATALOGUE: Final = (
    _entry(
        SessionStarting,
        "when a session's host is started, and when an attempt to pair is cut off or succeeded",
        "The socket is being opened; messages are accepted and wait.",
        "Nothing.",
    ),
    _entry(
        SessionPairing,
        "when a QR or a pairing code is ready, and at each refresh",
        "The number is not linked yet.",
        "Read the session's pairing and show it to the owner of the phone.",
    ),
    _entry(
        SessionConnected,
        "when the socket is open and logged in",
        "Messages go out at once.",
        "Nothing.",
    ),
    _entry(
        SessionReconnecting,
        "when a connected session loses its socket",
        "It is dialled again with growing pauses; messages wait.",
        "Nothing, unless it lasts.",
    ),
    _entry(
        SessionStopped,
        "when a session is stopped, by order or because nobody paired it in time",
        "No socket is held; credentials are kept.",
        "Start it to connect again.",
    ),
    _entry(
        SessionLoggedOut,
        "when the device was removed, by order or on the phone, or its credentials were reset",
        "Its credentials are gone.",
        "Start it to pair the number again.",
    ),
    _entry(
        SessionBanned,
        "when WhatsApp bans the account, for good or until `until`",
        "Nothing can be sent.",
        "Stop what caused it. It starts by itself at `until`; without one, ask for a review on the "
        "phone.",
    ),
    _entry(
        SessionFailed,
        "when a session ended in a way that starting it again at once would not mend",
        "No socket is held; `reason` and `detail` say why.",
        "Act on the reason, then start it.",
    ),
    _entry(
        SessionPasskeyRequired,
        "when WhatsApp asks for a passkey while pairing",
        "This account cannot be linked by this version.",
        "Link another number, or remove the passkey from the account.",
    ),
    _entry(
        MessageSent,
        "when WhatsApp's server took a message",
        "It will reach the recipient when their phone is online.",
        "Nothing.",
    ),
    _entry(
        MessageDelivered,
        "when the recipient's device received a message",
        "It is on their phone.",
        "Nothing.",
    ),
    _entry(
        MessageRead,
        "when the recipient read a message, where they share read receipts",
        "They have seen it.",
        "Nothing.",
    ),
    _entry(
        MessageFailed,
        "when a message was refused or could not be sent in its time",
        "It did not go out; `failure` says whose doing it was and whether to try again.",
        "Act on `failure.code`.",
    ),
    _entry(
        MessageUncertain,
        "when the host died between handing a message over and WhatsApp's answer",
        "It may or may not have gone out. A later receipt settles it.",
        "Send it again only if a double is harmless.",
    ),
    _entry(
        MessageReceived,
        "when a message arrives, or is sent from another device of the account",
        "`chat` is where to answer.",
        "Answer, or not.",
    ),
    _entry(
        EndpointTest,
        "when you ask for a test of an endpoint",
        "The endpoint and its signature work.",
        "Nothing.",
    ),
    _entry(
        EndpointFailing,
        "when an endpoint has failed so often that it is left alone for a while, and as a warning "
        "before it is disabled",
        "Its events wait, and are tried again with growing pauses.",
        "Mend the receiver; POST /v1/webhooks/{id}/test says what is wrong.",
    ),
    _entry(
        EndpointDisabled,
        "when an endpoint is disabled: it asked for it, or nothing succeeded for five days",
        "Nothing is sent to it any more; what was on its way is given up.",
        "Mend the receiver, enable the endpoint, recover what was given up, and read what came "
        "meanwhile from the event log.",
    ),
    _entry(
        EndpointRecovered,
        "when an endpoint that was failing answers 2xx again",
        "What waited for it is delivered now.",
        "Nothing.",
    ),
    _entry(
        DeliveryExhausted,
        "when an event was given up after its last attempt at an endpoint",
        "It is not tried again by itself.",
        "Mend the receiver, then redeliver it, or recover all of them.",
    ),
)

TYPES: Final = frozenset(entry.type for entry in CATALOGUE)

_decoder: Final = msgspec.json.Decoder(Event)


def encode(event: Event) -> bytes:
    """The JSON a tenant receives: the exact bytes that are stored, signed and sent."""
    return msgspec.json.encode(event)


def decode(body: bytes | str) -> Event:
    """The event in a body. Raises msgspec.DecodeError for anything else."""
    return _decoder.decode(body)
