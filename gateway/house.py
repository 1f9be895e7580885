"""What all keepers of a gateway share, and where a session's files lie."""

import asyncio
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
from gateway.host.journal import Journal
from gateway.host.paths import LAST_WORDS, STORE
from gateway.limits import Limits
from gateway.nursery import Nursery
from gateway.proxies import Proxies
from gateway.weather import Weather
from shared import clock, ids
from shared.env import Settings
from shared.errors import Malformed
from shared.ids import EventId
from shared.session import Pairing, Reason, Session

Record = Callable[[Session, Sequence[Entry]], Awaitable[None]]
"""Store entries of a session, in order; returns once they are stored."""
Publish = Callable[[Session, Pairing], Awaitable[None]]
"""Store what to show whoever links the number."""


@dataclass(frozen=True, slots=True)
class House:
    """What all keepers of a gateway share."""

    settings: Settings
    nursery: Nursery
    proxies: Proxies
    record: Record
    offer: Publish
    aside: Aside
    now: Callable[[], int]
    until: Callable[[Session], float | None]
    """Until when (monotonic seconds) a session's host may live; None once its lease is lost."""
    closing: asyncio.Event
    """The gateway is on its way out: what cannot be stored now waits in the journals."""
    gate: Gate
    """Passed by those that start a host, so that hundreds start a few at a time."""
    weather: Weather
    limits: Limits
    ends: Counter[Reason] = field(default_factory=Counter[Reason])
    """Changes of sessions recorded here, by their reason."""
    watches: Counter[Watch] = field(default_factory=Counter[Watch])
    """Hosts that were ended because something took too long, by what it was."""

    def folder(self, session: Session) -> Path:
        """A session's own folder. Raises Malformed."""
        return folder(self.settings, session)

    def open(self, session: Session) -> Journal:
        """A session's journal, while no host has it.

        Blocks. Raises Damaged, Malformed, OSError or sqlite3.Error.
        """
        folder = self.folder(session)
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        return Journal(
            folder,
            session,
            mint=lambda: EventId(clock.mint(ids.EVENT)),
            mode=self.settings.journal_mode,
            sync=self.settings.journal_sync,
        )


def folder(settings: Settings, session: Session) -> Path:
    """A session's own folder. Raises Malformed for ids that are none: they become a path."""
    if not ids.is_id(ids.TENANT, session.tenant_id) or not ids.is_id(ids.SESSION, session.id):
        raise Malformed("a session's folder is named by ids")
    return Path(settings.device_store).absolute() / session.tenant_id / session.id


def erase_credentials(folder: Path) -> None:
    """Delete the device's keys; the journal stays, and with it the count of events."""
    for path in folder.glob(f"{STORE}*"):
        path.unlink(missing_ok=True)


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
