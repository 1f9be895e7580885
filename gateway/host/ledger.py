"""A session's entries in one SQLite file, counted without a gap, and the state they add up to.

WhatsApp's library acknowledges an event before anyone could store it in AWS. So it is appended here
first, with its sequence number and id, and stays until the gateway has recorded it. Whoever runs
owns the file: the host while it is alive, the gateway between two hosts. The lock SQLite keeps on
it makes a second owner fail rather than share.
"""

import os
import sqlite3
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

import msgspec

from gateway.changes import Mark, follow
from gateway.frames import Entry
from shared.env import JournalMode
from shared.errors import ZapgateError
from shared.events import SessionEvent
from shared.ids import EventId, following
from shared.session import Session

FILE: Final = "journal.db"
_VERSION: Final = 1

PAGE: Final = 500
"""Entries a reader asks for at a time."""
_BUSY_MILLIS: Final = 5_000

_SCHEMA: Final = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO meta VALUES ('last', 0);
CREATE TABLE entries (sequence INTEGER PRIMARY KEY, event BLOB NOT NULL);
CREATE TABLE orders (
    message_id TEXT PRIMARY KEY, recipient TEXT NOT NULL, secret BLOB NOT NULL,
    on_uncertain TEXT NOT NULL, begun_at INTEGER NOT NULL, sequence INTEGER
) WITHOUT ROWID;
CREATE TABLE sent (
    whatsapp_id TEXT PRIMARY KEY, message_id TEXT NOT NULL, recipient TEXT NOT NULL,
    status TEXT NOT NULL, at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE early (whatsapp_id TEXT PRIMARY KEY, status TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE seen (number INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE);
CREATE TABLE held (number INTEGER PRIMARY KEY, message BLOB NOT NULL, at INTEGER NOT NULL);
"""

_events: Final[msgspec.json.Decoder[SessionEvent]] = msgspec.json.Decoder(SessionEvent)


class Damaged(ZapgateError):
    """A journal that this version cannot read. Nothing is wrong with whoever asked for it."""


class Ledger:
    """The entries of one session, and the session's state as they tell it.

    Safe to use from several threads: events come on the library's, outcomes on the loop's.
    """

    def __init__(
        self,
        folder: Path,
        session: Session,
        *,
        mint: Callable[[], EventId],
        mode: JournalMode = "wal",
        sync: bool = True,
    ) -> None:
        """Open or make it. Raises Damaged."""
        self.session = session
        self._mint = mint
        self._last = 0
        self._minted = EventId("")
        self.lock = threading.RLock()
        path = folder / FILE
        # Made here with its mode: SQLite gives its side files the mode of the main one.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        self.db = sqlite3.connect(
            path, timeout=_BUSY_MILLIS / 1000, isolation_level=None, check_same_thread=False
        )
        try:
            self._open(mode, sync=sync)
        except BaseException as error:
            self.db.close()
            if isinstance(error, sqlite3.DatabaseError) and not isinstance(
                error, sqlite3.OperationalError
            ):
                raise Damaged(f"the journal {path} is damaged: {error}") from error
            raise
        # What was journalled and perhaps not recorded yet is newer than the row.
        try:
            for (entry,) in self.db.execute("SELECT event FROM entries ORDER BY sequence"):
                event = _events.decode(entry)
                self.session = follow(self.session, event)
                self._minted = event.id
        except msgspec.DecodeError as error:
            self.db.close()
            raise Damaged(f"an entry of the journal {path} cannot be read: {error}") from error

    def _open(self, mode: JournalMode, *, sync: bool) -> None:
        self.db.execute("PRAGMA locking_mode=EXCLUSIVE")
        self.db.execute(f"PRAGMA journal_mode={mode}")
        self._level = "FULL" if sync else "NORMAL"
        self.db.execute(f"PRAGMA synchronous={self._level}")
        # 256 KiB: a host has one of these, and memory is what limits how many hosts there are.
        self.db.execute("PRAGMA cache_size=-256")
        with self.write():
            (version,) = self.db.execute("PRAGMA user_version").fetchone()
            if version == 0:
                for statement in _SCHEMA.split(";\n"):
                    self.db.execute(statement)
                self.db.execute(f"PRAGMA user_version={_VERSION}")
            elif version != _VERSION:
                raise Damaged(f"the journal is of version {version}, not {_VERSION}")
            (self._last,) = self.db.execute("SELECT value FROM meta WHERE name='last'").fetchone()

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
                (sequence, limit),
            ).fetchall()
        return [Entry(sequence=number, event=_events.decode(event)) for number, event in rows]

    def depth(self) -> int:
        """Entries that were not forgotten."""
        with self.lock:
            return self.db.execute("SELECT count(*) FROM entries").fetchone()[0]

    def forget(self, sequence: int) -> None:
        """Drop entries up to and including `sequence`: they are recorded elsewhere.

        A crash may bring them back, which only records them twice, so this need not be on the disk.
        """
        with self.lock:
            self.db.execute("PRAGMA synchronous=NORMAL")
            try:
                self.db.execute("DELETE FROM entries WHERE sequence <= ?", (sequence,))
            finally:
                self.db.execute(f"PRAGMA synchronous={self._level}")

    @contextmanager
    def write(self) -> Generator[None]:
        """One transaction, on the disk when it ends. The fields follow it if it fails."""
        with self.lock:
            if self.db.in_transaction:
                yield
                return
            self.db.execute("BEGIN IMMEDIATE")
            before = self._last, self.session
            try:
                yield
                self.db.execute("COMMIT")
            except BaseException:
                self._last, self.session = before
                if self.db.in_transaction:
                    self.db.execute("ROLLBACK")
                raise

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
            "INSERT INTO entries VALUES (?, ?)", (mark.sequence, msgspec.json.encode(event))
        )
        self.db.execute("UPDATE meta SET value = ? WHERE name = 'last'", (mark.sequence,))
        self.session = follow(self.session, event)
