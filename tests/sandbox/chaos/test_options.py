"""What a person types for a run, and what they read of it."""

import math

import pytest

from sandbox.chaos import report
from sandbox.chaos.faults import FAULTS
from sandbox.chaos.judge import Counts, Judgement, Verdict
from sandbox.chaos.ledger import Round
from sandbox.chaos.main import drawn, understood
from sandbox.chaos.options import Kind, Options, Plan, chosen


def test_kinds_are_chosen_by_name() -> None:
    """All if none is named; one that does not exist is said."""
    assert chosen("") == tuple(Kind)
    assert chosen("kill, host") == (Kind.KILL, Kind.HOST)
    with pytest.raises(ValueError, match="no fault earthquake: there are kill"):
        chosen("kill,earthquake")
    assert set(FAULTS) == set(Kind)


def test_a_seed_draws_the_same_faults_again() -> None:
    """Each kind comes before any comes again; without a seed, one is drawn and told."""
    options = Options(rounds=2 * len(Kind), seed=5)
    kinds = drawn(options)
    assert kinds == drawn(options)
    assert set(kinds[: len(Kind)]) == set(kinds[len(Kind) :]) == set(Kind)
    typed = understood(rolling=True, seed=None, faults="", pace=1.0, rounds=3)
    assert (typed.plan, typed.rounds, typed.every) == (Plan.ROLLING, 3, 1.0)


def test_the_table_has_a_line_for_each_kind() -> None:
    """And one for all; what never recovered is said so."""
    counts = Counts(commands=7, events=8)
    rounds = [
        Verdict(
            kind="kill", what="", healed=True, recoveries={"a": 12.0, "b": 13.0}, counts=counts
        ),
        Verdict(kind="host", what="", healed=False, recoveries={}, counts=counts),
    ]
    judgement = Judgement(
        lease_seconds=10.0,
        rounds=rounds,
        total=counts,
        events_repeated=0,
        gaps=0,
        fell=0,
        latest_webhook=0.5,
        latest_command=0.4,
        silences={"a": 13.0},
        offline={"a": math.inf},
        logins={},
    )
    _, kill, host, every = report.table(judgement).splitlines()
    assert kill.split()[:5] == ["kill", "1", "2", "1.25", "1.30"]
    assert host.split()[:5] == ["host", "1", "0", "-", "never"]
    assert every.split()[:5] == ["all", "2", "2", "1.25", "never"]
    notes = " ".join(report.notes(judgement))
    assert "13.00 s" in notes
    assert "without end" in notes


def test_a_round_is_a_sentence() -> None:
    """What was done, who was hit, how soon they were back."""
    of = Round(kind="kill", what="one killed", begun=0, over=0, ended=9, healed=True)
    assert report.line(of, {}, 10.0) == "kill: one killed; 0 sessions hit"
    assert "2 sessions hit, back after 0.30, 0.40" in report.line(of, {"a": 2.0, "b": 4.0}, 10.0)
    unhealed = Round(kind="kill", what="one killed", begun=0, over=0, ended=9, healed=False)
    assert "not all were seen to work again" in report.line(unhealed, {}, 10.0)
