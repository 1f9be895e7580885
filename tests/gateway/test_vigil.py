"""Load is no standstill, and a standstill is repaired."""

from collections.abc import Iterable
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from gateway.vigil import Patience, Sight, Verdict, begun, heeded, look

PATIENCE = Patience(late=60, still=30, lost=90)
IN_ORDER = {Verdict.FINE, Verdict.LATE}

gaps = st.lists(st.floats(0.5, 20), min_size=1, max_size=60)


def watched(
    sights: Iterable[tuple[float, Sight]], patience: Patience = PATIENCE
) -> list[tuple[float, Verdict]]:
    """Each look's time and verdict; the first look is at time 0."""
    now, vigil = 0.0, begun(Sight(0), 0.0)
    found: list[tuple[float, Verdict]] = []
    for gap, sight in sights:
        now += gap
        vigil, verdict = look(vigil, sight, now, patience)
        found.append((now, verdict))
    return found


@given(gaps, st.floats(0, 1e6))
def test_load_is_never_repaired(gaps: list[float], waits: float) -> None:
    """As long as something gets done, waiting is told and no more."""
    sights = [(gap, Sight(n, waits)) for n, gap in enumerate(gaps, 1)]
    assert {verdict for _, verdict in watched(sights)} == {
        Verdict.LATE if waits > PATIENCE.late else Verdict.FINE
    }


@given(gaps, st.floats(0, 1e6))
def test_having_nothing_to_do_is_in_order(gaps: list[float], waits: float) -> None:
    """An idle part need not move."""
    sights = [(gap, Sight(7, waits, idle=True)) for gap in gaps]
    assert {verdict for _, verdict in watched(sights)} == {Verdict.FINE}


@given(gaps)
def test_a_standstill_is_repaired_in_time_and_not_too_often(gaps: list[float]) -> None:
    """Not before its time, at the first look after it, and again after as long."""
    found = watched((gap, Sight(0)) for gap in gaps)
    steps = [at for at, verdict in found if verdict is Verdict.REPAIR]
    assert all(verdict in IN_ORDER for at, verdict in found if at < PATIENCE.still)
    due = [at for at, _ in found if at >= PATIENCE.still]
    assert steps[:1] == due[:1]
    assert all(later - earlier >= PATIENCE.still for earlier, later in pairwise(steps))


@given(gaps)
def test_what_no_repair_helps_is_passed_on_once(gaps: list[float]) -> None:
    """Others get their try, after ours had their time; a part nobody else has is kept."""
    found = watched((gap, Sight(0)) for gap in gaps)
    steps = [at for at, verdict in found if verdict is Verdict.REPAIR]
    passed = [at for at, verdict in found if verdict is Verdict.PASS_ON]
    due = [at for at, _ in found if steps and at >= steps[0] + 90]
    assert passed == due[:1]
    kept = watched(((gap, Sight(0)) for gap in gaps), Patience(late=60, still=30))
    assert Verdict.PASS_ON not in {verdict for _, verdict in kept}


def test_what_moves_again_is_well_again() -> None:
    """And the next standstill gets all its time."""
    still = [(10.0, Sight(0, 70))] * 4
    moved = [(10.0, Sight(1))]
    again = [(10.0, Sight(1))] * 3
    words = [verdict for _, verdict in watched([*still, *moved, *again])]
    late, fine, repair = Verdict.LATE, Verdict.FINE, Verdict.REPAIR
    assert words == [late, late, repair, Verdict.STILL, fine, fine, fine, repair]


verdicts = st.dictionaries(st.integers(0, 9), st.sampled_from(Verdict))


@given(found=verdicts, others=st.booleans(), spared=st.sets(st.integers(0, 9)))
def test_trouble_that_is_everywhere_is_not_passed_around(
    found: dict[int, Verdict], *, others: bool, spared: set[int]
) -> None:
    """A shard goes to another gateway only if most are well here; nothing else is changed."""
    well = sum(verdict in IN_ORDER for verdict in found.values())
    kept = heeded(found, others=others, spared=spared)
    assert kept.keys() == found.keys()
    for part, verdict in found.items():
        goes = others and 2 * well > len(found) and part not in spared
        changed = verdict is Verdict.PASS_ON and not goes
        assert kept[part] is (Verdict.REPAIR if changed else verdict)
