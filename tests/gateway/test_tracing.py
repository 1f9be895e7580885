"""Phases: what becomes of an attempt's marks."""

from collections.abc import Iterator
from itertools import count

import pytest

from gateway import tracing
from gateway.tracing import Mark, Trace
from shared.delivery import Phases

NEW: tuple[Mark, ...] = (
    "resolving", "resolved", "dialling", "securing", "ready", "asked", "heard",
)  # fmt: skip
KEPT: tuple[Mark, ...] = ("asked", "heard")


def traced(*marks: Mark) -> Trace:
    """Marks a second apart, from 1 on."""
    ticks: Iterator[float] = map(float, count(1))
    trace = Trace(lambda: next(ticks))
    for mark in marks:
        trace.note(mark)
    return trace


def test_a_new_connection_has_every_phase() -> None:
    """Milliseconds, each from where it began to where the next did."""
    assert traced(*NEW).phases(0, 9) == Phases(
        total=9_000, dns=1_000, connect=1_000, tls=1_000, first_byte=1_000
    )


def test_without_tls_there_is_no_such_phase() -> None:
    """Connecting then lasts until the connection is ready."""
    plain = traced("dialling", "ready", "asked", "heard")
    assert plain.phases(0, 5) == Phases(total=5_000, connect=1_000, first_byte=1_000)
    assert not plain.kept()


def test_a_kept_connection_has_only_an_answer() -> None:
    """No name, no dialling, no handshake."""
    trace = traced(*KEPT)
    assert trace.phases(0, 3) == Phases(total=3_000, first_byte=1_000)
    assert trace.kept()


def test_a_phase_that_was_cut_short_lasted_until_the_end() -> None:
    """So that a timeout says where the time went."""
    trace = traced("resolving", "resolved", "dialling", "securing")
    assert trace.phases(0, 15) == Phases(total=15_000, dns=1_000, connect=1_000, tls=11_000)
    assert trace.securing()
    assert not trace.kept()
    assert not traced(*NEW).securing()


def test_a_mark_is_its_first_time() -> None:
    """Of several addresses the first is dialled when dialling began."""
    assert traced("dialling", "dialling", "ready").phases(0, 4).connect == 2_000


@pytest.mark.parametrize("way", [NEW, KEPT], ids=["new", "kept"])
def test_parts_add_up_to_no_more_than_the_whole(way: tuple[Mark, ...]) -> None:
    """Wherever an attempt ends, each part that began is there; a first byte only if it came."""
    for length in range(len(way) + 1):
        marks = way[:length]
        phases = traced(*marks).phases(0, length + 1)
        parts = (phases.dns, phases.connect, phases.tls, phases.first_byte)
        begun = {"resolving", "dialling", "securing", "heard"} & set(marks)
        assert sum(part is not None for part in parts) == len(begun)
        assert sum(part or 0 for part in parts) <= phases.total


def test_outside_an_attempt_nothing_is_noted() -> None:
    """What is resolved for somebody else has no trace."""
    tracing.note("resolving")
    assert tracing.current() is None
