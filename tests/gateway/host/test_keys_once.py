"""No key that the library has used comes back, whatever it writes over what."""

import json
import sqlite3
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager, nullcontext
from typing import Any

import pytest

from gateway.host.folder import CREDENTIALS, Folder
from gateway.host.schema import Schema
from gateway.host.store import Store, StoreFailed

Run = Callable[..., list[Any]]

THEIRS = "15550102030:0"
_PUT = (
    "INSERT INTO whatsmeow_sessions VALUES ('us', ?, ?)"
    " ON CONFLICT (our_jid, their_id) DO UPDATE SET session = excluded.session"
)
"""As whatsmeow puts it."""


def state(index: int, ratchet: str = "one", read: int = 0) -> bytes:
    """A contact's encryption state, as far as it matters here."""
    chain = {"SenderRatchetKeyPublic": ratchet, "ChainKey": {"Key": "…", "Index": index}}
    return json.dumps({"SessionState": {"SenderChain": chain, "Read": read}}).encode()


@contextmanager
def library(store: Store) -> Generator[Run]:
    """The library's connection to its tables."""
    if isinstance(store, Folder):
        store.open().close()
        with closing(sqlite3.connect(store.path / CREDENTIALS, isolation_level=None)) as db:
            db.execute("PRAGMA journal_mode=WAL")

            def ask(query: str, *values: str | bytes) -> list[Any]:
                return db.execute(query, values).fetchall()

            yield ask
        return
    assert isinstance(store, Schema)
    with closing(store._connect()) as connection:  # pyright: ignore[reportPrivateUsage] (a test may look inside)

        def run(query: str, *values: object) -> list[Any]:
            cursor = connection.execute(query.replace("?", "%s").encode(), values)
            return cursor.fetchall() if cursor.description else []

        run(f"CREATE SCHEMA {store._schema}")  # pyright: ignore[reportPrivateUsage] (likewise)
        yield run


@pytest.fixture
def run(store: Store) -> Generator[Run]:
    kind = "BLOB" if isinstance(store, Folder) else "BYTEA"
    with library(store) as running:
        store.use_keys_once()
        running(
            f"CREATE TABLE whatsmeow_sessions (our_jid TEXT, their_id TEXT, session {kind},"
            " PRIMARY KEY (our_jid, their_id))"
        )
        store.use_keys_once()
        store.use_keys_once()
        yield running


def kept(run: Run) -> bytes:
    ((session,),) = run("SELECT session FROM whatsmeow_sessions WHERE their_id = ?", THEIRS)
    return bytes(session)


def test_no_store_is_made_to_be_guarded(store: Store) -> None:
    """An empty one would pass for a number's credentials."""
    with pytest.raises(StoreFailed) if isinstance(store, Folder) else nullcontext():
        store.use_keys_once()
    assert not store.has_credentials()


def test_what_was_read_is_not_written_over_what_was_sent(run: Run) -> None:
    """Two worked on the same row: the one that had not sent comes last, and is left out."""
    run(_PUT, THEIRS, state(7))
    run(_PUT, THEIRS, state(8))
    run(_PUT, THEIRS, state(7, read=1))
    assert kept(run) == state(8)
    run(_PUT, THEIRS, state(8, read=1))
    assert kept(run) == state(8, read=1)
    run(_PUT, THEIRS, state(10, read=1))
    assert kept(run) == state(10, read=1), "by number, not by its digits"


def test_a_new_chain_begins_at_its_beginning(run: Run) -> None:
    """The ratchet has turned: no key of the new chain was used."""
    run(_PUT, THEIRS, state(8))
    run(_PUT, THEIRS, state(0, ratchet="two"))
    assert kept(run) == state(0, ratchet="two")


@pytest.mark.parametrize("other", [b"\x0a\x21", b"null", b"[]", b'{"SessionState": {}}'])
def test_what_is_not_understood_is_written(run: Run, other: bytes) -> None:
    """The library keeps its rows as it likes: a later version may, in another way."""
    run(_PUT, THEIRS, state(8))
    run(_PUT, THEIRS, other)
    assert kept(run) == other
    run(_PUT, THEIRS, state(3))
    assert kept(run) == state(3)
