"""A session's part of the device store as a schema of its own in a PostgreSQL database.

Two drivers use it: whatsmeow's (Go's lib/pq) for the credentials, ours (psycopg, on libpq) for the
journal. Both take the same URL, so of what may stand in it we allow only what both read alike.

A session's schema has one owner at a time: whoever has its journal open holds a lock of the server,
which ends with the connection. A connection may outlive its machine, or belong to a host that is
frozen; so an owner of a later lease ends those of earlier ones.
"""

import hashlib
import re
import select
from collections.abc import Generator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Final, Self, TypeVar
from urllib.parse import parse_qsl, quote, urlencode

import psycopg
from psycopg.abc import PQGen

from gateway.host.store import LARGEST_ASIDE, Row, StoreFailed, Unreadable, Value
from shared.errors import Misconfigured
from shared.ids import SessionId

RV = TypeVar("RV")

SETTING: Final = "ZAPGATE_DEVICE_STORE"
CONNECT_LIMIT: Final = 5
"""Seconds to connect and log in."""
ANSWER_LIMIT: Final = 8.0
"""Seconds for one answer; a server that takes longer is gone. Less than a lease's time, as it
is unless set, in which a host must have heard its gateway."""
CLAIM_LIMIT: Final = 5.0
"""Seconds that an earlier owner gets to be gone. One that was killed is in a few milliseconds."""
_SILENCE: Final = {"idle": 4, "interval": 2, "count": 2}
"""TCP's keepalive, in seconds: either side knows after eight that the other's machine is gone."""

_SSL_MODES: Final = ("disable", "require", "verify-ca", "verify-full")
"""Those that both drivers have meant the same by for as long as there are both."""
_PARAMETERS: Final = frozenset({"sslmode", "sslrootcert", "sslcert", "sslkey"})

_REFUSALS: Final = re.compile(
    "password authentication failed|no password supplied|no pg_hba.conf entry|does not exist"
    "|permission denied|not permitted to log in|does not support SSL|certificate|SSL error"
)
"""Of a server that is there, or of libpq: starting again would not mend it. A server that speaks
another language than English is waited for instead."""

_VERSION_TABLE: Final = "CREATE TABLE whatsmeow_version (version INTEGER, compat INTEGER)"
"""whatsmeow asks for this table by its name alone, finds that of any schema, and then reads its
own (dbutil's `TableExists`). An empty one is to it a store that is to be made."""
_ASIDE: Final = "CREATE TABLE aside (number BIGSERIAL PRIMARY KEY, line TEXT NOT NULL)"
_KEEP: Final = "INSERT INTO aside (line) VALUES (%s)"
_GUARDED: Final = (
    "SELECT 1 FROM pg_trigger"
    " WHERE tgname = 'zapgate_keys_once' AND tgrelid = 'whatsmeow_sessions'::regclass"
)
_KEYS_ONCE: Final = (
    """
    CREATE OR REPLACE FUNCTION zapgate_keys_once() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        was jsonb;
        becomes jsonb;
    BEGIN
        was := convert_from(OLD.session, 'UTF8')::jsonb #> '{SessionState,SenderChain}';
        becomes := convert_from(NEW.session, 'UTF8')::jsonb #> '{SessionState,SenderChain}';
        IF becomes ->> 'SenderRatchetKeyPublic' = was ->> 'SenderRatchetKeyPublic'
            AND (becomes #>> '{ChainKey,Index}')::bigint < (was #>> '{ChainKey,Index}')::bigint
        THEN
            RETURN NULL;
        END IF;
        RETURN NEW;
    EXCEPTION WHEN data_exception THEN
        RETURN NEW;
    END $$
    """,
    """
    CREATE TRIGGER zapgate_keys_once BEFORE UPDATE OF session ON whatsmeow_sessions
    FOR EACH ROW EXECUTE FUNCTION zapgate_keys_once()
    """,
)

_WORD: Final = r"(?:[A-Za-z0-9._~!$&'()*+;=-]|%[0-9A-Fa-f]{2})+"
_HOST: Final = r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])"
_URL: Final = re.compile(
    rf"(?P<base>postgres(?:ql)?://{_WORD}(?::{_WORD})?@{_HOST}(?::[0-9]+)?/{_WORD})"
    r"(?:\?(?P<parameters>[^#\s]*))?"
)
"""What both drivers can read: what they cannot, they would repeat in an error, password and all."""


@dataclass(frozen=True, slots=True)
class Server:
    """A database by its URL."""

    url: str = field(repr=False)
    """Without parameters."""
    parameters: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, url: str) -> Self:
        """Raises Misconfigured, never with the password."""
        match = _URL.fullmatch(url)
        if match is None:
            raise Misconfigured(
                f"{SETTING}: neither a folder nor postgresql://user:password@host:port/database,"
                " with %xx for what is special in a URL"
            )
        parameters = _parameters(match["parameters"] or "")
        other = parameters.keys() - _PARAMETERS
        if other:
            allowed = ", ".join(sorted(_PARAMETERS))
            raise Misconfigured(f"{SETTING}: not supported is {min(other)}, only {allowed}")
        mode = parameters.setdefault("sslmode", "require")
        if mode not in _SSL_MODES:
            raise Misconfigured(f"{SETTING}: sslmode is one of {', '.join(_SSL_MODES)}")
        if mode.startswith("verify") and "sslrootcert" not in parameters:
            raise Misconfigured(f"{SETTING}: sslmode={mode} needs sslrootcert")
        return cls(match["base"], tuple(parameters.items()))

    def named(self, schema: str, *, sync: bool) -> str:
        """The library's name of a schema: what its driver does not know it asks of the server."""
        return self._with(
            connect_timeout=str(CONNECT_LIMIT),
            application_name=schema,
            **_asked(schema, sync=sync),
        )

    def connect(self, schema: str = "", *, sync: bool = True) -> "Connection":
        """Raises StoreFailed."""
        options = " ".join(
            f"-c {name}={value}" for name, value in _asked(schema, sync=sync).items()
        )
        with _ours():
            return Connection.connect(
                self._with(),
                autocommit=True,
                connect_timeout=CONNECT_LIMIT,
                application_name=schema or "zapgate",
                options=options,
                gssencmode="disable",
                tcp_user_timeout=round(1000 * ANSWER_LIMIT),
                keepalives_idle=_SILENCE["idle"],
                keepalives_interval=_SILENCE["interval"],
                keepalives_count=_SILENCE["count"],
            )

    def _with(self, **more: str) -> str:
        # libpq takes a plus for a plus, so spaces must not become any.
        return f"{self.url}?{urlencode({**dict(self.parameters), **more}, quote_via=quote)}"

    def check(self) -> None:
        """Whether it can be used.

        Raises Misconfigured for what has to be mended first, StoreFailed where it does not answer.
        """
        try:
            with closing(self.connect()) as connection, _ours():
                asked = "SELECT has_database_privilege(current_database(), 'CREATE')"
                allowed = connection.execute(asked).fetchall() == [(True,)]
        except StoreFailed as error:
            if _REFUSALS.search(error.code):
                raise Misconfigured(f"{SETTING}: {error.code}") from None
            raise
        if not allowed:
            raise Misconfigured(f"{SETTING}: its user may not CREATE schemas in the database")


def _parameters(text: str) -> dict[str, str]:
    try:
        return dict(parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text)))
    except ValueError:
        raise Misconfigured(f"{SETTING}: what follows the ? is not name=value") from None


def _asked(schema: str, *, sync: bool) -> dict[str, str]:
    """What a connection asks of the server for itself."""
    return {
        "search_path": schema or "pg_catalog",
        "synchronous_commit": "on" if sync else "off",
        "lock_timeout": f"{round(1000 * CLAIM_LIMIT)}",
        **{f"tcp_keepalives_{name}": str(value) for name, value in _SILENCE.items()},
    }


class Connection(psycopg.Connection[Row]):
    """One that does not wait for ever: a server that is frozen keeps its connections open."""

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        return super().wait(gen, interval, ANSWER_LIMIT if timeout is None else timeout)


@contextmanager
def _ours() -> Generator[None]:
    """Psycopg's errors in our words; its own may name the URL."""
    try:
        yield
    except psycopg.Error as error:
        # One line, and none of the hint that follows.
        raise StoreFailed(" ".join(str(error).split())) from None


class Schema:
    """The store of one session; `epoch` is the fencing token of the lease it is used under."""

    def __init__(
        self, server: Server, session_id: SessionId, *, epoch: int = 0, sync: bool = True
    ) -> None:
        """The id is known to be one, so it needs no quotes anywhere."""
        self._server = server
        self._schema = session_id
        self._epoch = epoch
        self._sync = sync

    @property
    def name(self) -> str:
        return self._server.named(self._schema, sync=self._sync)

    def has_credentials(self) -> bool:
        with closing(self._connect()) as connection, _ours():
            asked = connection.execute("SELECT to_regclass('whatsmeow_device')")
            return asked.fetchone() != (None,)

    def library_opens(self) -> None:
        """It has connections of its own."""

    def open(self) -> "Postgres":
        connection = self._connect()
        try:
            return Postgres(connection, self._schema, self._epoch)
        except BaseException:
            connection.close()
            raise

    def whatsapp_id(self, secret: bytes) -> str | None:
        with closing(self._connect()) as connection, _ours():
            try:
                devices = connection.execute("SELECT count(*) FROM whatsmeow_device").fetchone()
            except psycopg.errors.UndefinedTable as error:
                raise Unreadable(error) from None
            if devices == (0,):
                raise Unreadable("the device was removed")
            row = connection.execute(
                "SELECT message_id FROM whatsmeow_message_secrets WHERE key = %s", (secret,)
            ).fetchone()
        return None if row is None else str(row[0])

    def use_keys_once(self) -> None:
        with closing(self._connect()) as connection, _ours(), connection.transaction():
            there = connection.execute("SELECT to_regclass('whatsmeow_sessions')").fetchone()
            if there == (None,) or connection.execute(_GUARDED).fetchone() is not None:
                return
            for statement in _KEYS_ONCE:
                connection.execute(statement)

    def erase_credentials(self) -> None:
        with closing(self._connect()) as connection, _ours(), connection.transaction():
            tables = connection.execute(
                "SELECT tablename FROM pg_tables"
                " WHERE schemaname = %s AND starts_with(tablename, 'whatsmeow_')",
                (self._schema,),
            ).fetchall()
            if tables:
                names = ", ".join(name for (name,) in tables)
                connection.execute(f"DROP TABLE {names} CASCADE".encode())
                connection.execute(_VERSION_TABLE)

    def erase(self) -> None:
        with closing(self._connect()) as connection, _ours():
            connection.execute(f"DROP SCHEMA IF EXISTS {self._schema} CASCADE".encode())

    def set_aside(self, line: bytes) -> None:
        with closing(self._connect()) as connection, _ours():
            full = "SELECT coalesce(sum(octet_length(line)), 0) > %s FROM aside"
            if connection.execute(full, (LARGEST_ASIDE - len(line),)).fetchone() == (True,):
                raise StoreFailed("as much is set aside as may be")
            connection.execute(_KEEP, (line.decode(),))

    def aside(self) -> list[bytes]:
        with closing(self._connect()) as connection, _ours():
            if connection.execute("SELECT to_regclass('aside')").fetchone() == (None,):
                return []
            rows = connection.execute("SELECT line FROM aside ORDER BY number").fetchall()
        return [str(line).encode() for (line,) in rows]

    def leave_aside(self, lines: Sequence[bytes]) -> None:
        with closing(self._connect()) as connection, _ours(), connection.transaction():
            connection.execute("DELETE FROM aside")
            connection.cursor().executemany(_KEEP, [(line.decode(),) for line in lines])

    def _connect(self) -> Connection:
        return self._server.connect(self._schema, sync=self._sync)


class Postgres:
    """A journal's tables, owned."""

    def __init__(self, connection: Connection, schema: str, epoch: int) -> None:
        """Raises StoreFailed while somebody else owns them."""
        self._connection = connection
        self._schema = schema
        self._epoch = epoch
        self._began = False
        self._readable = select.poll()
        self._readable.register(connection.fileno(), select.POLLIN)
        self._claim()

    def prepare(self, tables: str, version: int) -> int:
        if self._made():
            ((found,),) = self.execute("SELECT value FROM meta WHERE name = 'version'")
            self.execute("UPDATE meta SET value = ? WHERE name = 'epoch'", self._epoch)
            return found
        self.execute(f"CREATE SCHEMA IF NOT EXISTS {self._schema}")
        made = tables.format(integer="BIGINT", bytes="BYTEA", by_key="")
        for statement in (*made.split(";\n"), _VERSION_TABLE, _ASIDE):
            if statement:
                self.execute(statement)
        self.execute("INSERT INTO meta VALUES ('version', ?), ('epoch', ?)", version, self._epoch)
        return version

    def execute(self, query: str, *values: Value) -> list[Row]:
        with _ours():
            cursor = self._connection.execute(
                query.replace("?", "%s").encode(),
                # An enumeration's member would be written by its name.
                [str(value) if isinstance(value, str) else value for value in values],
            )
            return cursor.fetchall() if cursor.description else []

    def begin(self, *, durable: bool = True) -> None:
        self.execute("BEGIN")
        self._began = True
        if not durable:
            self.execute("SET LOCAL synchronous_commit = off")

    def commit(self) -> None:
        self._began = False
        self.execute("COMMIT")

    def rollback(self) -> None:
        if self._began:
            self._began = False
            self.execute("ROLLBACK")

    def check(self) -> None:
        # Unasked, a server says little but goodbye.
        if self._readable.poll(0):
            self.execute("SELECT 1")

    def close(self) -> None:
        self._connection.close()

    def _made(self) -> bool:
        return self.execute("SELECT to_regclass(?)", f"{self._schema}.meta") != [(None,)]

    def _claim(self) -> None:
        key = int.from_bytes(hashlib.blake2b(self._schema.encode(), digest_size=8).digest())
        key -= 1 << 63
        if self.execute("SELECT pg_try_advisory_lock(?)", key) == [(True,)]:
            return
        if self._made():
            ((epoch,),) = self.execute("SELECT value FROM meta WHERE name = 'epoch'")
            if epoch < self._epoch:
                self._evict()
        self.execute("SELECT pg_advisory_lock(?)", key)

    def _evict(self) -> None:
        """End the connections of an owner whose lease has passed on, its library's too."""
        self.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = ?"
            " AND datname = current_database() AND usename = current_user"
            " AND pid <> pg_backend_pid()",
            self._schema,
        )
