"""What changes a session, and the event that announces it.

The host and, between two hosts, the gateway turn a change into an event and append it to the
journal; whoever holds the session folds the events back into it, so that both agree on its state
without asking the table.
"""

from typing import Final

import msgspec

from shared import clock
from shared.events import (
    MESSAGE_EVENTS,
    SESSION_EVENTS,
    MessageChange,
    MessageReceived,
    PairingOffer,
    ReceivedMessage,
    SessionChange,
    SessionEvent,
    SessionPairing,
)
from shared.ids import EventId
from shared.session import Reason, Session, SessionState, Trigger, after, unlinked


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """Something happened to a session."""

    trigger: Trigger
    reason: Reason | None = None
    detail: str | None = None
    until: int | None = None
    """When a temporary ban ends (ms)."""
    phone_number: str | None = None
    lid: str | None = None


STOPPED: Final = Change(trigger=Trigger.STOP, reason=Reason.STOPPED_BY_TENANT)
LOGGED_OUT: Final = Change(trigger=Trigger.LOG_OUT, reason=Reason.LOGGED_OUT_BY_TENANT)
NOT_REMOVED: Final = (
    "WhatsApp could not be reached: the phone may list the device until it is removed there"
)
UNREMOVED: Final = msgspec.structs.replace(LOGGED_OUT, detail=NOT_REMOVED)
RESET: Final = Change(trigger=Trigger.LOG_OUT, reason=Reason.CREDENTIALS_RESET)


class Mark(msgspec.Struct, frozen=True):
    """What an event gets when it enters the journal."""

    id: EventId
    sequence: int
    now: int


def announce(session: Session, change: Change, mark: Mark) -> SessionEvent | None:
    """The event of a change, or None where it means nothing in this state or says nothing new.

    A start is always announced: whoever ordered it waits for it. Of a reason's details only those
    of a proxy's trouble are news, because its tenant acts on them.
    """
    state = after(session.state, change.trigger)
    if state is None or state is SessionState.PAIRING:
        return None
    number = change.phone_number or session.phone_number
    lid = change.lid or session.lid
    detail = change.detail if change.reason is Reason.PROXY_FAILED else session.detail
    if change.trigger is not Trigger.START and (
        (state, change.reason, detail, number, lid)
        == (session.state, session.reason, session.detail, session.phone_number, session.lid)
    ):
        return None
    return SESSION_EVENTS[state](
        id=mark.id,
        timestamp=clock.instant(mark.now),
        session_id=session.id,
        sequence=mark.sequence,
        data=SessionChange(
            state=state,
            previous=session.state,
            reason=change.reason,
            detail=change.detail,
            until=None if change.until is None else clock.instant(change.until),
            phone_number=number,
            lid=lid,
        ),
    )


def offer(session: Session, expires_at: int, mark: Mark, *, code: bool) -> SessionEvent | None:
    """The event of a QR or pairing code; None where pairing means nothing any more."""
    if after(session.state, Trigger.OFFER) is None:
        return None
    return SessionPairing(
        id=mark.id,
        timestamp=clock.instant(mark.now),
        session_id=session.id,
        sequence=mark.sequence,
        data=PairingOffer(expires_at=clock.instant(expires_at), has_code=code),
    )


def outcome(session: Session, change: MessageChange, mark: Mark) -> SessionEvent:
    """The event of a message's new status."""
    return MESSAGE_EVENTS[change.status](
        id=mark.id,
        timestamp=clock.instant(mark.now),
        session_id=session.id,
        sequence=mark.sequence,
        data=change,
    )


def arrival(session: Session, message: ReceivedMessage, mark: Mark) -> SessionEvent:
    """The event of a message that arrived."""
    return MessageReceived(
        id=mark.id,
        timestamp=clock.instant(mark.now),
        session_id=session.id,
        sequence=mark.sequence,
        data=message,
    )


def follow(session: Session, event: SessionEvent) -> Session:
    """The session as it is after an event of its own."""
    moment = round(event.timestamp.timestamp() * 1000)
    match event.data:
        case PairingOffer():
            return msgspec.structs.replace(
                session,
                state=SessionState.PAIRING,
                pending=False,
                reason=None,
                detail=None,
                until=None,
                lid=None,
                connected_at=None,
                updated_at=moment,
            )
        case SessionChange() as change:
            connected = change.state is SessionState.CONNECTED
            gone = unlinked(change.state, change.reason)
            return msgspec.structs.replace(
                session,
                state=change.state,
                pending=False,
                reason=change.reason,
                detail=change.detail,
                until=None if change.until is None else round(change.until.timestamp() * 1000),
                phone_number=change.phone_number or session.phone_number,
                lid=None if gone else change.lid or session.lid,
                connected_at=moment if connected else None if gone else session.connected_at,
                updated_at=moment,
            )
        case _:
            return session
