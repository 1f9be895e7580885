"""Many sessions, measured: the sums it rests on, and a small run of it with real processes."""

import math
import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.bench.bed import BenchError
from sandbox.bench.clockwork import Clockwork
from sandbox.bench.crowd import RESERVE_MIB, Census, census, need, seconds, some_at_once, used
from sandbox.bench.figures import density, sharing
from sandbox.bench.figures.sharing import Left, Tally
from sandbox.bench.main import FIGURES, LONG, figures_of
from sandbox.bench.options import Options, steps
from sandbox.bench.proc import Memory, available
from sandbox.bench.samples import MISSED
from sandbox.bench.trend import trend
from tests.conftest import HOME


@given(
    st.lists(st.integers(0, 10_000), min_size=3, unique=True),
    st.integers(-100, 100),
    st.integers(-100, 100),
)
def test_a_line_has_its_own_slope(at: list[int], slope: int, begun: int) -> None:
    """What grows evenly grows by that, with no doubt."""
    values = [begun + slope * each for each in at]
    found = trend([float(each) for each in at], [float(each) for each in values])
    assert math.isclose(found.slope, slope, abs_tol=1e-6)
    assert found.error == pytest.approx(0, abs=1e-4)


def test_noise_makes_a_slope_doubtful() -> None:
    """What goes up and down without an end has a slope that chance explains."""
    found = trend([0.0, 1.0, 2.0, 3.0, 4.0, 5.0], [1.0, 2.0, 1.0, 2.0, 1.0, 2.0])
    assert found.slope < 2 * found.error


@pytest.mark.parametrize(("at", "values"), [([0.0, 1.0], [1.0, 2.0]), ([1.0] * 3, [1.0] * 3)])
def test_a_slope_takes_three_moments(at: list[float], values: list[float]) -> None:
    """Two points are always a line, and one moment has no slope."""
    with pytest.raises(ValueError, match="three"):
        trend(at, values)


def test_steps_rise() -> None:
    """Sessions are only added, and never more than a machine could hold."""
    assert steps("25,100") == (25, 100)
    for wrong in ("100,25", "0", "5,5", "2000", "many", ""):
        with pytest.raises(ValueError, match=re.compile("rising|literal")):
            steps(wrong)


def test_a_census_tells_the_mean_and_the_greatest() -> None:
    """The target is about the greatest."""
    of = Census((Memory(10.0, 8.0), Memory(20.0, 12.0)))
    assert (of.proportional, of.private, of.most) == (15.0, 10.0, 20.0)
    assert census([os.getpid()]).most > 0
    with pytest.raises(BenchError, match="ended"):
        census([2**22 + 1])


def test_processor_time_is_of_those_that_live() -> None:
    """One that ended is passed over, one that was born counts whole."""
    assert set(seconds([os.getpid(), 2**22 + 1])) == {os.getpid()}
    assert used({1: 1.0, 2: 5.0}, {1: 1.5, 3: 0.25}) == 0.75


def test_a_full_machine_is_not_filled_further() -> None:
    """Nothing is started that would leave less than the reserve."""
    need(0.0, "nothing") if available() > RESERVE_MIB else None
    with pytest.raises(BenchError, match="everything"):
        need(available(), "everything")


async def test_results_come_in_the_order_of_what_was_wanted() -> None:
    """However many run side by side."""

    async def double(number: int) -> int:
        return 2 * number

    assert await some_at_once(range(10), double) == [2 * number for number in range(10)]


def test_what_takes_long_is_measured_only_when_named() -> None:
    """Density and sharing are no part of a run without names."""
    assert not LONG.keys() & set(figures_of(()))
    assert figures_of(()) == tuple(FIGURES)
    assert figures_of(("density",)) == ("density",)


def test_one_abort_misses_the_target_of_sharing() -> None:
    """A process that died or hung once is enough; what each cycle left is told."""
    tally = Tally(starts=500, stops=500)
    tally.lives.append([Left(10, 2 * at, 3 * at, 50.0) for at in range(5)])
    tally.aborts["fatal error: concurrent map writes"] += 1
    aborts, hung, threads, handles, *_ = sharing.result("connected", tally).rows
    assert (aborts.ours, aborts.verdict) == ((1.0,), MISSED)
    assert hung.verdict == "OK"
    assert threads.ours == (0.0,)
    assert (handles.ours, handles.verdict) == (pytest.approx((2.0,)), MISSED)


@pytest.mark.timeout(120)
async def test_a_few_sessions_are_measured_from_end_to_end(aws: object) -> None:
    """Every row is there, every text arrives, and the new gateway has all sessions again."""
    told: list[str] = []
    options = Options(
        sessions=(2,), minutes=0.1, rate=20, raw=1, settle_seconds=0.5, idle_seconds=1
    )
    result = await density.measure(HOME, options, Clockwork(), told.append)

    rows = {row.name: row for row in result.rows}
    host = rows["2 sessions: memory of a host, private"]
    assert host.ours[0] < host.bare[0], "a host is smaller than raw neonize"
    assert any(name.startswith("process start to 2 connected") for name in rows)
    assert len(result.samples["anew, seconds"]) == 2
    note = next(each for each in result.notes if "arrived" in each)
    came = re.findall(r"(\d+) of (\d+) texts arrived", note)
    assert len(came) == 2
    assert all(arrived == written != "0" for arrived, written in came)
    assert "0 hosts ended" in note


@pytest.mark.timeout(120)
async def test_sharing_is_tried_on_the_real_library(tmp_path: Path) -> None:
    """Sessions come and go in one process; what they left behind is told, whatever the verdict."""
    told: list[str] = []
    result = await sharing.measure(tmp_path, Options(cycles=3), Clockwork(), told.append)

    for when in ("connected", "dialling"):
        assert result.samples[f"{when}: stops of each life"]
        assert len(result.samples[f"{when}: starts, seconds"]) >= 3
    assert all(row.verdict for row in result.rows)
