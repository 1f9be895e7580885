import re
from collections import Counter
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from shared import ids
from shared.events import SESSION_EVENTS
from shared.ids import SessionId, TenantId
from shared.session import (
    ALIVE,
    ANSWERS_START,
    AT_REST,
    REASONS,
    RESUMABLE,
    STATES,
    TRANSITIONS,
    Desired,
    Reason,
    Session,
    SessionState,
    Trigger,
    after,
    ban_ends,
    linked,
    sendable,
    shard_of,
    starting_anew,
    unlinked,
)
from tests.strategies import MOMENTS

S, T = SessionState, Trigger


_MATRIX = """
                  start     offer    paired   connect   drop         stop    log_out    ban    fail   expire  passkey
created           starting  -        -        -         -            stopped logged_out -      -      -       -
starting          starting  pairing  starting connected starting     stopped logged_out banned failed stopped passkey_required
pairing           starting  pairing  starting connected starting     stopped logged_out banned failed stopped passkey_required
connected         starting  -        -        connected reconnecting stopped logged_out banned failed -       -
reconnecting      starting  -        -        connected reconnecting stopped logged_out banned failed -       -
stopped           starting  -        -        -         -            -       logged_out -      -      -       -
logged_out        starting  -        -        -         -            -       -          -      -      -       -
banned            starting  -        -        -         -            -       logged_out -      -      -       -
failed            starting  -        -        -         -            -       logged_out -      -      -       -
passkey_required  starting  -        -        -         -            -       logged_out -      -      -       -
"""  # noqa: E501 (a table)


def test_every_pair_is_as_it_was_meant() -> None:
    """Each state under each trigger: what follows, or a dash where it means nothing."""
    heads, *rows = [line.split() for line in _MATRIX.strip().splitlines()]
    meant = {
        (SessionState(state), Trigger(head)): None if cell == "-" else SessionState(cell)
        for state, *cells in rows
        for head, cell in zip(heads, cells, strict=True)
    }

    assert set(meant) == {(state, trigger) for state in SessionState for trigger in Trigger}
    assert {pair: after(*pair) for pair in meant} == meant
    assert set(TRANSITIONS) == {pair for pair, state in meant.items() if state is not None}


@given(st.sampled_from(SessionState), st.lists(st.sampled_from(Trigger), max_size=30))
def test_no_story_leads_nowhere(state: SessionState, story: list[Trigger]) -> None:
    """Whatever happens, the session can be started; stopped or logged out, it is at rest."""
    for trigger in story:
        state = after(state, trigger) or state

        assert after(state, T.START) is S.STARTING
        for end in (T.STOP, T.LOG_OUT):
            assert (after(state, end) or state) in AT_REST


def test_the_sets_of_states_say_what_the_table_says() -> None:
    """A socket can fail where there is one; what is resumable can be stopped."""
    assert {state for state, trigger in TRANSITIONS if trigger is T.FAIL} == ALIVE
    assert frozenset(SessionState) - ALIVE == AT_REST
    assert {state for state, trigger in TRANSITIONS if trigger is T.STOP} == RESUMABLE
    assert {S.CREATED, S.STOPPED} == AT_REST - ANSWERS_START
    assert set(STATES) == set(SessionState)


def test_every_state_is_reached_and_announced() -> None:
    """No state is unreachable, and each but two is announced by an event of its own."""
    reached = set(TRANSITIONS.values())

    assert reached == set(SessionState) - {S.CREATED}
    assert set(SESSION_EVENTS) == reached - {S.PAIRING}


def test_what_ended_stays_ended_until_it_is_started() -> None:
    """A late word from a dead socket never brings a session back."""
    for state in (S.STOPPED, S.LOGGED_OUT, S.BANNED, S.FAILED, S.PASSKEY_REQUIRED):
        for trigger in (T.CONNECT, T.DROP, T.OFFER, T.PAIRED, T.EXPIRE, T.FAIL, T.BAN):
            assert after(state, trigger) is None


def test_every_reason_is_said_in_words() -> None:
    """Each reason has sentences; one says what to do, or that it mends itself."""
    assert set(REASONS) == set(Reason)
    for text in (*REASONS.values(), *(each.then for each in STATES.values())):
        assert text.endswith(".")
    for text in REASONS.values():
        assert re.search(r"\b(start|Start|starts|Mend|Ask|ask|Nothing to do)\b", text), text


def row(**fields: Any) -> Session:
    given: dict[str, Any] = {
        "id": SessionId(""),
        "tenant_id": TenantId(""),
        "name": "",
        "shard": 0,
        "state": S.CONNECTED,
        "desired": Desired.RUNNING,
        "created_at": 0,
        "updated_at": 0,
    }
    return Session(**{**given, **fields})


def test_a_session_sends_while_it_is_connected_or_on_its_way_back() -> None:
    """The whole table, with and without a device that was linked."""
    for state in SessionState:
        for connected_at in (None, 5):
            expected = state in {S.CONNECTED, S.RECONNECTING} or (
                state is S.STARTING and connected_at is not None
            )

            assert sendable(row(state=state, connected_at=connected_at)) is expected


def test_a_ban_ends_by_itself_where_it_is_for_a_time_and_the_session_is_wanted() -> None:
    """Nothing else has an end: an account's ban, a session nobody wants, any other state."""
    banned = row(state=S.BANNED, reason=Reason.TEMPORARILY_BANNED, until=9)

    assert ban_ends(banned) == 9
    for change in (
        {"reason": Reason.ACCOUNT_BANNED},
        {"desired": Desired.STOPPED},
        {"desired": Desired.DELETED},
        {"state": S.STARTING},
        {"until": None},
    ):
        assert ban_ends(msgspec.structs.replace(banned, **change)) is None


def test_a_start_waits_only_at_rest_and_until_it_is_heard() -> None:
    """Then a session that ended is not over: what was ordered is on its way."""
    for state in SessionState:
        for desired in Desired:
            for pending in (False, True):
                expected = state in AT_REST and desired is Desired.RUNNING and pending
                there = row(state=state, desired=desired, pending=pending)

                assert starting_anew(there) is expected
    assert linked(row(connected_at=1))
    assert not linked(row())


def test_what_takes_the_device_away() -> None:
    """A log-out, an account's ban, and the offer of a QR; nothing else."""
    gone = {(state, reason) for state in S for reason in (None, *Reason) if unlinked(state, reason)}

    assert {state for state, _ in gone} == {S.LOGGED_OUT, S.BANNED, S.PAIRING}
    assert {reason for state, reason in gone if state is S.BANNED} == {Reason.ACCOUNT_BANNED}


@given(st.lists(st.binary(min_size=10, max_size=10), min_size=1), MOMENTS, st.integers(1, 64))
def test_a_shard_is_one_of_the_shards(random: list[bytes], now: int, shards: int) -> None:
    """Every id has one shard, always the same."""
    for each in random:
        session_id = SessionId(ids.mint(ids.SESSION, now, each))

        assert 0 <= shard_of(session_id, shards) < shards
        assert shard_of(session_id, shards) == shard_of(session_id, shards)


def test_shards_are_even() -> None:
    """No shard gets twice its share of ten thousand sessions."""
    drawn = Counter(
        shard_of(
            SessionId(ids.mint("ses", 0, n.to_bytes(4) + (n * 2654435761 % 2**48).to_bytes(6))), 16
        )
        for n in range(10_000)
    )

    assert max(drawn.values()) < 2 * 10_000 / 16
