"""A session's part of the device store as SQLite files in a folder of its own.

The lock SQLite keeps on the journal makes a second owner fail rather than share.
"""

import os
import shutil
import sqlite3
from collections.abc import Generator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

from gateway.host.sent_as import Untraceable, asked_apart, sent_as
from gateway.host.store import LARGEST_ASIDE, Damaged, Row, StoreFailed, Unreadable, Value
from shared.env import JournalMode

CREDENTIALS: Final = "device.db"
"""The library's file."""
JOURNAL: Final = "journal.db"
ASIDE: Final = "aside.jsonl"
"""Events that the table refused, a line each."""

_BUSY_MILLIS: Final = 5_000
_SESSIONS: Final = (
    "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'whatsmeow_sessions'"
)


def _chain(row: str, what: str) -> str:
    """A part of the chain that a contact's row sends by, in the library's JSON."""
    return f"json_extract(CAST({row}.session AS TEXT), '$.SessionState.SenderChain.{what}')"


_KEYS_ONCE: Final = f"""
CREATE TRIGGER IF NOT EXISTS zapgate_keys_once BEFORE UPDATE OF session ON whatsmeow_sessions
WHEN CASE
    WHEN json_valid(CAST(OLD.session AS TEXT)) AND json_valid(CAST(NEW.session AS TEXT)) THEN
        {_chain("NEW", "SenderRatchetKeyPublic")} = {_chain("OLD", "SenderRatchetKeyPublic")}
        AND {_chain("NEW", "ChainKey.Index")} < {_chain("OLD", "ChainKey.Index")}
    ELSE 0
END
BEGIN
    SELECT RAISE(IGNORE);
END
"""


@contextmanager
def _ours() -> Generator[None]:
    """SQLite's errors in our words."""
    try:
        yield
    except sqlite3.Error as error:
        raise StoreFailed(error) from error


class Folder:
    """The store of one session, in a folder that is made when it is first opened."""

    def __init__(self, path: Path, *, mode: JournalMode = "wal", sync: bool = True) -> None:
        self.path = path
        self._mode: JournalMode = mode
        self._sync = sync
        self._beside_library = False

    @property
    def name(self) -> str:
        """The library appends `?_foreign_keys=on` to the name; the trailing `_x=` swallows that."""
        level = "FULL" if self._sync else "NORMAL"
        return (
            f"{quote(str(self.path / CREDENTIALS))}?_journal_mode={self._mode.upper()}"
            f"&_busy_timeout=15000&_synchronous={level}&_txlock=immediate&_foreign_keys=on&_x="
        )

    def has_credentials(self) -> bool:
        return (self.path / CREDENTIALS).exists()

    def library_opens(self) -> None:
        self._beside_library = True

    def open(self) -> "Sqlite":
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path.mkdir(mode=0o700, exist_ok=True)
        return Sqlite(self.path / JOURNAL, mode=self._mode, sync=self._sync)

    def whatsapp_id(self, secret: bytes) -> str | None:
        uri = f"{(self.path / CREDENTIALS).as_uri()}?mode=ro"
        try:
            return (asked_apart if self._beside_library else sent_as)(uri, secret)
        except Untraceable as why:
            raise Unreadable(why) from why
        except OSError as error:
            raise StoreFailed(error) from error

    def use_keys_once(self) -> None:
        # Never made here: an empty file would pass for credentials.
        uri, limit = f"{(self.path / CREDENTIALS).as_uri()}?mode=rw", _BUSY_MILLIS / 1000
        with _ours(), closing(sqlite3.connect(uri, uri=True, timeout=limit)) as db:
            if db.execute(_SESSIONS).fetchone() is not None:
                db.execute(_KEYS_ONCE)

    def erase_credentials(self) -> None:
        for path in self.path.glob(f"{CREDENTIALS}*"):
            path.unlink(missing_ok=True)

    def erase(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        # A second look, which names what could not be removed.
        try:
            shutil.rmtree(self.path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise StoreFailed(error) from error

    def set_aside(self, line: bytes) -> None:
        self._append(self.path / ASIDE, line + b"\n")

    def aside(self) -> list[bytes]:
        try:
            return (self.path / ASIDE).read_bytes().splitlines()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StoreFailed(error) from error

    def leave_aside(self, lines: Sequence[bytes]) -> None:
        path = self.path / ASIDE
        fresh = path.with_suffix(".new")
        try:
            fresh.unlink(missing_ok=True)
            if lines:
                self._append(fresh, b"".join(line + b"\n" for line in lines))
                fresh.replace(path)
            else:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise StoreFailed(error) from error

    def _append(self, path: Path, text: bytes) -> None:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            with open(descriptor, "ab") as file:  # noqa: PTH123 (a descriptor: the mode is given above)
                if file.tell() + len(text) > LARGEST_ASIDE:
                    raise StoreFailed("as much is set aside as may be")
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StoreFailed(error) from error


class Sqlite:
    """A journal's file, opened."""

    def __init__(self, path: Path, *, mode: JournalMode, sync: bool) -> None:
        """Raises StoreFailed, Damaged or OSError."""
        self._path = path
        self._level = "FULL" if sync else "NORMAL"
        # Made here with its mode: SQLite gives its side files the mode of the main one.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        self._db = sqlite3.connect(
            path, timeout=_BUSY_MILLIS / 1000, isolation_level=None, check_same_thread=False
        )
        try:
            with self._reading():
                self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
                self._db.execute(f"PRAGMA journal_mode={mode}")
                self._db.execute(f"PRAGMA synchronous={self._level}")
                # 256 KiB: a host has one of these, and memory limits how many there are.
                self._db.execute("PRAGMA cache_size=-256")
        except BaseException:
            self._db.close()
            raise

    def prepare(self, tables: str, version: int) -> int:
        with self._reading():
            (found,) = self._db.execute("PRAGMA user_version").fetchone()
            if found != 0:
                return found
            made = tables.format(integer="INTEGER", bytes="BLOB", by_key="WITHOUT ROWID")
            for statement in made.split(";\n"):
                self._db.execute(statement)
            self._db.execute(f"PRAGMA user_version={version}")
            return version

    def execute(self, query: str, *values: Value) -> list[Row]:
        with _ours():
            return self._db.execute(query, values).fetchall()

    def begin(self, *, durable: bool = True) -> None:
        with _ours():
            if not durable:
                self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        with _ours():
            self._db.execute("COMMIT")
            self._db.execute(f"PRAGMA synchronous={self._level}")

    def rollback(self) -> None:
        with _ours():
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            self._db.execute(f"PRAGMA synchronous={self._level}")

    def check(self) -> None:
        """A disk that is gone says so when it is used."""

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def _reading(self) -> Generator[None]:
        """What is wrong with the file itself is no matter of time."""
        try:
            yield
        except sqlite3.OperationalError as error:
            raise StoreFailed(error) from error
        except sqlite3.DatabaseError as error:
            raise Damaged(f"the journal {self._path} is damaged: {error}") from error
