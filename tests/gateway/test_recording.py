"""What entries change, folded into one transaction."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.delivery import claimed
from gateway.recording import (
    LARGEST_BODY,
    Change,
    change_of,
    fold,
    without,
)
from shared import clock, ids
from shared.aws import Refusal
from shared.delivery import Delivery, DeliveryState
from shared.events import (
    MESSAGE_EVENTS,
    SESSION_EVENTS,
    MessageChange,
    MessageReceived,
    Party,
    ReceivedMessage,
    SessionChange,
    SessionConnected,
    SessionEvent,
    SessionReconnecting,
    Unsupported,
    decode,
)
from shared.ids import EndpointId, EventId, MessageId, SessionId, TenantId
from shared.message import MessageStatus, Text
from shared.session import Desired, Session, SessionState
from shared.store.dynamo import plain
from shared.webhook import Endpoint, EndpointStatus
from tests import strategies

NOW = 1_700_000_000_000
SESSION = Session(
    id=SessionId(ids.mint(ids.SESSION, NOW, bytes(10))),
    tenant_id=TenantId(ids.mint(ids.TENANT, NOW, bytes(10))),
    name="",
    shard=0,
    state=SessionState.CONNECTED,
    desired=Desired.RUNNING,
    created_at=0,
    updated_at=0,
    epoch=7,
)
MESSAGE = MessageId(ids.mint(ids.MESSAGE, NOW, bytes(10)))


def endpoint(number: int, *events: str) -> Endpoint:
    return Endpoint(
        id=EndpointId(ids.mint(ids.ENDPOINT, NOW, bytes([*bytes(9), number]))),
        tenant_id=SESSION.tenant_id,
        url="https://example.com",
        events=events or ("*",),
        sealed_secret=b"",
        status=EndpointStatus.ENABLED,
        created_at=0,
        updated_at=0,
    )


def event_id(number: int) -> EventId:
    return EventId(ids.mint(ids.EVENT, NOW, bytes([*bytes(9), number])))


def status(number: int, reached: MessageStatus, **more: Any) -> SessionEvent:
    return MESSAGE_EVENTS[reached](
        id=event_id(number),
        timestamp=clock.instant(NOW + number),
        session_id=SESSION.id,
        sequence=number,
        data=MessageChange(message_id=MESSAGE, status=reached, to="+4915112345678", **more),
    )


def changed(event: SessionEvent, *endpoints: Endpoint, room: bool = True) -> Change:
    def born(delivery: Delivery, endpoint: Endpoint) -> Delivery:
        return claimed(delivery, NOW) if room else delivery

    return change_of(SESSION, event, endpoints, NOW, born)


def values(write: Any) -> dict[str, Any]:
    """The values an update sets, by name."""
    tagged: dict[str, Any] = write.body["ExpressionAttributeValues"]
    return {name: plain(value) for name, value in tagged.items()}


@given(st.lists(strategies.EVENTS, max_size=20, unique_by=lambda event: event.id))
def test_no_row_is_named_twice(events: list[Any]) -> None:
    """Whatever happened, a transaction writes each row once: DynamoDB refuses anything else."""
    changes = [
        changed(event, endpoint(1), endpoint(2)) for event in events if hasattr(event, "session_id")
    ]
    actions = fold(changes)
    rows = [
        (plain(key["PK"]), plain(key["SK"]))
        for action in actions
        for key in [action.write.body.get("Key") or action.write.body["Item"]]
    ]
    assert len(rows) == len(set(rows))
    assert len(actions) <= sum(change.actions for change in changes)
    assert sum(change.size for change in changes) >= sum(
        len(change.event.body) for change in changes
    )


def test_statuses_of_a_message_become_its_highest() -> None:
    """Sent and delivered in one transaction are one write with both times, in any order."""
    for order in (1, -1):
        events = [
            status(1, MessageStatus.SENT, whatsapp_id="ABC"),
            status(2, MessageStatus.DELIVERED),
        ][::order]
        (update,) = [
            action.write
            for action in fold([changed(event) for event in events])
            if action.part == "message"
        ]
        written = values(update)
        assert written[":status"] == "delivered"
        assert written[":sent_at"] == NOW + 1
        assert written[":delivered_at"] == NOW + 2
        assert written[":whatsapp_id"] == "ABC"


def test_states_of_a_session_become_its_last() -> None:
    """What only an earlier state told is kept, and the write carries the fencing token."""
    connected = SessionConnected(
        id=event_id(1),
        timestamp=clock.instant(NOW + 1),
        session_id=SESSION.id,
        sequence=1,
        data=SessionChange(
            state=SessionState.CONNECTED, previous=SessionState.STARTING, lid="1@lid"
        ),
    )
    lost = SessionReconnecting(
        id=event_id(2),
        timestamp=clock.instant(NOW + 2),
        session_id=SESSION.id,
        sequence=2,
        data=SessionChange(state=SessionState.RECONNECTING, previous=SessionState.CONNECTED),
    )
    (update,) = [
        action.write
        for action in fold([changed(connected), changed(lost)])
        if action.part == "session"
    ]
    written = values(update)
    assert (written[":state"], written[":connected_at"]) == ("reconnecting", NOW + 1)
    assert (written[":lid"], written[":epoch"]) == ("1@lid", 7)


def test_a_device_that_went_between_two_states_is_forgotten() -> None:
    """Connected, logged out and started again in one write leave nothing of the old device."""
    story = (
        (SessionState.CONNECTED, "1@lid"),
        (SessionState.LOGGED_OUT, "1@lid"),
        (SessionState.STARTING, None),
    )
    events = [
        SESSION_EVENTS[state](
            id=event_id(number),
            timestamp=clock.instant(NOW + number),
            session_id=SESSION.id,
            sequence=number,
            data=SessionChange(state=state, previous=SessionState.STARTING, lid=lid),
        )
        for number, (state, lid) in enumerate(story)
    ]
    changes = [changed(event) for event in events]
    written = {
        count: next(action.write for action in fold(changes[:count]) if action.part == "session")
        for count in (1, 2, 3)
    }
    assert values(written[1])[":connected_at"] == NOW
    for count in (2, 3):
        removed = written[count].body["UpdateExpression"].partition("REMOVE ")[2]
        assert {"#lid", "#connected_at"} <= set(removed.split(", "))
    again = SessionConnected(
        id=event_id(9),
        timestamp=clock.instant(NOW + 9),
        session_id=SESSION.id,
        sequence=9,
        data=SessionChange(
            state=SessionState.CONNECTED, previous=SessionState.STARTING, lid="2@lid"
        ),
    )
    (relinked,) = [
        action.write for action in fold([*changes, changed(again)]) if action.part == "session"
    ]
    assert values(relinked)[":lid"] == "2@lid"
    assert values(relinked)[":connected_at"] == NOW + 9


def test_only_endpoints_that_want_an_event_get_it() -> None:
    """A delivery is owed for each endpoint whose filter fits, claimed only where there is room."""
    event = status(1, MessageStatus.SENT)
    change = changed(event, endpoint(1), endpoint(2, "session.*"), endpoint(3, "message.sent"))
    assert [delivery.state for delivery in change.deliveries] == [DeliveryState.SENDING] * 2
    assert [delivery.attempt for delivery in change.deliveries] == [1, 1]
    (waiting,) = changed(event, endpoint(1), room=False).deliveries
    assert (waiting.state, waiting.attempt, waiting.due_at) == (DeliveryState.WAITING, 0, NOW)


def test_a_message_too_large_for_a_row_is_announced_without_its_text() -> None:
    """A text of characters that JSON writes sixfold would not fit: the event says so instead."""
    received = MessageReceived(
        id=event_id(1),
        timestamp=clock.instant(NOW),
        session_id=SESSION.id,
        sequence=1,
        data=ReceivedMessage(
            whatsapp_id="A",
            chat="+4915112345678",
            sender=Party(),
            content=Text("\x01" * 65_536),
            sent_at=clock.instant(NOW),
        ),
    )
    change = changed(received)
    assert len(change.event.body) < LARGEST_BODY
    stored = decode(change.event.body)
    assert isinstance(stored.data, ReceivedMessage)
    assert stored.data.content == Unsupported("oversized")


def refusal(codes: list[str], items: dict[int, Any] | None = None) -> Refusal:
    kept = items or {}
    return Refusal(tuple(codes), tuple(kept.get(n) for n in range(len(codes))))


FAILED = "ConditionalCheckFailed"


def test_a_stored_event_takes_its_deliveries_with_it() -> None:
    """What was written by an earlier try is left out; the other entry and its status stay."""
    changes = [
        changed(status(1, MessageStatus.SENT), endpoint(1)),
        changed(status(2, MessageStatus.DELIVERED), endpoint(1)),
    ]
    actions = fold(changes)
    assert [action.part for action in actions] == [
        "event",
        "delivery",
        "event",
        "delivery",
        "message",
    ]
    left = without(actions, refusal([FAILED, FAILED, "None", "None", "None"]))
    assert left.repeated == {event_id(1)}
    assert [action.part for action in left.actions] == ["event", "delivery", "message"]
    assert left.actions[0].change is changes[1]


def test_a_status_that_is_no_news_is_left_out() -> None:
    """A message that is as far already keeps its status; the event is stored all the same."""
    actions = fold([changed(status(1, MessageStatus.SENT))])
    left = without(actions, refusal(["None", FAILED]))
    assert [action.part for action in left.actions] == ["event"]
    assert not left.repeated


def test_a_later_lease_fences_the_session_and_a_deleted_one_does_not() -> None:
    """A refused state with a row behind it means that the shard is another's; without, no row."""
    connected = SessionConnected(
        id=event_id(1),
        timestamp=clock.instant(NOW),
        session_id=SESSION.id,
        sequence=1,
        data=SessionChange(state=SessionState.CONNECTED, previous=SessionState.STARTING),
    )
    actions = fold([changed(connected)])
    assert [action.part for action in actions] == ["event", "session", "pairing"]
    fenced = without(actions, refusal(["None", FAILED, "None"], {1: {"epoch": {"N": "8"}}}))
    gone = without(actions, refusal(["None", FAILED, "None"]))
    assert fenced.fenced == (SESSION,)
    assert [action.part for action in fenced.actions] == ["event"]
    assert gone.fenced == ()
    assert [action.part for action in gone.actions] == ["event", "pairing"]


@pytest.mark.parametrize("state", SESSION_EVENTS, ids=str)
def test_what_an_attempt_offered_goes_with_its_state(state: SessionState) -> None:
    """No QR is shown beside a state that is not pairing, and none beside a new attempt's start."""
    changed_state = SESSION_EVENTS[state](
        id=event_id(1),
        timestamp=clock.instant(NOW),
        session_id=SESSION.id,
        sequence=1,
        data=SessionChange(state=state, previous=SessionState.PAIRING),
    )

    assert [action.part for action in fold([changed(changed_state)])][-1] == "pairing"
