"""What the library hands over, into the journal before WhatsApp may forget it.

Events are read and entered on the library's own thread. A message whose sender is known by a LID
alone is held back for a moment: the library may know the number, but must not be asked from within
its own call.
"""

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable
from typing import Final, assert_never

import msgspec

from gateway.host.convert import Account, Received, Seen, as_own, unknown_lids, with_numbers
from gateway.host.events import CaughtUp, Notice, read
from gateway.host.journal import MOST_HELD, Journal
from gateway.host.store import EXIT_STORE, StoreFailed
from gateway.host.verdict import Verdict
from shared import clock
from shared.logs import fields
from shared.session import Trigger

log = logging.getLogger(__name__)

LOOKUP_LIMIT: Final = 2.0
"""Seconds a message may wait for the number behind its LID: a look-up in a local file."""
QUIET: Final = 0.2
"""Seconds without an event after which those that were under way count as taken."""
DRAIN_LIMIT: Final = 3.0


class Intake:
    """Takes events."""

    def __init__(
        self,
        journal: Journal,
        *,
        account: Account,
        journalled: Callable[[], None],
        obey: Callable[[Verdict], None],
        caught_up: Callable[[], None],
        number_of: Callable[[str], Awaitable[str | None]],
    ) -> None:
        """`journalled`, `obey` and `caught_up` are called on the loop.

        There are entries; this has happened; nothing that WhatsApp kept is left to be read.
        """
        self._journal = journal
        self._account = account
        self._journalled = journalled
        self._obey = obey
        self._caught_up = caught_up
        self._number_of = number_of
        self._loop = asyncio.get_running_loop()
        self._last_event = 0.0
        self._since: float | None = None
        self._lookup = asyncio.Event()

    def take(self, code: int, payload: bytes) -> None:
        """An event, on the library's thread: once this returns, WhatsApp may forget it."""
        self._last_event = self._since = time.monotonic()
        try:
            self._take(code, payload, clock.millis())
        finally:
            self._last_event, self._since = time.monotonic(), None

    @property
    def taking_for(self) -> float:
        """Seconds the event in hand has taken, 0 without one."""
        since = self._since
        return 0.0 if since is None else time.monotonic() - since

    def _take(self, code: int, payload: bytes, now: int) -> None:
        try:
            notice = read(code, payload, now)
        except Exception:  # nobody above us would hear of it: the library's caller drops errors
            log.exception("event.unreadable", extra=fields(code=code, size=len(payload)))
            return
        try:
            self._enter(notice, now)
        except StoreFailed:
            # Nothing may be acknowledged that is not saved. A new process tries it again.
            log.exception("journal.failed", extra=fields(code=code))
            os._exit(EXIT_STORE)

    def _enter(self, notice: Notice | None, now: int) -> None:
        match notice:
            case None:
                return
            case Account():
                self._account = notice
                return
            case CaughtUp():
                self._loop.call_soon_threadsafe(self._caught_up)
                return
            case Received(message, key, final):
                message = as_own(message, self._account)
                if unknown_lids(message) or self._journal.holding():
                    if self._journal.hold(key, message, now, final=final):
                        self._loop.call_soon_threadsafe(self._lookup.set)
                else:
                    self._journal.arrived(key, message, now, final=final)
            case Seen(whatsapp_ids, status):
                for whatsapp_id in whatsapp_ids:
                    self._journal.receipt(whatsapp_id, status, now)
            case Verdict():
                self.follow(notice, now)
                self._loop.call_soon_threadsafe(self._obey, notice)
            case _:
                assert_never(notice)
        self._loop.call_soon_threadsafe(self._journalled)

    def follow(self, verdict: Verdict, now: int) -> None:
        """Journal what a verdict changes."""
        change = verdict.change
        if change is None:
            return
        if change.trigger is Trigger.CONNECT:
            change = msgspec.structs.replace(
                change, phone_number=self._account.phone_number, lid=self._account.lid
            )
        self._journal.change(change, now)

    async def look_up(self, connected: asyncio.Event) -> None:
        """Find the numbers of messages that came under a LID alone, then publish them."""
        while True:
            # Before the first login a look-up would abort the whole process.
            await connected.wait()
            while held := self._journal.held():
                for each in held:
                    numbers: dict[str, str] = {}
                    if len(held) <= MOST_HELD:
                        numbers = await self._numbers(unknown_lids(each.message))
                    message = with_numbers(each.message, numbers)
                    self._journal.release(each.number, message, each.at)
                    self._journalled()
            await self._lookup.wait()
            self._lookup.clear()

    async def _numbers(self, lids: frozenset[str]) -> dict[str, str]:
        found: dict[str, str] = {}
        try:
            async with asyncio.timeout(LOOKUP_LIMIT):
                for lid in lids:
                    number = await self._number_of(lid)
                    if number is not None:
                        found[lid] = number
        except TimeoutError:
            log.warning("lid.lookup_timed_out")
        return found

    async def quiet(self) -> None:
        """Wait until the library's thread has handed over what it had."""
        until = time.monotonic() + DRAIN_LIMIT
        self._last_event = time.monotonic()
        while time.monotonic() < until and time.monotonic() - self._last_event < QUIET:  # noqa: ASYNC110 (another thread's clock)
            await asyncio.sleep(QUIET / 4)
