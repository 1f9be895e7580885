"""When a message may go out: while connected, once what WhatsApp kept for the device was read.

After a time away there is the most to read and the most to send, and the library does both without
a lock between them: see `Store.use_keys_once`, which keeps that from doing harm. So that it need
not, the one waits for the other.
"""

import asyncio
from typing import Final

LIMIT: Final = 10.0
"""Seconds after which messages go out even if WhatsApp did not say that it has brought all."""


class Clearance:
    """Follows the connection; `given` is set while messages may go out."""

    def __init__(self, limit: float = LIMIT) -> None:
        self.given = asyncio.Event()
        self._limit = limit
        self._connected = False
        self._caught_up = False
        self._timer: asyncio.TimerHandle | None = None

    def connected(self) -> None:
        """The session is logged in."""
        if self._connected:
            return
        self._connected = True
        self._timer = asyncio.get_running_loop().call_later(self._limit, self.caught_up)
        self._look()

    def caught_up(self) -> None:
        """WhatsApp has brought all that it had kept; this may be said before the login is."""
        self._caught_up = True
        self._look()

    def dropped(self) -> None:
        """The connection is gone."""
        if self._timer is not None:
            self._timer.cancel()
        self._connected = self._caught_up = False
        self.given.clear()

    def _look(self) -> None:
        if self._connected and self._caught_up:
            self.given.set()
