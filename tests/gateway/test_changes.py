"""Changes of a session, their events, and the session that follows them."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.changes import Change, Mark, announce, arrival, follow, offer, outcome
from gateway.recording import change_of
from shared import clock, ids
from shared.events import (
    MessageChange,
    Party,
    ReceivedMessage,
    SessionConnected,
    SessionPairing,
    Unsupported,
)
from shared.ids import EventId, MessageId, SessionId, TenantId
from shared.message import MessageStatus
from shared.session import Desired, Reason, Session, SessionState, Trigger, after
from shared.store.sessions import Observation

MARK = Mark(EventId(ids.mint(ids.EVENT, 5, bytes(10))), 9, 1_000)


def session(state: SessionState, reason: Reason | None = None) -> Session:
    return Session(
        id=SessionId(ids.mint(ids.SESSION, 1, bytes(10))),
        tenant_id=TenantId(ids.mint(ids.TENANT, 1, bytes(10))),
        name="a session",
        shard=0,
        state=state,
        desired=Desired.RUNNING,
        created_at=1,
        updated_at=1,
        reason=reason,
    )


@pytest.mark.parametrize("state", SessionState, ids=str)
@pytest.mark.parametrize("trigger", Trigger, ids=str)
def test_a_change_is_announced_where_the_table_says_so(
    state: SessionState, trigger: Trigger
) -> None:
    """For every state and trigger: the event carries the table's state, or there is none."""
    before = session(state)
    event = announce(before, Change(trigger=trigger, reason=Reason.HOST_DIED), MARK)
    expected = after(state, trigger)
    if expected is None or expected is SessionState.PAIRING:
        assert event is None
        return
    assert event is not None
    assert follow(before, event).state is expected
    assert follow(before, event).reason is Reason.HOST_DIED
    assert event.sequence == 9


def test_nothing_new_is_not_announced() -> None:
    """A drop while it is being dialled again, for the same reason, is not a second event."""
    change = Change(trigger=Trigger.DROP, reason=Reason.CONNECTION_LOST, detail="again")
    reconnecting = session(SessionState.RECONNECTING, Reason.CONNECTION_LOST)
    assert announce(reconnecting, change, MARK) is None
    assert announce(session(SessionState.RECONNECTING), change, MARK) is not None


@pytest.mark.parametrize("state", SessionState, ids=str)
def test_a_start_is_always_announced(state: SessionState) -> None:
    """Whoever ordered it sees that it was heard."""
    assert announce(session(state), Change(trigger=Trigger.START), MARK) is not None


def test_connecting_tells_who_the_account_is() -> None:
    """The number and LID WhatsApp names replace what the tenant said."""
    before = msgspec.structs.replace(session(SessionState.STARTING), phone_number="+4915100000")
    change = Change(trigger=Trigger.CONNECT, phone_number="+4915100001", lid="1@lid")
    event = announce(before, change, MARK)
    assert isinstance(event, SessionConnected)
    then = follow(before, event)
    assert (then.phone_number, then.lid, then.connected_at) == ("+4915100001", "1@lid", 1_000)


@pytest.mark.parametrize(
    ("change", "left"),
    [
        (Change(trigger=Trigger.LOG_OUT, reason=Reason.REMOVED_ON_PHONE), None),
        (Change(trigger=Trigger.BAN, reason=Reason.ACCOUNT_BANNED), None),
        (Change(trigger=Trigger.BAN, reason=Reason.TEMPORARILY_BANNED), "1@lid"),
        (Change(trigger=Trigger.STOP), "1@lid"),
    ],
)
def test_what_takes_the_device_takes_what_is_known_of_it(change: Change, left: str | None) -> None:
    """The number stays, and a second word of the same is no news."""
    before = msgspec.structs.replace(
        session(SessionState.CONNECTED), phone_number="+4915100001", lid="1@lid", connected_at=7
    )
    event = announce(before, change, MARK)
    assert event is not None
    then = follow(before, event)
    assert (then.phone_number, then.lid) == ("+4915100001", left)
    assert (then.connected_at is None) == (left is None)
    assert announce(then, change, MARK) is None


def test_a_ban_carries_its_end() -> None:
    """`until` survives the event in whole seconds and back."""
    before = session(SessionState.CONNECTED)
    change = Change(trigger=Trigger.BAN, reason=Reason.TEMPORARILY_BANNED, until=86_400_000)
    event = announce(before, change, MARK)
    assert event is not None
    assert follow(before, event).until == 86_400_000


@pytest.mark.parametrize("state", SessionState, ids=str)
def test_an_offer_is_made_only_while_pairing_means_something(state: SessionState) -> None:
    """A QR that comes after the end is not announced."""
    event = offer(session(state), 2_000, MARK, code=True)
    if after(state, Trigger.OFFER) is None:
        assert event is None
    else:
        assert isinstance(event, SessionPairing)
        assert event.data.has_code
        linked = msgspec.structs.replace(session(state), connected_at=7, lid="1@lid")
        assert follow(linked, event).connected_at is None
        assert follow(session(state), event).state is SessionState.PAIRING


@given(st.sampled_from([MessageStatus.SENT, MessageStatus.FAILED, MessageStatus.READ]))
def test_messages_do_not_change_the_session(status: MessageStatus) -> None:
    """Only the session's own events move it."""
    before = session(SessionState.CONNECTED)
    message_id = MessageId(ids.mint(ids.MESSAGE, 1, bytes(10)))
    sent = outcome(before, MessageChange(message_id=message_id, status=status, to="+491511"), MARK)
    came = arrival(
        before,
        ReceivedMessage(
            whatsapp_id="3A",
            chat="+491511",
            sender=Party(),
            content=Unsupported("imageMessage"),
            sent_at=clock.instant(0),
        ),
        MARK,
    )
    assert follow(before, sent) == before
    assert follow(before, came) == before


def written(row: Session, seen: Observation) -> Session:
    """The row after a gateway's sight of it, as `store.sessions.observe` writes it."""
    gone = seen.unlinked
    return msgspec.structs.replace(
        row,
        state=seen.state,
        pending=False,
        reason=seen.reason,
        detail=seen.detail,
        until=seen.until,
        phone_number=seen.phone_number or row.phone_number,
        lid=seen.lid if gone or seen.lid else row.lid,
        connected_at=seen.connected_at if gone or seen.connected_at else row.connected_at,
        updated_at=seen.at,
    )


CHANGES = st.builds(
    Change,
    trigger=st.sampled_from(Trigger),
    reason=st.none() | st.sampled_from(Reason),
    detail=st.none() | st.just("so"),
    until=st.none() | st.just(5_000),
    phone_number=st.none() | st.just("+4915100001"),
    lid=st.none() | st.just("1@lid"),
)


@given(st.sampled_from(SessionState), st.lists(CHANGES, max_size=12))
def test_the_row_says_what_the_gateway_knows(state: SessionState, story: list[Change]) -> None:
    """Whatever happens, each change is one event, and both views of a session are one."""
    known = row = session(state)
    for number, change in enumerate(story, 1):
        mark = Mark(EventId(ids.mint(ids.EVENT, number, bytes(10))), number, 1_000 * number)
        if change.trigger is Trigger.OFFER:
            event = offer(known, 2_000, mark, code=False)
        else:
            event = announce(known, change, mark)
        if event is None:
            continue
        before, known = known, follow(known, event)
        seen = change_of(known, event, (), 0, lambda delivery, _: delivery).seen
        assert seen is not None
        row = written(row, seen)

        assert row == known
        assert known.state is after(before.state, change.trigger)
