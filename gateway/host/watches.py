"""What the host watches because the library would not tell: times that are over."""

from collections import deque
from typing import Final

from gateway.frames import Watch
from gateway.limits import Limits

DROPS: Final = 5
"""Lost connections within the time of `Limits.unsteady` after which a new process dials, and that
only after a pause: the library itself dials at once after every login."""
_SPREAD: Final = 0.2
"""Share of `Limits.redial` by which hosts that lost their connection together differ."""


class Watches:
    """The times of one connection. `now` is in monotonic seconds throughout."""

    def __init__(self, limits: Limits, jitter: float) -> None:
        """`jitter` is uniform in [0, 1)."""
        self._limits = limits
        self._redial = limits.redial * (1 - _SPREAD + 2 * _SPREAD * jitter)
        self._waits: tuple[Watch, float] | None = None
        """For a login, and until when."""
        self._connected = False
        self._unconnected_since: float | None = None
        self._drops: deque[float] = deque(maxlen=DROPS)

    def dialled(self, now: float) -> None:
        self._waits = Watch.FIRST_WORD, now + self._limits.first_word

    def paired(self, now: float) -> None:
        self._waits = Watch.LOGIN_AFTER_PAIRING, now + self._limits.login_after_pairing

    def connected(self) -> None:
        self._connected = True
        self._waits = None
        self._unconnected_since = None

    def dropped(self, now: float) -> Watch | None:
        """The connection, or a try at it, was lost; what it is when that happens too often."""
        if not self._connected:
            return None
        self._connected = False
        self._waits = Watch.REDIAL, now + self._redial
        self._drops.append(now)
        often = len(self._drops) == DROPS and now - self._drops[0] < self._limits.unsteady
        return Watch.FLAPPING if often else None

    def login(self, now: float, *, sending: bool) -> Watch | None:
        """What is overdue of a login that is waited for.

        A message in the library's hands goes out by itself when the connection is back, which a
        new process could not do: it has a limit of its own.
        """
        if self._waits is None or now <= self._waits[1]:
            return None
        watch = self._waits[0]
        return None if watch is Watch.REDIAL and sending else watch

    def hearing(self, now: float, heard_ago: float | None) -> Watch | None:
        """What is wrong with what is heard over a connection: see `hearing.heard_ago`."""
        if not self._connected:
            return None
        if heard_ago is not None:
            self._unconnected_since = None
            return Watch.SILENCE if heard_ago > self._limits.silence else None
        if self._unconnected_since is None:
            self._unconnected_since = now
        unconnected = now - self._unconnected_since > self._limits.unconnected
        return Watch.UNCONNECTED if unconnected else None
