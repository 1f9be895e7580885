"""Numbers of rounds, and what they say."""

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.bench.samples import Row, Target, percentile, spread

values = st.lists(st.floats(0.001, 1e6), min_size=1, max_size=50)


@given(values)
def test_spread_holds_every_value(several: list[float]) -> None:
    """A spread names the least, the middle and the greatest."""
    of = spread(several)
    assert of.low == min(several)
    assert of.high == max(several)
    assert of.median == statistics.median(several)
    assert of.low <= of.median <= of.high
    assert of.width >= 0


def test_spread_of_nothing_is_refused() -> None:
    """Nothing measured is not zero."""
    with pytest.raises(ValueError, match="no values"):
        spread([])


@given(values, st.floats(0, 1))
def test_percentile_is_one_of_the_values(several: list[float], share: float) -> None:
    """A percentile was measured, and at least its share of the values is no greater."""
    found = percentile(several, share)
    assert found in several
    assert sum(each <= found for each in several) >= share * len(several)


@given(values, st.floats(0, 1), st.floats(0, 1))
def test_percentile_grows_with_its_share(several: list[float], one: float, other: float) -> None:
    """A greater share never gives a smaller percentile."""
    low, high = sorted((one, other))
    assert percentile(several, low) <= percentile(several, high)


@pytest.mark.parametrize(("share", "expected"), [(0.5, 10), (0.95, 19), (1, 20), (0, 1)])
def test_percentile_by_nearest_rank(share: float, expected: int) -> None:
    """Of 1..20 the 95th is the nineteenth."""
    assert percentile(range(1, 21), share) == expected


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_percentile_outside_is_refused(share: float) -> None:
    """A share is within 0..1."""
    with pytest.raises(ValueError, match="share"):
        percentile([1.0], share)


def row(ours: tuple[float, ...], bare: tuple[float, ...] = (), target: Target | None = None) -> Row:
    return Row(name="figure", unit="ms", ours=ours, bare=bare, target=target)


def test_a_ratio_is_of_the_same_round() -> None:
    """A round in which everything took twice as long changes no ratio."""
    assert row((1.2, 2.4), (1.0, 2.0)).ratios == (1.2, 1.2)


@pytest.mark.parametrize(
    ("ours", "target", "verdict"),
    [
        ((1.3, 1.3, 9.0), Target(1.3), "OK"),
        ((1.31, 1.31, 1.0), Target(1.3), "MISSED"),
        ((0.6,), Target(0.6, kind="at least"), "OK"),
        ((0.59,), Target(0.6, kind="at least"), "MISSED"),
        ((30.0,), Target(30, of="value"), "OK"),
        ((30.04,), Target(30, of="value"), "MISSED"),
        ((5.0,), None, ""),
    ],
)
def test_the_median_is_judged_unrounded(
    ours: tuple[float, ...], target: Target | None, verdict: str
) -> None:
    """One wild round does not decide, and a hair over the target is over it."""
    assert row(ours, (1.0,) * len(ours), target).verdict == verdict


def test_a_row_needs_the_same_rounds_of_both() -> None:
    """Ours of five rounds is not compared with bare of four."""
    with pytest.raises(ValueError, match="same rounds"):
        row((1.0, 2.0), (1.0,))
    with pytest.raises(ValueError, match="same rounds"):
        row(())


def test_a_bare_zero_is_no_reason_to_fail() -> None:
    """A counterpart that took no measurable time gives no finite ratio."""
    assert row((1.0,), (0.0,)).ratios == (float("inf"),)
