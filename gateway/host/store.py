"""A session's part of the device store: the library's credentials, and our journal.

`folder.py` keeps them in SQLite files, `schema.py` in a PostgreSQL database. What is journalled,
and when, is the ledger's and the journal's; here is only what differs between the two.
"""

from collections.abc import Sequence
from typing import Any, Final, Protocol

from shared.errors import Unavailable, ZapgateError

EXIT_STORE: Final = 74
"""EX_IOERR: a host whose journal cannot be written may take no further event, and ends."""

LARGEST_ASIDE: Final = 64 * 1024 * 1024
"""Bytes that are set aside: then the journal keeps what is refused, and whatever follows that."""

Value = str | int | bytes | None
Row = tuple[Any, ...]


class StoreFailed(Unavailable):
    """The device store did not do what it was asked to. Later it may."""

    def __init__(self, why: object) -> None:
        super().__init__("devices", "ask", str(why))


class Unreadable(StoreFailed):
    """What the library wrote down of its sends is not there, nor will it be later."""


class Damaged(ZapgateError):
    """A journal that this version cannot read. Nothing is wrong with whoever asked for it."""


class Database(Protocol):
    """An open journal's tables, which nobody else has open. Used by one thread at a time.

    Where it was refused something because it is away, it stays refused: it is opened anew.
    """

    def prepare(self, tables: str, version: int) -> int:
        """Make the tables if there are none, within a transaction; their version.

        In `tables`, statements end in a semicolon and a line break. `{integer}` stands for 64 bits,
        `{bytes}` for bytes, and `{by_key}` says that rows are found by their key only. Raises
        StoreFailed or Damaged.
        """
        ...

    def execute(self, query: str, *values: Value) -> list[Row]:
        """Run a statement, with `?` where a value goes; its rows. Raises StoreFailed."""
        ...

    def begin(self, *, durable: bool = True) -> None:
        """Begin a transaction. If not `durable`, a crash may undo it after its end."""
        ...

    def commit(self) -> None:
        """End it; what is durable is on the disk. Raises StoreFailed, and then nobody knows."""
        ...

    def rollback(self) -> None:
        """Undo it."""
        ...

    def check(self) -> None:
        """Raise StoreFailed if the store is known to be gone. Asks nobody."""
        ...

    def close(self) -> None:
        """Let others have it."""
        ...


class Store(Protocol):
    """One session's part. All of it may block; all but `name` touch the store."""

    @property
    def name(self) -> str:
        """What the library calls the credentials by. May hold a password."""
        ...

    def has_credentials(self) -> bool:
        """Whether the library finds its tables. Raises StoreFailed."""
        ...

    def library_opens(self) -> None:
        """From now on the library has its part open, in this process."""
        ...

    def open(self) -> Database:
        """The journal's database, made if it is not there. Raises StoreFailed, Damaged, OSError."""
        ...

    def whatsapp_id(self, secret: bytes) -> str | None:
        """The id the library gave the message with this secret; None if it never came to that.

        neonize does not let the caller choose a message's id, so a send that was cut off cannot be
        asked about. But before it writes the frame, whatsmeow stores the message's secret under the
        id it chose (`send.go`, PutMessageSecret); we choose the secret. So a secret that is found
        has an id, by which a receipt may yet settle the message; and one that is not found was
        never handed to the socket.

        Raises Unreadable where nothing is known: there is none, or the device was removed and took
        its secrets along. Raises StoreFailed where that may be known later.
        """
        ...

    def use_keys_once(self) -> None:
        """Have the database refuse that the library takes back a key which it has used.

        whatsmeow changes a contact's encryption state when it reads and when it sends, each time by
        reading the row, working on it and writing it whole, without a lock between the two
        (tulir/whatsmeow#1168). Where it sends in the middle of reading, what it read last is
        written over what it sent: the next message goes out under a key that is used, and the
        contact's phone drops it, although it says that it was delivered. So a row whose sending
        chain is the same and shorter than it was is not written. What was read is read all the
        same; at worst its own key is kept longer than need be.

        Does nothing where the library's tables are not there, or not the ones that it means. Asked
        for by another process than the library's. Raises StoreFailed.
        """
        ...

    def erase_credentials(self) -> None:
        """Delete the device's keys; the journal stays, and with it the count of events."""
        ...

    def erase(self) -> None:
        """Delete everything. Raises StoreFailed, also where anything is left."""
        ...

    def set_aside(self, line: bytes) -> None:
        """Keep a line of JSON; it is on the disk then.

        Raises StoreFailed, also where LARGEST_ASIDE is reached.
        """
        ...

    def aside(self) -> list[bytes]:
        """The lines kept, in order. Raises StoreFailed."""
        ...

    def leave_aside(self, lines: Sequence[bytes]) -> None:
        """Keep these lines in place of those that are. Raises StoreFailed."""
        ...
