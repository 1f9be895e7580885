"""How long each part of an attempt took, noted where it happens.

An attempt's trace goes with it as a context variable: into the look-up of the name, the dialling,
the TLS handshake and the connection, each of which notes what it alone can see.
"""

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final, Literal

from shared.delivery import Phases

Mark = Literal["resolving", "resolved", "dialling", "securing", "ready", "asked", "heard", "reset"]
"""Moments of an attempt in their order. `asked` is when a connection, new or kept, is given the
request, `heard` the answer's first byte."""

_PARTS: Final[Mapping[str, tuple[Mark, tuple[Mark, ...]]]] = {
    "dns": ("resolving", ("resolved",)),
    "connect": ("dialling", ("securing", "ready")),
    "tls": ("securing", ("ready",)),
    "first_byte": ("asked", ("heard",)),
}
"""Where each phase begins, and where it ends: at the first of these that came."""


@dataclass(slots=True)
class Trace:
    """One attempt's marks, each at its first time (seconds of `clock`)."""

    clock: Callable[[], float]
    marks: dict[Mark, float] = field(default_factory=dict[Mark, float])

    def note(self, mark: Mark) -> None:
        self.marks.setdefault(mark, self.clock())

    def kept(self) -> bool:
        """Whether the request went out on a connection that had been used before."""
        return "asked" in self.marks and "ready" not in self.marks

    def securing(self) -> bool:
        """Whether a TLS handshake began and did not end."""
        return "securing" in self.marks and "ready" not in self.marks

    def phases(self, began: float, ended: float) -> Phases:
        """What became of the time between.

        A part that was cut short lasted until the end; a first byte that did not come is none.
        """
        lengths: dict[str, float] = {}
        for part, (first, ends) in _PARTS.items():
            start = self.marks.get(first)
            if start is not None and (part != "first_byte" or "heard" in self.marks):
                lengths[part] = _ms(start, self._end(ends, ended))
        return Phases(total=_ms(began, ended), **lengths)

    def _end(self, ends: tuple[Mark, ...], otherwise: float) -> float:
        for end in ends:
            if end in self.marks:
                return self.marks[end]
        return otherwise


_current: Final[ContextVar[Trace | None]] = ContextVar("trace", default=None)


def begin(trace: Trace) -> None:
    """Let `trace` be the one of what this task, and what it starts, does from now on."""
    _current.set(trace)


def current() -> Trace | None:
    return _current.get()


def note(mark: Mark) -> None:
    """Note it in the trace of the attempt this is done for, if there is one."""
    trace = _current.get()
    if trace is not None:
        trace.note(mark)


def _ms(start: float, end: float) -> float:
    # An answer may begin before the whole request was sent.
    return round(max(0.0, end - start) * 1000, 3)
