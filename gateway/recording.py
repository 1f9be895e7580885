"""What a journal entry changes in the table: one event, its deliveries, and a status.

Several entries make one transaction, in which no row may be named twice: the statuses of one
message become its highest with every time it reached one on the way, the states of one session its
last. What a refused transaction says decides which writes are made in the next try.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeVar, assert_never

import msgspec

from shared import clock
from shared.aws import Refusal
from shared.delivery import Delivery
from shared.events import (
    MessageChange,
    MessageReceived,
    PairingOffer,
    ReceivedMessage,
    SessionChange,
    SessionEvent,
    Unsupported,
    encode,
    type_name,
)
from shared.ids import EventId, MessageId, SessionId
from shared.message import RANK, MessageStatus
from shared.session import Session, SessionState, unlinked
from shared.store import deliveries, events, messages, sessions
from shared.store.dynamo import Write
from shared.store.events import StoredEvent
from shared.store.messages import Progress
from shared.store.sessions import Observation
from shared.webhook import Endpoint

T = TypeVar("T")

LARGEST_BODY: Final = 360_000
"""Bytes of an event that fit an item (DynamoDB: 400 KB with names and keys)."""
LARGEST_REQUEST: Final = 3_500_000
"""Bytes of rows in one transaction (DynamoDB: 4 MB)."""
ROW: Final = 1_000
"""Bytes counted for a row beside an event's body: ids and short fields."""

Born = Callable[[Delivery, Endpoint], Delivery]
"""How a new delivery comes into the table: claimed by us, due, or held."""


class Change(msgspec.Struct, frozen=True):
    """What one entry changes."""

    session: Session
    event: StoredEvent
    deliveries: tuple[Delivery, ...]
    message: tuple[MessageId, Progress] | None
    seen: Observation | None

    @property
    def actions(self) -> int:
        """How many writes of a transaction it takes at most."""
        return 1 + len(self.deliveries) + (self.message is not None) + 2 * (self.seen is not None)

    @property
    def size(self) -> int:
        return len(self.event.body) + ROW * self.actions


class Action(msgspec.Struct, frozen=True):
    """One write of a transaction, and whose it is."""

    write: Write
    part: Literal["event", "delivery", "message", "session", "pairing"]
    change: Change


def change_of(
    session: Session,
    event: SessionEvent,
    endpoints: Sequence[Endpoint],
    now: int,
    born: Born,
) -> Change:
    """What an event of a session changes, with a delivery for every endpoint that wants it."""
    event, body = _bounded(event)
    kind = type_name(event)
    at = clock.moment(event.timestamp)
    stored = StoredEvent(
        id=event.id,
        tenant_id=session.tenant_id,
        type=kind,
        created_at=at,
        recorded_at=now,
        body=body.decode(),
        session_id=session.id,
        sequence=event.sequence,
    )
    owed = tuple(
        born(deliveries.owing(stored, endpoint.id, now), endpoint)
        for endpoint in endpoints
        if endpoint.wants(kind, session.id)
    )
    message, seen = None, None
    match event.data:
        case MessageChange() as change:
            message = change.message_id, _progress(change, at)
        case SessionChange() as change:
            seen = _observation(change, at, session.epoch)
        case PairingOffer():
            state = SessionState.PAIRING
            gone = unlinked(state, None)
            seen = Observation(state=state, at=at, epoch=session.epoch, unlinked=gone)
        case ReceivedMessage():
            pass
        case _:
            assert_never(event.data)
    return Change(session, stored, owed, message, seen)


def fold(changes: Sequence[Change]) -> list[Action]:
    """The writes of one transaction: every event and delivery, one status a message and session."""
    actions: list[Action] = []
    progress: dict[tuple[SessionId, MessageId], tuple[Change, Progress]] = {}
    seen: dict[SessionId, tuple[Change, Observation]] = {}
    for change in changes:
        tenant_id, session_id = change.session.tenant_id, change.session.id
        actions.append(Action(events.record_event(tenant_id, change.event), "event", change))
        actions += (
            Action(deliveries.record_delivery(tenant_id, delivery), "delivery", change)
            for delivery in change.deliveries
        )
        if change.message is not None:
            message_id, step = change.message
            before = progress.get((session_id, message_id))
            merged = step if before is None else _further(before[1], step)
            progress[session_id, message_id] = change, merged
        if change.seen is not None:
            earlier = seen.get(session_id)
            latest = change.seen if earlier is None else _later(earlier[1], change.seen)
            seen[session_id] = change, latest
    for (session_id, message_id), (change, step) in progress.items():
        write = messages.advance(change.session.tenant_id, session_id, message_id, step)
        actions.append(Action(write, "message", change))
    for session_id, (change, observation) in seen.items():
        tenant_id = change.session.tenant_id
        write = sessions.observe(tenant_id, session_id, observation)
        actions.append(Action(write, "session", change))
        # What an attempt offered is worth nothing once it succeeded, ended or was begun anew.
        if observation.state is not SessionState.PAIRING:
            actions.append(Action(sessions.withdraw(tenant_id, session_id), "pairing", change))
    return actions


@dataclass(frozen=True, slots=True)
class Remainder:
    """What is left of a refused transaction, and what the refusal said."""

    actions: list[Action]
    repeated: frozenset[EventId]
    """Events that are stored already, with their deliveries."""
    fenced: tuple[Session, ...]
    """Sessions whose state a later lease has written."""


def without(actions: Sequence[Action], refusal: Refusal) -> Remainder:
    """Leave out what the table refused: for it, what we wanted is so already, or must not be."""
    failed = [n for n in range(len(actions)) if refusal.failed(n)]
    repeated = frozenset(actions[n].change.event.id for n in failed if actions[n].part == "event")
    fenced = tuple(
        actions[n].change.session
        for n in failed
        if actions[n].part == "session" and refusal.item(n) is not None
    )
    passed_on = {session.id for session in fenced}
    left = [
        action
        for n, action in enumerate(actions)
        if n not in failed
        and not (action.part == "delivery" and action.change.event.id in repeated)
        # The attempt that is shown now is the later owner's.
        and not (action.part == "pairing" and action.change.session.id in passed_on)
    ]
    return Remainder(left, repeated, fenced)


def _bounded(event: SessionEvent) -> tuple[SessionEvent, bytes]:
    """The event and its bytes; content too large for a row is replaced by saying so."""
    body = encode(event)
    if len(body) > LARGEST_BODY and isinstance(event, MessageReceived):
        short = msgspec.structs.replace(event.data, content=Unsupported("oversized"))
        event = msgspec.structs.replace(event, data=short)
        body = encode(event)
    return event, body


def _progress(change: MessageChange, at: int) -> Progress:
    return Progress(
        status=change.status,
        at=at,
        whatsapp_id=change.whatsapp_id,
        failure=change.failure,
        sent_at=at if change.status is MessageStatus.SENT else None,
        delivered_at=at if change.status is MessageStatus.DELIVERED else None,
        read_at=at if change.status is MessageStatus.READ else None,
    )


def _observation(change: SessionChange, at: int, epoch: int) -> Observation:
    gone = unlinked(change.state, change.reason)
    return Observation(
        state=change.state,
        at=at,
        epoch=epoch,
        reason=change.reason,
        detail=change.detail,
        until=None if change.until is None else clock.moment(change.until),
        phone_number=change.phone_number,
        lid=None if gone else change.lid,
        connected_at=at if change.state is SessionState.CONNECTED else None,
        unlinked=gone,
    )


def _further(one: Progress, other: Progress) -> Progress:
    """Both steps as one: the higher status, and each time the first that is known."""
    high, low = (other, one) if RANK[other.status] > RANK[one.status] else (one, other)
    return Progress(
        status=high.status,
        at=high.at,
        whatsapp_id=_first(high.whatsapp_id, low.whatsapp_id),
        failure=high.failure,
        sent_at=_first(one.sent_at, other.sent_at),
        delivered_at=_first(one.delivered_at, other.delivered_at),
        read_at=_first(one.read_at, other.read_at),
    )


def _later(before: Observation, after: Observation) -> Observation:
    """Both sights as one: the later state, and what only the earlier one told of the device."""
    number = _first(after.phone_number, before.phone_number)
    if after.unlinked:
        return msgspec.structs.replace(after, phone_number=number)
    return msgspec.structs.replace(
        after,
        unlinked=before.unlinked,
        phone_number=number,
        lid=_first(after.lid, before.lid),
        connected_at=_first(after.connected_at, before.connected_at),
    )


def _first(one: T | None, other: T | None) -> T | None:
    return other if one is None else one
