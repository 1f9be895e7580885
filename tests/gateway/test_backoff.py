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
