"""A session's entries, counted without a gap, and the state they add up to.

WhatsApp's library acknowledges an event before anyone could store it in AWS. So it is appended here
first, with its sequence number and id, and stays until the gateway has recorded it. Whoever runs
owns the journal: the host while it is alive, the gateway between two hosts.
"""

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final, Self

import msgspec

from gateway.changes import Mark, follow
from gateway.frames import Entry
from gateway.host.store import Damaged, Store
from shared.events import SessionEvent
from shared.ids import EventId, following
from shared.session import Session

_VERSION: Final = 1

PAGE: Final = 500
"""Entries a reader asks for at a time."""

_TABLES: Final = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value {integer} NOT NULL) {by_key};
INSERT INTO meta VALUES ('last', 0);
CREATE TABLE entries (sequence {integer} PRIMARY KEY, event {bytes} NOT NULL);
CREATE TABLE orders (
    message_id TEXT PRIMARY KEY, recipient TEXT NOT NULL, secret {bytes} NOT NULL,
    on_uncertain TEXT NOT NULL, begun_at {integer} NOT NULL, sequence {integer}
) {by_key};
CREATE TABLE sent (
    whatsapp_id TEXT PRIMARY KEY, message_id TEXT NOT NULL, recipient TEXT NOT NULL,
    status TEXT NOT NULL, at {integer} NOT NULL
) {by_key};
CREATE TABLE early (whatsapp_id TEXT PRIMARY KEY, status TEXT NOT NULL) {by_key};
CREATE TABLE seen (number {integer} PRIMARY KEY, key TEXT NOT NULL UNIQUE);
CREATE TABLE held (number {integer} PRIMARY KEY, message {bytes} NOT NULL, at {integer} NOT NULL);
"""

_events: Final[msgspec.json.Decoder[SessionEvent]] = msgspec.json.Decoder(SessionEvent)


class Ledger:
    """The entries of one session, and the session's state as they tell it.

    Safe to use from several threads: events come on the library's, outcomes on the loop's. Whatever
    reads or writes raises StoreFailed where the store does not answer.
    """

    def __init__(self, store: Store, session: Session, *, mint: Callable[[], EventId]) -> None:
        """Open or make it. Raises StoreFailed, Damaged or OSError."""
        self.session = session
        self._mint = mint
        self._last = 0
        self._minted = EventId("")
        self._writing = False
        self.lock = threading.RLock()
        self.db = store.open()
        try:
            self._open()
        except BaseException:
            self.db.close()
            raise

    def _open(self) -> None:
        with self.write():
            version = self.db.prepare(_TABLES, _VERSION)
            if version != _VERSION:
                raise Damaged(f"the journal is of version {version}, not {_VERSION}")
            ((self._last,),) = self.db.execute("SELECT value FROM meta WHERE name = 'last'")
        # What was journalled and perhaps not recorded yet is newer than the row.
        read = 0
        try:
            while entries := self.after(read, PAGE):
                for entry in entries:
                    self.session = follow(self.session, entry.event)
                    self._minted = entry.event.id
                read = entries[-1].sequence
        except msgspec.DecodeError as error:
            raise Damaged(f"an entry of the journal cannot be read: {error}") from error

    def close(self) -> None:
        with self.lock:
            self.db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def last(self) -> int:
        """The sequence of the newest entry ever appended."""
        return self._last

    def after(self, sequence: int, limit: int) -> list[Entry]:
        """The next entries beyond a sequence, oldest first."""
        with self.lock:
            rows = self.db.execute(
                "SELECT sequence, event FROM entries WHERE sequence > ? ORDER BY sequence LIMIT ?",
                sequence,
                limit,
            )
        return [Entry(sequence=number, event=_events.decode(event)) for number, event in rows]

    def depth(self) -> int:
        """Entries that were not forgotten."""
        with self.lock:
            ((count,),) = self.db.execute("SELECT count(*) FROM entries")
            return count

    def forget(self, sequence: int) -> None:
        """Drop entries up to and including `sequence`: they are recorded elsewhere.

        A crash may bring them back, which only records them twice, so this need not be on the disk.
        """
        with self.write(durable=False):
            self.db.execute("DELETE FROM entries WHERE sequence <= ?", sequence)

    def check(self) -> None:
        """Raise StoreFailed if the store is known to be gone, unless it is in use."""
        if self.lock.acquire(blocking=False):
            try:
                self.db.check()
            finally:
                self.lock.release()

    @contextmanager
    def write(self, *, durable: bool = True) -> Generator[None]:
        """One transaction, on the disk when it ends. The fields follow it if it fails."""
        with self.lock:
            if self._writing:
                yield
                return
            self._writing = True
            before = self._last, self.session
            try:
                self.db.begin(durable=durable)
                yield
                self.db.commit()
            except BaseException:
                self._last, self.session = before
                self.db.rollback()
                raise
            finally:
                self._writing = False

    def append(self, build: Callable[[Mark], SessionEvent | None], now: int) -> bool:
        with self.lock:
            # Outside of a transaction first: most changes that mean nothing cost no write.
            if build(Mark(EventId(""), 0, now)) is None:
                return False
            with self.write():
                self.put(build, now)
            return True

    def put(self, build: Callable[[Mark], SessionEvent | None], now: int) -> None:
        # Several may be minted in one millisecond: their ids must sort as they happened, too.
        event_id = EventId(following(self._minted, self._mint()))
        mark = Mark(event_id, self._last + 1, now)
        event = build(mark)
        if event is None:
            return
        self._last = mark.sequence
        self._minted = mark.id
        self.db.execute(
            "INSERT INTO entries VALUES (?, ?)", mark.sequence, msgspec.json.encode(event)
        )
        self.db.execute("UPDATE meta SET value = ? WHERE name = 'last'", mark.sequence)
        self.session = follow(self.session, event)
