"""Whether WhatsApp can be reached at all, as all sessions of a gateway find it together.

One session's failed dials are its own trouble, and it backs off by itself. When most sessions fail
at once, the network or WhatsApp is away: to start hundreds of processes again and again would cost
much and find out nothing. Then the gateway's sessions together dial now and then, each in its turn
by chance, and the first that comes through wakes the others, who pass the gate a few at a time.
"""

from collections.abc import Callable
from typing import Final

from gateway.backoff import pause
from shared.ids import SessionId

FEW: Final = 5
"""So many sessions may fail at the same time for reasons of their own."""
SPACING: Final = 5.0
"""Seconds between two dials of a gateway, on average, while WhatsApp is away."""


class Weather:
    """The sessions that wait for their next dial after one that did not come through."""

    def __init__(self, held: Callable[[], int], spacing: float = SPACING) -> None:
        """`held` is how many sessions the gateway holds."""
        self._held = held
        self._spacing = spacing
        self._waiting: dict[SessionId, Callable[[], None]] = {}
        self._sleep = False
        """Whether some wait for long, until they are woken."""

    def missed(self, session_id: SessionId, wake: Callable[[], None]) -> None:
        """A dial did not come through; `wake` is called when others do again."""
        self._waiting[session_id] = wake

    def left(self, session_id: SessionId) -> None:
        """That session waits no more."""
        self._waiting.pop(session_id, None)

    def reached(self, session_id: SessionId) -> None:
        """WhatsApp answered a session: where it was away, that is news for the others."""
        news = self.foul or self._sleep
        self.left(session_id)
        if news:
            self._sleep = False
            woken, self._waiting = self._waiting, {}
            for wake in woken.values():
                wake()

    @property
    def foul(self) -> bool:
        """Whether most sessions do not get through."""
        return len(self._waiting) >= FEW and 2 * len(self._waiting) > self._held()

    @property
    def waiting(self) -> int:
        """How many sessions did not get through."""
        return len(self._waiting)

    def pause(self, session_id: SessionId, failures: int, jitter: float) -> float:
        """Seconds until a session that failed so often in a row dials again.

        One that failed otherwise than by a dial nobody would wake, so it waits its own time.
        `jitter` is uniform in [0, 1).
        """
        if session_id in self._waiting and self.foul:
            self._sleep = True
            return len(self._waiting) * self._spacing * (0.5 + jitter)
        return pause(failures, jitter)
