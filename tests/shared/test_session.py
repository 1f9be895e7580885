from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from shared import ids
from shared.events import SESSION_EVENTS
from shared.ids import SessionId, TenantId
from shared.session import (
    REASONS,
    TRANSITIONS,
    Desired,
    Reason,
    Session,
    SessionState,
    Trigger,
    after,
    sendable,
    shard_of,
    unlinked,
)
from tests.strategies import MOMENTS

S, T = SessionState, Trigger


@given(st.sampled_from(SessionState), st.lists(st.sampled_from(Trigger), max_size=30))
def test_no_story_leads_nowhere(state: SessionState, story: list[Trigger]) -> None:
    """Whatever happens, the session is in one state, and can be started and stopped from it."""
    for trigger in story:
        state = after(state, trigger) or state

        assert after(state, T.START) is S.STARTING
        assert after(state, T.STOP) is S.STOPPED


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
    """Each reason has a sentence a tenant can act on."""
    assert set(REASONS) == set(Reason)
    assert all(text.endswith(".") for text in REASONS.values())


def test_a_session_sends_while_it_is_connected_or_on_its_way_back() -> None:
    """The whole table, with and without a device that was linked."""
    for state in SessionState:
        for connected_at in (None, 5):
            row = Session(
                id=SessionId(""),
                tenant_id=TenantId(""),
                name="",
                shard=0,
                state=state,
                desired=Desired.RUNNING,
                created_at=0,
                updated_at=0,
                connected_at=connected_at,
            )
            expected = state in {S.CONNECTED, S.RECONNECTING} or (
                state is S.STARTING and connected_at is not None
            )

            assert sendable(row) is expected


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
