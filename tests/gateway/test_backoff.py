"""Pauses between tries."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.backoff import FIRST, LONGEST, pause

jitters = st.floats(min_value=0, max_value=1, exclude_max=True)


@given(st.integers(min_value=1, max_value=10**9), jitters)
def test_a_pause_is_bounded(failures: int, jitter: float) -> None:
    """No pause is shorter than half of the first or longer than the longest."""
    assert FIRST / 2 <= pause(failures, jitter) <= LONGEST


@given(st.integers(min_value=1, max_value=1000), jitters)
def test_pauses_grow(failures: int, jitter: float) -> None:
    """One more failure never shortens the pause."""
    assert pause(failures + 1, jitter) >= pause(failures, jitter)


def test_chance_spreads_half_of_a_pause() -> None:
    """Two sessions that failed together come back apart."""
    assert pause(3, 0.0) == 2.0
    assert pause(3, 0.5) == 3.0


@given(st.lists(jitters, min_size=200, max_size=200, unique=True), st.integers(5, 50))
def test_those_that_failed_together_come_back_apart(drawn: list[float], failures: int) -> None:
    """Two come at the same time only where chance was the same."""
    assert len({pause(failures, each) for each in drawn}) > 1


@given(st.integers(min_value=1, max_value=200))
def test_an_outage_is_asked_about_ever_more_seldom(failures: int) -> None:
    """So many tries take at least this long, whatever chance does."""
    shortest = sum(pause(each, 0.0) for each in range(1, failures + 1))
    assert shortest >= min(FIRST / 2 * (2**failures - 1), (failures - 9) * LONGEST / 2)
