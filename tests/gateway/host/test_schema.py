"""The device store in a PostgreSQL server: which URLs, whose a schema is, and what goes wrong."""

import asyncio
import os
import random
import signal
import sys
import time
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote, urlsplit

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict

from gateway.host import place as places
from gateway.host import schema as schemas
from gateway.host.place import check, place
from gateway.host.schema import Schema, Server
from gateway.host.store import Row, StoreFailed
from sandbox.whatsapp.certificates import open_authority
from shared import clock, ids
from shared.errors import Malformed, Misconfigured, Unavailable
from shared.ids import SessionId
from tests.conftest import HOME
from tests.gateway.gateway import new_session
from tests.postgres import PASSWORD, DatabaseServer, behind_tls, run_postgres

BASE = "postgresql://zapgate:s3cret@db.example"
TABLES = "CREATE TABLE meta (name TEXT PRIMARY KEY, value {integer} NOT NULL) {by_key};\n"


def new_schema(postgres: DatabaseServer, epoch: int = 0) -> Schema:
    return Schema(Server.parse(postgres.url()), SessionId(clock.mint(ids.SESSION)), epoch=epoch)


def later(schema: Schema, epoch: int) -> Schema:
    """The same session's, under another lease."""
    return Schema(schema._server, SessionId(schema._schema), epoch=epoch)  # pyright: ignore[reportPrivateUsage] (a test may look inside)


@contextmanager
def opened(schema: Schema) -> Generator[schemas.Postgres]:
    with closing(schema.open()) as database:
        database.begin()
        database.prepare(TABLES, 1)
        database.commit()
        yield database


@pytest.mark.parametrize(
    "url",
    [
        "mysql://zapgate:s3cret@db.example/devices",
        "postgresql://db.example/devices",
        f"{BASE}",
        f"{BASE}/",
        f"{BASE}:port/devices",
        f"{BASE},other.example/devices",
        f"{BASE}/devices#s3cret",
        f"{BASE}/devices?s3cret",
        f"{BASE}/devices?sslmode=prefer",
        f"{BASE}/devices?sslmode=verify-full",
        f"{BASE}/devices?options=-csearch_path%3Dpublic",
        f"{BASE}/devices?search_path=public",
        "postgresql://zapgate:s3cret^@db.example/devices",
        "postgresql://zapgate:s3cret%@db.example/devices",
        "postgresql://zapgate:s3cret@@db.example/devices",
        "postgresql://zapgate:s3cret /@db.example/devices",
    ],
)
def test_a_url_that_drivers_read_differently_is_refused(url: str) -> None:
    """The variable is named, and the password is not."""
    with pytest.raises(Misconfigured, match="ZAPGATE_DEVICE_STORE") as caught:
        check(url)
    assert "s3cret" not in str(caught.value)


def test_a_connection_is_encrypted_unless_it_is_said_not_to_be() -> None:
    """The drivers' own defaults differ."""
    assert dict(Server.parse(f"{BASE}/devices").parameters) == {"sslmode": "require"}
    plain = Server.parse(f"{BASE}/devices?sslmode=disable")
    assert dict(plain.parameters) == {"sslmode": "disable"}
    assert "s3cret" not in repr(plain)


@given(st.text(min_size=1).filter(lambda text: "\0" not in text and text.isprintable()))
def test_a_password_may_hold_anything(password: str) -> None:
    """Escaped as URLs are; both drivers get it as it was."""
    url = f"postgresql://zapgate:{quote(password, safe='')}@db.example:5433/devices"
    name = Server.parse(url).named("ses_1", sync=True)
    known = name.partition("?")[0]
    assert conninfo_to_dict(known)["password"] == password
    assert "search_path=ses_1" in name


def test_without_its_driver_a_database_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the words say what to install."""
    monkeypatch.setitem(sys.modules, places.DATABASE, None)
    with pytest.raises(Misconfigured, match=r"zapgate\[postgres\]"):
        check(f"{BASE}/devices")


def test_a_folder_needs_no_look(tmp_path: Path) -> None:
    """It is made when the first session is."""
    check(str(tmp_path / "devices"))
    assert not (tmp_path / "devices").exists()


def test_what_only_a_person_can_mend_is_no_outage(postgres: DatabaseServer) -> None:
    """A wrong password, a database that is not there, one that takes no schemas."""
    check(postgres.url())
    wrong = postgres.url().replace("s3cret", "wr0ng")
    for url in (wrong, postgres.url("nowhere"), postgres.url(sslmode="require")):
        with pytest.raises(Misconfigured, match="ZAPGATE_DEVICE_STORE") as caught:
            check(url)
        assert "wr0ng" not in str(caught.value)
        assert PASSWORD not in str(caught.value)
    with pytest.raises(Misconfigured, match="CREATE"):
        check(postgres.url("postgres"))


def test_a_server_that_is_not_there_is_an_outage(postgres: DatabaseServer) -> None:
    """It is waited for; what was asked of it may be asked again."""
    with pytest.raises(StoreFailed, match="refused"):
        check(postgres.url(port=1))
    assert issubclass(StoreFailed, Unavailable)


def test_a_second_owner_is_refused_under_the_same_lease(
    postgres: DatabaseServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And under an earlier one: a gateway that was frozen does not end its successor's host."""
    monkeypatch.setattr(schemas, "CLAIM_LIMIT", 0.05)
    schema = new_schema(postgres, epoch=7)
    with opened(schema) as database:
        for epoch in (7, 6):
            with pytest.raises(StoreFailed, match="lock"):
                later(schema, epoch).open()
        assert database.execute("SELECT 1") == [(1,)]
    with opened(later(schema, 6)):
        # Nobody has it: after a table was restored from a backup, leases count from less.
        pass


def test_a_later_lease_ends_an_earlier_owner(postgres: DatabaseServer) -> None:
    """A frozen host's connections are ended, its library's too, and it can write no more."""
    schema = new_schema(postgres, epoch=7)
    with opened(schema) as frozen, closing(schema._connect()) as library:  # pyright: ignore[reportPrivateUsage] (likewise)
        with opened(later(schema, 8)) as database:
            assert database.execute("SELECT 1") == [(1,)]
            with pytest.raises(StoreFailed):
                frozen.execute("INSERT INTO meta VALUES ('late', 1)")
            with pytest.raises(Exception, match=r"terminating connection|closed"):
                library.execute("SELECT 1")
            assert database.execute("SELECT 1 FROM meta WHERE name = 'late'") == []
        with pytest.raises(StoreFailed):
            frozen.check()


def test_another_sessions_owner_is_left_alone(postgres: DatabaseServer) -> None:
    """What ends owners looks at one schema's only."""
    other, schema = new_schema(postgres, epoch=1), new_schema(postgres, epoch=1)
    with opened(other) as database, opened(schema), opened(later(schema, 2)):
        database.check()
        assert database.execute("SELECT 1") == [(1,)]


def test_schemas_do_not_see_each_other(postgres: DatabaseServer) -> None:
    """Nor anything of the database's own schema."""
    first, second = new_schema(postgres), new_schema(postgres)
    with opened(first) as one, opened(second) as two:
        one.execute("CREATE TABLE secrets (value TEXT)")
        assert two.execute("SELECT to_regclass('secrets')") == [(None,)]
        assert one.execute("SELECT current_schemas(false)") == [([first._schema],)]  # pyright: ignore[reportPrivateUsage] (likewise)


def test_what_is_erased_is_gone_and_can_be_begun_again(postgres: DatabaseServer) -> None:
    """Erasing what is not there is no error: an order may be repeated."""
    schema = new_schema(postgres)
    with opened(schema) as database:
        database.execute("INSERT INTO meta VALUES ('mark', 1)")
    schema.erase()
    schema.erase()
    schema.erase_credentials()
    with opened(schema) as database:
        assert database.execute("SELECT 1 FROM meta WHERE name = 'mark'") == []
    schema.erase()


def test_what_is_set_aside_is_kept(postgres: DatabaseServer) -> None:
    """As it was, beside the journal, in the order it came."""
    schema = new_schema(postgres)
    with opened(schema) as database:
        for line in (b'{"a":"\\u0000"}', b'{"b":"?%"}'):
            schema.set_aside(line)
        rows = database.execute("SELECT line FROM aside")
    assert rows == [('{"a":"\\u0000"}',), ('{"b":"?%"}',)]
    schema.erase()


def test_what_is_not_durable_need_not_wait_for_the_disk(postgres: DatabaseServer) -> None:
    """Only for its own transaction."""
    schema = new_schema(postgres)
    shown = list[Row]()
    with opened(schema) as database:
        for durable in (True, False, True):
            database.begin(durable=durable)
            shown += database.execute("SHOW synchronous_commit")
            database.commit()
    assert shown == [("on",), ("off",), ("on",)]
    schema.erase()


def test_a_server_that_stops_or_stands_still_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once when it says goodbye, else when an answer takes too long."""
    monkeypatch.setattr(schemas, "ANSWER_LIMIT", 0.5)
    with run_postgres(HOME) as own, opened(new_schema(own)) as database:
        database.check()
        ((backend,),) = database.execute("SELECT pg_backend_pid()")
        os.kill(backend, signal.SIGSTOP)
        began = time.monotonic()
        with pytest.raises(StoreFailed):
            database.execute("SELECT 1")
        assert time.monotonic() - began < 8
        os.kill(backend, signal.SIGCONT)
        with opened(new_schema(own)) as other:
            own.stop()
            with pytest.raises(StoreFailed):
                other.check()


async def test_a_certificate_of_anybody_elses_is_refused(
    postgres: DatabaseServer, tmp_path: Path
) -> None:
    """What the URL asks for is checked by our driver, too."""
    now = clock.instant(clock.millis())
    ours, others = (
        open_authority(tmp_path / name, now, random.randbytes) for name in ("ours", "others")
    )
    database = urlsplit(postgres.database()).path[1:]
    async with behind_tls(postgres, ours.tls) as port:
        for authority, fits in ((ours, True), (others, False)):
            root = str(authority.ca_file)
            url = postgres.url(database, port, sslmode="verify-full", sslrootcert=root)
            if fits:
                await asyncio.to_thread(check, url)
            else:
                with pytest.raises(Misconfigured, match="certificate"):
                    await asyncio.to_thread(check, url)


def test_a_store_is_named_by_ids_only(postgres: DatabaseServer) -> None:
    """The id becomes a schema's name, without quotes."""
    session = new_session()
    assert isinstance(place(postgres.url(), session), Schema)
    with pytest.raises(Malformed):
        place(postgres.url(), msgspec.structs.replace(session, id=SessionId('ses_"; DROP')))
