"""Proxies as tenants have them: HTTP (RFC 9110, CONNECT) and SOCKS5 (RFC 1928, 1929), well or ill.

They lead WhatsApp's names to a port of this machine, and keep a record of who came and where to.
"""

import asyncio
import base64
import socket
import struct
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from sandbox.whatsapp.proxy import is_known

Scheme = Literal["http", "socks5"]


class Mood(StrEnum):
    """What a proxy does to those who come."""

    WELL = "well"
    MUTE = "mute"
    """It takes the connection and says nothing."""
    CURT = "curt"
    """It takes the connection and closes it."""
    FOREIGN = "foreign"
    """It speaks another protocol."""
    REFUSING = "refusing"
    """It does not lead there."""
    LOST = "lost"
    """It cannot get there."""
    HOLLOW = "hollow"
    """It says yes, and leads nowhere."""
    OTHERWISE = "otherwise"
    """It says yes, and leads to a server that is not WhatsApp's."""


_SOCKS_REPLIES = {Mood.REFUSING: 2, Mood.LOST: 4}
"""RFC 1928, 6: not allowed by ruleset; host unreachable."""
_HTTP_REPLIES = {Mood.REFUSING: b"403 Forbidden", Mood.LOST: b"502 Bad Gateway"}


@dataclass
class WayOut:
    """One proxy that runs."""

    scheme: Scheme
    port: int
    target: int
    credentials: tuple[str, str] | None = None
    mood: Mood = Mood.WELL
    phrase: bytes | None = None
    """Status and reason of an HTTP proxy's refusal, in place of the usual ones."""
    reply: int | None = None
    """A SOCKS proxy's, likewise."""
    came: int = 0
    """Connections taken."""
    asked: list[str] = field(default_factory=list[str])
    """Targets asked for, as `host:port`."""
    open: set[asyncio.StreamWriter] = field(default_factory=set[asyncio.StreamWriter], repr=False)

    def url(self, credentials: str = "") -> str:
        at = f"{credentials}@" if credentials else ""
        return f"{self.scheme}://{at}127.0.0.1:{self.port}"

    def cut(self) -> None:
        """End every connection that passes through, without a word."""
        for writer in list(self.open):
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.came += 1
        self.open.add(writer)
        try:
            await self._serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            self.open.discard(writer)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.mood is Mood.CURT:
            return
        if self.mood is Mood.MUTE:
            await reader.read()
            return
        if self.mood is Mood.FOREIGN:
            writer.write(b"220 mail.example.com ESMTP\r\n")
            await reader.read()
            return
        handshake = self._connect if self.scheme == "http" else self._socks
        if not await handshake(reader, writer):
            return
        if self.mood is Mood.HOLLOW:
            return
        if self.mood is Mood.OTHERWISE:
            # Not before it is asked: what comes on the heels of our own answer would be read as
            # part of that, and nothing of it as the server's.
            await reader.readexactly(1)
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            await reader.read()
            return
        onward_reader, onward = await asyncio.open_connection("127.0.0.1", self.target)
        self.open.add(onward)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_pipe(reader, onward))
                group.create_task(_pipe(onward_reader, writer))
        finally:
            self.open.discard(onward)
            onward.close()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.split("\r\n")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines)
        }
        target = first.split(" ")[1]
        answer = _HTTP_REPLIES.get(self.mood, b"200 Connection established")
        if self.credentials is not None:
            pair = base64.b64encode(":".join(self.credentials).encode()).decode()
            if headers.get("proxy-authorization") != f"Basic {pair}":
                answer = b"407 Proxy Authentication Required"
        if answer.startswith(b"200"):
            self.asked.append(target)
            if not is_known(target):
                answer = b"403 Forbidden"
        if not answer.startswith(b"200") and self.phrase is not None:
            answer = self.phrase
        writer.write(b"HTTP/1.1 %b\r\n\r\n" % answer)
        await writer.drain()
        return answer.startswith(b"200")

    async def _socks(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        _, count = await reader.readexactly(2)
        methods = await reader.readexactly(count)
        wanted = 0 if self.credentials is None else 2
        if wanted not in methods:
            writer.write(b"\x05\xff")
            return False
        writer.write(bytes([5, wanted]))
        if self.credentials is not None:
            _, length = await reader.readexactly(2)
            user = await reader.readexactly(length)
            (length,) = await reader.readexactly(1)
            password = await reader.readexactly(length)
            right = (user.decode(), password.decode()) == self.credentials
            writer.write(b"\x01\x00" if right else b"\x01\x01")
            if not right:
                return False
        *_, kind = await reader.readexactly(4)
        if kind != 3:
            # An address would mean that the name was looked up on this side.
            self.asked.append(f"address type {kind}")
            writer.write(b"\x05\x08\x00\x01" + bytes(6))
            return False
        (length,) = await reader.readexactly(1)
        host = (await reader.readexactly(length)).decode()
        (port,) = struct.unpack("!H", await reader.readexactly(2))
        target = f"{host}:{port}"
        self.asked.append(target)
        reply = _SOCKS_REPLIES.get(self.mood, 0 if is_known(target) else 2)
        if reply and self.reply is not None:
            reply = self.reply
        writer.write(bytes([5, reply, 0, 1]) + bytes(6))
        await writer.drain()
        return reply == 0


async def _pipe(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await source.read(1 << 16):
            sink.write(data)
            await sink.drain()
    sink.close()


@asynccontextmanager
async def way_out(
    scheme: Scheme,
    target: int,
    credentials: tuple[str, str] | None = None,
    mood: Mood = Mood.WELL,
    port: int = 0,
) -> AsyncGenerator[WayOut]:
    """A proxy that runs until the context ends, and leads WhatsApp's names to port `target`."""
    proxy = WayOut(scheme, port, target, credentials, mood)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", port)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        proxy.cut()
        await server.wait_closed()


@contextmanager
def closed_port() -> Generator[int]:
    """A port of this machine on which nobody listens, nor will until the context ends."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]
