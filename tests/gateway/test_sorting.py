"""Failures of commands, sorted by where they fell."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.sorting import LONGEST_PAUSE, Fate, Order, Settlement, groups, runs, sort, worn
from shared.commands import Command, PurgeTenant, SendMessage, StartSession, StopSession
from shared.errors import Contended, Expired, Foreign, Forged, Malformed, NotHeld, Unavailable
from shared.ids import CommandId, MessageId, SessionId, TenantId
from shared.message import Text
from shared.queue import Received

SEND = SendMessage(
    id=CommandId("cmd"),
    tenant_id=TenantId("ten"),
    session_id=SessionId("ses"),
    issued_at=0,
    expires_at=1,
    message_id=MessageId("msg"),
    to="+4915112345678",
    content=Text("hello"),
)
KINDS: list[Command] = [
    SEND,
    StartSession(
        id=SEND.id, tenant_id=SEND.tenant_id, session_id=SEND.session_id, issued_at=0, expires_at=1
    ),
    StopSession(
        id=SEND.id, tenant_id=SEND.tenant_id, session_id=SEND.session_id, issued_at=0, expires_at=1
    ),
    PurgeTenant(
        id=SEND.id, tenant_id=SEND.tenant_id, session_id=SEND.session_id, issued_at=0, expires_at=1
    ),
]


@pytest.mark.parametrize(
    ("fault", "settlement"),
    [
        (None, Settlement(Fate.DONE)),
        (Forged(), Settlement(Fate.PARK, "forged")),
        (Expired(), Settlement(Fate.PARK, "expired")),
        (Foreign(), Settlement(Fate.PARK, "foreign")),
        (Malformed(), Settlement(Fate.PARK, "malformed")),
        (NotHeld(), Settlement(Fate.GIVE_BACK, "not_held", 2)),
        (Unavailable("sqs", "x", "y"), Settlement(Fate.GIVE_BACK, "unavailable", 2)),
        (Contended(), Settlement(Fate.GIVE_BACK, "unavailable", 2)),
        (ZeroDivisionError(), Settlement(Fate.GIVE_BACK, "defect", 2)),
    ],
)
def test_where_a_failure_fell_decides(fault: Exception | None, settlement: Settlement) -> None:
    """What is wrong with a command is parked, what went wrong with us is given back."""
    assert sort(fault, 1) == settlement


@given(st.integers(1, 200), st.integers(2, 200))
def test_a_command_is_worn_one_receive_before_it_is_moved_away(count: int, receives: int) -> None:
    """And only if it would be given back once more."""
    assert worn(sort(NotHeld(), count), count, receives) is (count >= receives - 1)
    assert not worn(sort(None, count), count, receives)
    assert not worn(sort(Foreign(), count), count, receives)


@given(st.integers(-1, 10_000))
def test_the_pause_grows_to_a_minute(count: int) -> None:
    """A command that keeps failing is seen less and less often, but at least every minute."""
    assert 2 <= sort(NotHeld(), count).pause <= LONGEST_PAUSE
    assert sort(NotHeld(), count + 1).pause >= sort(NotHeld(), count).pause


def received(group: str, number: int) -> Received:
    return Received(body="", handle=str(number), count=1, group=group)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([*KINDS, Forged()]))))
def test_orders_of_a_session_keep_their_order(
    drawn: list[tuple[str, Command | Malformed]],
) -> None:
    """Grouping and cutting into runs loses nothing and overtakes nothing; only sends run beside."""
    orders = [Order(received(group, n), command) for n, (group, command) in enumerate(drawn)]
    seen = 0
    for group in groups(orders):
        flat = [order for run in runs(group) for order in run]
        assert flat == [order for order in orders if order.message.group == group[0].message.group]
        for run in runs(group):
            assert len(run) == 1 or all(isinstance(order.command, SendMessage) for order in run)
        seen += len(flat)
    assert seen == len(orders)
