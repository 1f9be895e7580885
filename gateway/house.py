"""What all keepers of a gateway share."""

import asyncio
import logging
import os
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gateway.aside import Aside
from gateway.frames import Entry, Watch
from gateway.gate import Gate
from gateway.host.folder import Folder
from gateway.host.journal import Journal
from gateway.host.place import LAST_WORDS, check, place
from gateway.host.store import Store, StoreFailed
from gateway.limits import Limits
from gateway.nursery import Nursery
from gateway.proxies import Proxies
from gateway.threads import Threads
from gateway.weather import Weather
from shared import clock, ids
from shared.env import Settings
from shared.ids import EventId
from shared.logs import fields
from shared.session import Pairing, Reason, Session

log = logging.getLogger(__name__)

Record = Callable[[Session, Sequence[Entry]], Awaitable[None]]
"""Store entries of a session, in order; returns once they are stored."""
Publish = Callable[[Session, Pairing], Awaitable[None]]
"""Store what to show whoever links the number."""
Tell = Callable[[Session], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class House:
    """What all keepers of a gateway share."""

    settings: Settings
    nursery: Nursery
    proxies: Proxies
    record: Record
    offer: Publish
    store_away: Tell
    """Say of a session that its part of the device store does not answer."""
    aside: Aside
    threads: Threads
    now: Callable[[], int]
    until: Callable[[Session], float | None]
    """Until when (monotonic seconds) a session's host may live; None once its lease is lost."""
    closing: asyncio.Event
    """The gateway is on its way out: what cannot be stored now waits in the journals."""
    scratch: Path | None
    """For what is of use to this gateway only, where the device store is no folder."""
    gate: Gate
    """Passed by those that start a host, so that hundreds start a few at a time."""
    weather: Weather
    limits: Limits
    ends: Counter[Reason] = field(default_factory=Counter[Reason])
    """Changes of sessions recorded here, by their reason."""
    watches: Counter[Watch] = field(default_factory=Counter[Watch])
    """Hosts that were ended because something took too long, by what it was."""

    def store(self, session: Session) -> Store:
        """A session's part of the device store. Raises Malformed."""
        return store(self.settings, session)

    def open(self, session: Session) -> Journal:
        """A session's journal, while no host has it.

        Blocks. Raises Damaged, Malformed, OSError or StoreFailed.
        """
        return Journal(self.store(session), session, mint=lambda: EventId(clock.mint(ids.EVENT)))

    def folder(self, session: Session) -> Path:
        """A session's folder of files of no lasting worth. Raises Malformed."""
        store = self.store(session)
        if isinstance(store, Folder):
            return store.path
        if self.scratch is None:
            raise AssertionError("unreachable: with a database there is a folder for scratch")
        path = self.scratch / session.id
        path.mkdir(mode=0o700, exist_ok=True)
        return path


def store(settings: Settings, session: Session) -> Store:
    """A session's part of the device store. Raises Malformed."""
    return place(
        settings.device_store, session, mode=settings.journal_mode, sync=settings.journal_sync
    )


async def check_store(settings: Settings) -> None:
    """Look at the device store once. Raises Misconfigured for what only a person can mend."""
    try:
        await asyncio.to_thread(check, settings.device_store)
    except StoreFailed as error:
        # It may come back while we run: until then its sessions say so.
        log.warning("store.away", extra=fields(why=error.code))


_FATAL: Final = re.compile(rb"^(?:fatal error|panic|SIG[A-Z]+): .*$", re.MULTILINE)
_DIGITS: Final = re.compile(r"\d{5,}")
_LONGEST_LOG: Final = 256 * 1024
"""Bytes of the end that are read: the reason, and behind it the stack of every goroutine."""
_LONGEST_WORDS: Final = 200


def last_words(folder: Path) -> str | None:
    """Why a session's host aborted, if its library said so."""
    try:
        with (folder / LAST_WORDS).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _LONGEST_LOG))
            found = _FATAL.search(file.read())
    except OSError:
        return None
    if found is None:
        return None
    return _DIGITS.sub("…", found[0].decode(errors="replace"))[:_LONGEST_WORDS]
