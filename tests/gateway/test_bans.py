"""When a session whose ban is over is started again."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from gateway.bans import JITTER, SHORTEST, Bans, resumes_at
from shared import clock
from shared.session import Desired, Reason, Session, SessionState
from tests.gateway.gateway import new_session

NOW = 1_800_000_000_000


def banned(until: int, **changes: object) -> Session:
    """A session whose ban was seen at `NOW`."""
    session = msgspec.structs.replace(
        new_session(),
        state=SessionState.BANNED,
        reason=Reason.TEMPORARILY_BANNED,
        until=until,
        updated_at=NOW,
    )
    return msgspec.structs.replace(session, **changes)


@given(st.integers(0, 2 * NOW), st.floats(0, 1, exclude_max=True))
def test_nobody_is_early_and_nobody_a_minute_late(ends: int, chance: float) -> None:
    """Not before WhatsApp said, not at once, and not all together."""
    at = resumes_at(ends, NOW, chance)

    assert at >= max(ends, NOW + SHORTEST)
    assert at <= max(ends, NOW + SHORTEST) + JITTER


def test_those_whose_time_has_come_are_told_in_turn() -> None:
    """Each until it is forgotten; one that is not banned any more, or not wanted, never."""
    bans = Bans(lambda: 0.0)
    later, sooner = banned(NOW + 2 * clock.HOUR), banned(NOW + clock.HOUR)
    freed, unwanted = banned(NOW), banned(NOW, desired=Desired.STOPPED)
    for each in (later, sooner, freed, unwanted):
        bans.heed(each)
    bans.heed(msgspec.structs.replace(freed, state=SessionState.CONNECTED))

    assert bans.over(NOW + clock.HOUR - 1) == []
    assert bans.over(NOW + clock.HOUR) == [sooner]
    assert bans.over(NOW + clock.DAY) == [sooner, later]
    bans.forget(sooner.id)
    bans.forget(sooner.id)
    assert bans.over(NOW + clock.DAY) == [later]


def test_a_shard_that_is_left_takes_its_bans_along() -> None:
    """Whoever holds it next reads them from the table."""
    bans = Bans(lambda: 0.0)
    here, there = banned(NOW, shard=1), banned(NOW, shard=2)
    bans.heed(here)
    bans.heed(there)
    bans.leave(1)

    assert bans.over(NOW + clock.DAY) == [there]
