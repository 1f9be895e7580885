"""The judge of a run: what the books prove, by tables and by properties."""

import itertools
import math
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from sandbox.chaos.judge import (
    FAILED,
    FELL,
    RECEIVED,
    UNSURE,
    Counts,
    Judgement,
    Pace,
    judge,
    merged,
    offline,
    overlaps,
    owed,
    recoveries,
    summed,
    unproven,
)
from sandbox.chaos.ledger import Connection, Heard, Ledger, Order, Round, Told, Written

S, T = "ses_1", "ses_2"
PACE = Pace(every=2.0)
LEASE = 10.0


def books(*sessions: str) -> Ledger:
    """A ledger of one round from 100 to 130, all devices connected throughout."""
    ledger = Ledger(sessions or (S,))
    ledger.rounds.append(a_round())
    ledger.connections += [Connection(each, 0.0, None) for each in ledger.sessions]
    return ledger


def a_round(**changes: Any) -> Round:
    usual = Round(kind="kill", what="", begun=100.0, over=100.0, ended=130.0, healed=True)
    return msgspec.structs.replace(usual, **changes)


def order(text: str = "out 1", at: float = 105.0, **changes: Any) -> Order:
    usual = Order(
        session=S, text=text, at=at, accepted_at=at, message_id=f"msg {text}", resend=False
    )
    return msgspec.structs.replace(usual, **changes)


_numbers = itertools.count()


def told(kind: str, at: float, **changes: Any) -> Told:
    number = next(_numbers)
    usual = Told(event_id=f"evt {number}", type=kind, session=S, at=at, sequence=1)
    return msgspec.structs.replace(usual, **changes)


def judged(ledger: Ledger) -> Judgement:
    return judge(ledger, PACE, LEASE)


def total(ledger: Ledger) -> Counts:
    return judged(ledger).total


def test_a_calm_run_is_clean() -> None:
    """What arrives soon, both ways, while nothing drops, leaves nothing to complain about."""
    ledger = books()
    ledger.orders.append(order())
    ledger.heard.append(Heard(S, "out 1", 105.1))
    ledger.written.append(Written(S, "in 1", 106.0))
    ledger.told.append(told(RECEIVED, 106.1, text="in 1"))
    judgement = judged(ledger)
    assert judgement.wrongs(1.5) == []
    assert judgement.rounds[0].recoveries == {}
    assert judgement.total == Counts(commands=1, events=1)
    assert owed(ledger) == 0
    assert unproven(ledger, 100.0) == set()


def test_a_command_is_lost_if_nobody_heard_it_and_nobody_says_why() -> None:
    """An order the API took is heard, or said to have failed, or to be uncertain."""
    ledger = books()
    ledger.orders += [order(f"out {n}") for n in range(3)]
    ledger.told += [
        told(FAILED, 106.0, message_id="msg out 1"),
        told(UNSURE, 106.0, message_id="msg out 2"),
    ]
    assert total(ledger).commands_lost == 1
    assert (total(ledger).commands_failed, total(ledger).commands_uncertain) == (1, 1)
    assert owed(ledger) == 1


def test_what_was_never_accepted_is_not_lost() -> None:
    """The client knows that it has to ask again."""
    ledger = books()
    ledger.orders.append(order(accepted_at=None, message_id=None))
    assert total(ledger) == Counts()
    assert owed(ledger) == 0


def test_a_double_is_a_wrong_unless_it_was_flagged_or_asked_for() -> None:
    """Heard twice is silent, but for `message.uncertain`, or an order to send again."""
    ledger = books()
    ledger.orders += [order("silent"), order("flagged"), order("asked for", resend=True)]
    ledger.heard += [Heard(S, each.text, 106.0) for each in ledger.orders for _ in range(2)]
    ledger.told.append(told(UNSURE, 106.0, message_id="msg flagged"))
    assert total(ledger).commands_doubled == 3
    assert total(ledger).commands_doubled_silently == 1


def test_what_is_said_to_have_failed_must_not_have_been_heard() -> None:
    """Else the tenant sends it again."""
    ledger = books()
    ledger.orders.append(order())
    ledger.heard.append(Heard(S, "out 1", 105.1))
    ledger.told.append(told(FAILED, 106.0, message_id="msg out 1"))
    assert total(ledger).commands_belied == 1


def test_an_event_is_told_once_under_one_id() -> None:
    """None is lost, two ids for one text are a silent double, one id twice is a flagged one."""
    ledger = books()
    ledger.written += [Written(S, f"in {n}", 105.0) for n in range(3)]
    once = told(RECEIVED, 106.0, text="in 1")
    ledger.told += [once, once]
    ledger.told += [told(RECEIVED, 106.0, text="in 2") for _ in range(2)]
    judgement = judged(ledger)
    assert (judgement.total.events_lost, judgement.total.events_doubled) == (1, 1)
    assert judgement.events_repeated == 1


def test_a_missing_number_is_a_lost_event() -> None:
    """Sequences count up by one, whatever the event was about."""
    ledger = books()
    ledger.told += [told("session.connected", 90.0, sequence=n) for n in (1, 2, 4)]
    assert judged(ledger).gaps == 1
    assert owed(ledger) == 1


def test_a_session_that_ends_unasked_has_fallen() -> None:
    """To be paired at the beginning is no fall, to be paired again is one, told once."""
    ledger = books()
    again = told("session.pairing", 120.0, sequence=2)
    ledger.told += [told("session.pairing", 10.0), again, again]
    assert "session.pairing" in FELL
    assert judged(ledger).fell == 1


def test_two_connections_at_once_are_two_owners() -> None:
    """One that begins when the other ends is not."""
    ledger = books(S, T)
    ledger.connections[:] = [
        Connection(S, 0.0, 110.0),
        Connection(S, 110.0, None),
        Connection(T, 0.0, 110.5),
        Connection(T, 110.0, None),
    ]
    assert overlaps(ledger) == [110.0]
    assert total(ledger).double_owners == 1


def test_recovery_is_the_longest_time_out_of_order() -> None:
    """Without a connection, then with a queue that is late: what touches is one silence."""
    ledger = books(S, T)
    ledger.connections[0] = Connection(S, 0.0, 100.5)
    ledger.connections.append(Connection(S, 112.0, None))
    ledger.orders.append(order(at=108.0))
    ledger.heard.append(Heard(S, "out 1", 113.5))
    judgement = judged(ledger)
    assert judgement.rounds[0].recoveries == {S: 13.0}
    assert judgement.leases(judgement.rounds[0]) == (1.3, 1.3)
    assert judgement.offline == {S: 11.5}
    assert judgement.logins == {S: 1}
    assert judgement.silences == {S: 13.0}


def test_what_was_late_soon_after_the_fault_counts_from_it() -> None:
    """A probe every two seconds does not see the moment, so the session gets no benefit."""
    ledger = books()
    ledger.written.append(Written(S, "in 1", 101.5))
    ledger.told.append(told(RECEIVED, 104.0, text="in 1"))
    assert recoveries(ledger, a_round(), PACE) == {S: 4.0}


def test_an_outage_counts_from_its_end() -> None:
    """Where nobody could do anything before."""
    ledger = books()
    ledger.connections[0] = Connection(S, 0.0, 100.0)
    ledger.connections.append(Connection(S, 111.0, None))
    assert recoveries(ledger, a_round(over=108.0), PACE) == {S: 3.0}
    assert recoveries(ledger, a_round(over=112.0), PACE) == {}


def test_what_never_comes_is_never_a_recovery() -> None:
    """Nor is a round after which not everything was seen to work."""
    ledger = books()
    ledger.written.append(Written(S, "in 1", 105.0))
    assert recoveries(ledger, a_round(), PACE) == {S: math.inf}
    assert recoveries(ledger, a_round(), PACE, now=129.0) == {S: 24.0}
    ledger = books()
    ledger.rounds[0] = a_round(healed=False)
    assert judged(ledger).worst == math.inf
    assert len(judged(ledger).wrongs(1.5)) == 2


def test_a_webhook_of_before_the_fault_says_nothing_of_recovery() -> None:
    """But how late it was is told."""
    ledger = books()
    ledger.written.append(Written(S, "in 1", 99.9))
    ledger.told.append(told(RECEIVED, 160.0, text="in 1"))
    assert recoveries(ledger, a_round(), PACE) == {}
    assert round(judged(ledger).latest_webhook, 1) == 60.1


def test_one_late_text_is_no_silence() -> None:
    """Where a later one came before it, the session worked then."""
    ledger = books()
    ledger.written += [Written(S, "in 1", 110.0), Written(S, "in 2", 112.0)]
    ledger.told += [
        told(RECEIVED, 113.5, text="in 2"),
        told(RECEIVED, 125.0, text="in 1"),
    ]
    assert recoveries(ledger, a_round(), PACE) == {S: 3.5}
    assert judged(ledger).latest_webhook == 15.0


def test_a_backlog_that_goes_out_is_no_silence() -> None:
    """The last of it waits for its turn, which is the traffic's doing; how long, is told."""
    ledger = books()
    ledger.orders += [order(f"out {n}", at=102.0 + n) for n in range(5)]
    ledger.heard += [Heard(S, f"out {n}", 112.0 + n) for n in range(5)]
    assert recoveries(ledger, a_round(), PACE) == {S: 12.0}
    assert judged(ledger).latest_command == 10.0


def test_a_text_may_be_heard_before_its_acceptance() -> None:
    """Where the API's first answer was lost, and the order was repeated."""
    ledger = books()
    ledger.orders.append(order(at=110.0, accepted_at=112.0))
    ledger.heard.append(Heard(S, "out 1", 110.5))
    assert recoveries(ledger, a_round(), PACE) == {}


def test_an_uncertain_message_holds_nothing_up() -> None:
    """From when it is said to be, nobody waits for it."""
    ledger = books()
    ledger.orders.append(order(at=110.0))
    ledger.told.append(told(UNSURE, 112.5, message_id="msg out 1"))
    assert recoveries(ledger, a_round(), PACE) == {S: 2.5}


def test_messages_belong_to_the_round_they_were_sent_in() -> None:
    """From its begin to the next one's."""
    ledger = books()
    ledger.rounds.append(a_round(kind="host", begun=140.0, over=140.0, ended=150.0))
    ledger.written += [Written(S, f"in {at}", at) for at in (99.0, 135.0, 140.0)]
    assert [each.counts.events for each in judged(ledger).rounds] == [2, 1]


def test_a_run_without_rounds_proves_nothing() -> None:
    """And says nothing."""
    ledger = Ledger((S,))
    ledger.written.append(Written(S, "in 1", 1.0))
    judgement = judged(ledger)
    assert judgement.total == Counts()
    assert judgement.worst == 0.0


def test_a_session_is_proven_by_texts_both_ways_after_the_fault() -> None:
    """One way is not enough, nor is what was sent before."""
    ledger = books(S, T)
    for session in (S, T):
        ledger.orders.append(order(session=session))
        ledger.heard.append(Heard(session, "out 1", 106.0))
    ledger.written += [Written(S, "in 1", 106.0), Written(T, "in 1", 99.0)]
    ledger.told += [told(RECEIVED, 107.0, text="in 1", session=each) for each in (S, T)]
    assert unproven(ledger, 100.0) == {T}


moments = st.integers(0, 200).map(float)
intervals = st.lists(st.tuples(moments, moments).map(sorted).map(tuple), max_size=12)


@given(intervals)
def test_merging_keeps_every_moment_and_no_two_touch(given_intervals: Any) -> None:
    """The same times, each once, in order."""
    whole = merged(given_intervals)
    assert all(a[1] < b[0] for a, b in itertools.pairwise(whole))
    for moment in range(201):
        inside = any(since <= moment <= until for since, until in given_intervals)
        assert inside == any(since <= moment <= until for since, until in whole)


@given(intervals)
def test_a_device_is_online_or_offline(times: Any) -> None:
    """Every moment of a round lies in a connection or between two, never in both."""
    ledger = Ledger((S,), connections=[Connection(S, *each) for each in times])
    gaps = offline(ledger, S, 50.0, 150.0)
    for moment in (each + 0.5 for each in range(50, 150)):
        on = any(since < moment < until for since, until in times)
        assert on != any(since < moment < until for since, until in gaps)


@given(
    st.lists(st.builds(Counts, commands=st.integers(0, 9), events=st.integers(0, 9)), max_size=5)
)
def test_sums_are_sums(counts: list[Counts]) -> None:
    """Of every count."""
    assert summed(counts).commands == sum(each.commands for each in counts)
    assert summed(counts).events == sum(each.events for each in counts)
