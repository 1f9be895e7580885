"""The table a person reads."""

from sandbox.bench import report
from sandbox.bench.samples import Result, Row, Target


def test_a_line_says_all_of_a_figure() -> None:
    """Ours, bare, ratio with their spreads, the target and the verdict stand in one line."""
    row = Row(
        name="cold", unit="ms", ours=(12.0, 11.0, 14.0), bare=(10.0, 10.0, 10.0), target=Target(1.1)
    )
    text = report.table([Result(rows=(row,))])
    assert text.splitlines()[1].split("  ") == [
        "cold",
        "12 ms (11..14)",
        "10 ms (10..10)",
        "1.2 (1.1..1.4)",
        "≤ 1.1 x",
        "MISSED",
    ]


def test_no_counterpart_is_said_so() -> None:
    """A row without a bare counterpart shows neither value nor ratio, nor a spread of one round."""
    row = Row(name="requests", unit="", ours=(6.0,), target=Target(7, of="value"))
    assert report.cells(row) == ("requests", "6", "-", "-", "≤ 7", "OK")


def test_notes_and_noise() -> None:
    """Notes are listed, and the machine's own unevenness is told in per cent."""
    row = Row(name="x", unit="s", ours=(1.0,))
    assert report.notes([Result(rows=(row,), notes=("one", "two"))]) == "* one\n* two"
    assert "spread of 45%" in report.noise([0.010, 0.008, 0.012, 0.013])
