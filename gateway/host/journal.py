"""What a session's host remembers through a crash, in one SQLite file beside its credentials.

WhatsApp's library acknowledges an event before anyone could store it in AWS. So the host appends it
here first, with its sequence number and id, and the entry stays until the gateway has recorded it.
The same file holds the intent of each send before it is handed over, and the WhatsApp ids of sent
messages, so that a receipt names our message without a question to AWS.

Whoever runs owns it: the host while it is alive, the gateway between two hosts. The lock SQLite
keeps on it makes a second owner fail rather than share.
"""

import os
import sqlite3
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

import msgspec

from gateway.changes import Change, Mark, announce, arrival, follow, offer, outcome
from gateway.frames import Entry
from shared import clock
from shared.env import JournalMode
from shared.errors import Malformed
from shared.events import MessageChange, ReceivedMessage, SessionEvent
from shared.ids import EventId, MessageId
from shared.message import RANK, MessageStatus, OnUncertain
from shared.session import Session

FILE: Final = "journal.db"
_VERSION: Final = 1

PAGE: Final = 500
"""Entries a reader asks for at a time."""
REMEMBERED: Final = 30 * clock.DAY
"""How long a sent message's WhatsApp id is kept: WhatsApp itself holds an undelivered message for
about a month, so a receipt later than that is not to be expected."""
MOST_SEEN: Final = 50_000
"""Ids of received messages that are remembered against being delivered twice."""
_PRUNE_EVERY: Final = 1_000
"""Appends between two looks at what may be forgotten."""
MOST_HELD: Final = 200
"""Messages that may wait for their sender's number before the next goes out without one."""
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


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """One message's sending."""

    message_id: MessageId
    recipient: str
    secret: bytes
    """Goes into the message, and from there into the library's own store before the frame is
    written: where it is found with a WhatsApp id, the message may be out, else it is not."""
    on_uncertain: OnUncertain
    begun_at: int
    sequence: int | None = None
    """The entry of its outcome; None while there is none."""


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """A received message that waits for a phone number to be looked up."""

    number: int
    message: ReceivedMessage
    at: int


_events: Final[msgspec.json.Decoder[SessionEvent]] = msgspec.json.Decoder(SessionEvent)
_messages: Final = msgspec.json.Decoder(ReceivedMessage)


class Journal:
    """The journal of one session, and the session's state as the journal tells it.

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
        """Open or make it. Raises Malformed for a file this version cannot read."""
        self.session = session
        self._mint = mint
        self._lock = threading.RLock()
        path = folder / FILE
        # Made here with its mode: SQLite gives its side files the mode of the main one.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        self._db = sqlite3.connect(
            path, timeout=_BUSY_MILLIS / 1000, isolation_level=None, check_same_thread=False
        )
        try:
            self._open(mode, sync=sync)
        except BaseException as error:
            self._db.close()
            if isinstance(error, sqlite3.DatabaseError) and not isinstance(
                error, sqlite3.OperationalError
            ):
                raise Malformed(f"the journal {path} is damaged: {error}") from error
            raise
        # What was journalled and perhaps not recorded yet is newer than the row.
        for (event,) in self._db.execute("SELECT event FROM entries ORDER BY sequence"):
            self.session = follow(self.session, _events.decode(event))
        self._appends = 0

    def _open(self, mode: JournalMode, *, sync: bool) -> None:
        self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
        self._db.execute(f"PRAGMA journal_mode={mode}")
        self._level = "FULL" if sync else "NORMAL"
        self._db.execute(f"PRAGMA synchronous={self._level}")
        # 256 KiB: a host has one of these, and memory is what limits how many hosts there are.
        self._db.execute("PRAGMA cache_size=-256")
        with self._write():
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
            if version == 0:
                for statement in _SCHEMA.split(";\n"):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version={_VERSION}")
            elif version != _VERSION:
                raise Malformed(f"the journal is of version {version}, not {_VERSION}")
            (self._last,) = self._db.execute("SELECT value FROM meta WHERE name='last'").fetchone()

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def last(self) -> int:
        """The sequence of the newest entry ever appended."""
        return self._last

    # Entries: appended here, read and forgotten by whoever hands them on.

    def after(self, sequence: int, limit: int) -> list[Entry]:
        """The next entries beyond a sequence, oldest first."""
        with self._lock:
            rows = self._db.execute(
                "SELECT sequence, event FROM entries WHERE sequence > ? ORDER BY sequence LIMIT ?",
                (sequence, limit),
            ).fetchall()
        return [Entry(sequence=number, event=_events.decode(event)) for number, event in rows]

    def depth(self) -> int:
        """Entries that were not forgotten."""
        with self._lock:
            return self._db.execute("SELECT count(*) FROM entries").fetchone()[0]

    def forget(self, sequence: int) -> None:
        """Drop entries up to and including `sequence`: they are recorded elsewhere.

        A crash may bring them back, which only records them twice, so this need not be on the disk.
        """
        with self._lock:
            self._db.execute("PRAGMA synchronous=NORMAL")
            try:
                self._db.execute("DELETE FROM entries WHERE sequence <= ?", (sequence,))
            finally:
                self._db.execute(f"PRAGMA synchronous={self._level}")

    def change(self, change: Change, now: int) -> bool:
        """Append the event of a session's change; False where it means nothing new."""
        return self._append(lambda mark: announce(self.session, change, mark), now)

    def offered(self, expires_at: int, now: int, *, code: bool) -> bool:
        """Append that a QR or a pairing code is ready; False where pairing is over."""
        return self._append(lambda mark: offer(self.session, expires_at, mark, code=code), now)

    # Messages that arrive.

    def arrived(self, key: str, message: ReceivedMessage, now: int, *, final: bool) -> bool:
        """Append a received message, once per key; False where it was here before."""
        with self._write():
            if not self._first(key, claim=final):
                return False
            self._put(lambda mark: arrival(self.session, message, mark), now)
        return True

    def hold(self, key: str, message: ReceivedMessage, now: int, *, final: bool) -> bool:
        """Keep a received message until `release`; False where it was here before."""
        with self._write():
            if not self._first(key, claim=final):
                return False
            self._db.execute(
                "INSERT INTO held (message, at) VALUES (?, ?)",
                (msgspec.json.encode(message), now),
            )
        return True

    def held(self) -> list[Held]:
        """Messages that wait for a number, oldest first."""
        with self._lock:
            rows = self._db.execute(
                "SELECT number, message, at FROM held ORDER BY number LIMIT ?", (MOST_HELD + 1,)
            ).fetchall()
        return [
            Held(number=number, message=_messages.decode(message), at=at)
            for number, message, at in rows
        ]

    def holding(self) -> bool:
        """Whether any message waits: the next one must not overtake it."""
        with self._lock:
            return self._db.execute("SELECT EXISTS (SELECT 1 FROM held)").fetchone()[0] == 1

    def release_all(self, now: int) -> None:
        """Append what was held as it is: nobody is left to look the numbers up."""
        while waiting := self.held():
            for each in waiting:
                self.release(each.number, each.message, now)

    def release(self, number: int, message: ReceivedMessage, now: int) -> None:
        """Append a message that was held, as it is now."""
        with self._write():
            gone = self._db.execute("DELETE FROM held WHERE number = ?", (number,)).rowcount
            if gone:
                self._put(lambda mark: arrival(self.session, message, mark), now)

    # Messages that are sent.

    def order(self, message_id: MessageId) -> Order | None:
        """What is known of a message's sending."""
        return next(self._orders("message_id = ?", message_id), None)

    def begin(self, order: Order) -> None:
        """Write down the intent to send, before anything is handed over."""
        with self._write():
            self._db.execute(
                "INSERT OR REPLACE INTO orders VALUES (?, ?, ?, ?, ?, NULL)",
                (
                    order.message_id,
                    order.recipient,
                    order.secret,
                    order.on_uncertain,
                    order.begun_at,
                ),
            )

    def withdraw(self, message_id: MessageId) -> None:
        """Forget an intent of which it is certain that nothing went out."""
        with self._write():
            self._db.execute(
                "DELETE FROM orders WHERE message_id = ? AND sequence IS NULL", (message_id,)
            )

    def unsettled(self) -> list[Order]:
        """Intents without an outcome: of a life that ended in between."""
        return list(self._orders("sequence IS NULL ORDER BY begun_at"))

    def settle(self, change: MessageChange, now: int) -> int:
        """Append the outcome of a send, once; returns its sequence.

        Receipts that overtook the outcome follow it.
        """
        with self._write():
            known = next(self._orders("message_id = ?", change.message_id), None)
            if known is not None and known.sequence is not None:
                return known.sequence
            self._put(lambda mark: outcome(self.session, change, mark), now)
            settled = self._last
            self._db.execute(
                "INSERT INTO orders VALUES (?, ?, x'', ?, ?, ?)"
                " ON CONFLICT (message_id) DO UPDATE SET sequence = excluded.sequence",
                (change.message_id, change.to, OnUncertain.REPORT, now, settled),
            )
            if change.whatsapp_id is not None:
                self._db.execute(
                    "INSERT OR REPLACE INTO sent VALUES (?, ?, ?, ?, ?)",
                    (change.whatsapp_id, change.message_id, change.to, change.status, now),
                )
                early = self._db.execute(
                    "DELETE FROM early WHERE whatsapp_id = ? RETURNING status",
                    (change.whatsapp_id,),
                ).fetchone()
                if early is not None:
                    self._advance(change.whatsapp_id, MessageStatus(early[0]), now)
            if not any(self._orders("sequence IS NULL")):
                self._db.execute("DELETE FROM early")
        return settled

    def receipt(self, whatsapp_id: str, status: MessageStatus, now: int) -> bool:
        """Append that a sent message was delivered or read; False where that is not news.

        In a group the first recipient counts.
        """
        with self._write():
            if self._advance(whatsapp_id, status, now):
                return True
            known = self._db.execute(
                "SELECT 1 FROM sent WHERE whatsapp_id = ?", (whatsapp_id,)
            ).fetchone()
            if known is None and any(self._orders("sequence IS NULL")):
                # It may be of the message in hand, whose id is known only when it is settled.
                row = self._db.execute(
                    "SELECT status FROM early WHERE whatsapp_id = ?", (whatsapp_id,)
                ).fetchone()
                if row is None or RANK[status] > RANK[MessageStatus(row[0])]:
                    self._db.execute(
                        "INSERT OR REPLACE INTO early VALUES (?, ?)", (whatsapp_id, status)
                    )
            return False

    def forget_old(self, now: int) -> None:
        """Drop what can no longer matter."""
        with self._write():
            self._db.execute("DELETE FROM sent WHERE at < ?", (now - REMEMBERED,))
            self._db.execute(
                "DELETE FROM orders WHERE begun_at < ? AND sequence IS NOT NULL",
                (now - REMEMBERED,),
            )
            self._db.execute(
                "DELETE FROM seen WHERE number <= (SELECT max(number) FROM seen) - ?", (MOST_SEEN,)
            )

    @contextmanager
    def _write(self) -> Generator[None]:
        """One transaction, on the disk when it ends. The fields follow it if it fails."""
        with self._lock:
            if self._db.in_transaction:
                yield
                return
            self._db.execute("BEGIN IMMEDIATE")
            before = getattr(self, "_last", 0), self.session
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                self._last, self.session = before
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def _append(self, build: Callable[[Mark], SessionEvent | None], now: int) -> bool:
        with self._lock:
            # Outside of a transaction first: most changes that mean nothing cost no write.
            if build(Mark(EventId(""), 0, now)) is None:
                return False
            with self._write():
                self._put(build, now)
            return True

    def _put(self, build: Callable[[Mark], SessionEvent | None], now: int) -> None:
        mark = Mark(self._mint(), self._last + 1, now)
        event = build(mark)
        if event is None:
            return
        self._last = mark.sequence
        self._db.execute(
            "INSERT INTO entries VALUES (?, ?)", (mark.sequence, msgspec.json.encode(event))
        )
        self._db.execute("UPDATE meta SET value = ? WHERE name = 'last'", (mark.sequence,))
        self.session = follow(self.session, event)
        self._appends += 1
        if self._appends % _PRUNE_EVERY == 0:
            self.forget_old(now)

    def _first(self, key: str, *, claim: bool) -> bool:
        if not claim:
            row = self._db.execute("SELECT 1 FROM seen WHERE key = ?", (key,)).fetchone()
            return row is None
        added = self._db.execute("INSERT OR IGNORE INTO seen (key) VALUES (?)", (key,))
        return added.rowcount == 1

    def _advance(self, whatsapp_id: str, status: MessageStatus, now: int) -> bool:
        row = self._db.execute(
            "SELECT message_id, recipient, status FROM sent WHERE whatsapp_id = ?", (whatsapp_id,)
        ).fetchone()
        if row is None or RANK[status] <= RANK[MessageStatus(row[2])]:
            return False
        change = MessageChange(message_id=row[0], status=status, to=row[1], whatsapp_id=whatsapp_id)
        self._put(lambda mark: outcome(self.session, change, mark), now)
        self._db.execute("UPDATE sent SET status = ? WHERE whatsapp_id = ?", (status, whatsapp_id))
        return True

    def _orders(self, condition: str, *values: object) -> Iterator[Order]:
        with self._lock:
            rows = self._db.execute(
                "SELECT message_id, recipient, secret, on_uncertain, begun_at, sequence"
                f" FROM orders WHERE {condition}",
                values,
            ).fetchall()
        return (
            Order(
                message_id=MessageId(message_id),
                recipient=recipient,
                secret=secret,
                on_uncertain=OnUncertain(on_uncertain),
                begun_at=begun_at,
                sequence=sequence,
            )
            for message_id, recipient, secret, on_uncertain, begun_at, sequence in rows
        )
