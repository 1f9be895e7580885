"""The way into the sandbox: a proxy that knows only WhatsApp's names, and leads them home.

Clients cannot be told another address, but every one of them can be given a proxy: HTTP or SOCKS5
(RFC 1928), on one port, by their first byte. Any credentials will do. A name that is not WhatsApp's
is refused, so a client that is led here reaches nothing else through it.
"""

import asyncio
import logging
import struct
from collections.abc import Callable
from contextlib import suppress

logger = logging.getLogger(__name__)

SUFFIXES = (".whatsapp.com", ".whatsapp.net")
MAX_HEAD = 8192  # bytes of a request's head; a client's CONNECT has about two hundred
HEAD_TIMEOUT = 10.0  # seconds to say where to
CHUNK = 1 << 16

SOCKS = b"\x05"
OPEN, LOGIN, NOTHING = 0, 2, 0xFF  # RFC 1928, 3: methods of authentication
NAME = 3  # RFC 1928, 5: the target is a name
GRANTED, NOT_ALLOWED = 0, 2  # RFC 1928, 6


class Proxy:
    """`refusing` tells whether the network is down just now."""

    def __init__(self, target: tuple[str, int], refusing: Callable[[], bool]) -> None:
        self._target = target
        self._refusing = refusing
        self._open: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def start(self, port: int) -> int:
        """Listen; return the port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port, limit=MAX_HEAD)
        return self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self.cut()
            await self._server.wait_closed()

    def cut(self) -> None:
        """End every connection that passes through, without a word."""
        for writer in list(self._open):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            await self._connect(reader, writer)
        except (ConnectionError, TimeoutError, ValueError, asyncio.IncompleteReadError) as error:
            logger.info("sandbox.proxy_dropped", extra={"reason": type(error).__name__})
        finally:
            self._open.discard(writer)
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(HEAD_TIMEOUT):
            first = await reader.readexactly(1)
            ask = _socks_target if first == SOCKS else _connect_target
            host, yes, no = await ask(reader, writer)
        if self._refusing():
            return
        if not is_known(host):
            logger.warning("sandbox.proxy_refused", extra={"host": host[:100]})
            writer.write(no)
            await writer.drain()
            return
        onward_reader, onward = await asyncio.open_connection(*self._target)
        self._open.add(onward)
        try:
            writer.write(yes)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_pipe(reader, onward))
                tasks.create_task(_pipe(onward_reader, writer))
        finally:
            self._open.discard(onward)
            onward.close()


async def _connect_target(
    reader: asyncio.StreamReader, _: asyncio.StreamWriter
) -> tuple[str, bytes, bytes]:
    """What an HTTP client asks for, and how to say yes and no. The C of CONNECT has been read."""
    head = await reader.readuntil(b"\r\n\r\n")
    method, _space, rest = head.partition(b" ")
    host = rest.partition(b" ")[0].decode("ascii", errors="replace")
    return (
        host if method == b"ONNECT" else "",
        b"HTTP/1.1 200 Connection established\r\n\r\n",
        b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
    )


async def _socks_target(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> tuple[str, bytes, bytes]:
    """What a SOCKS5 client asks for, likewise. The version has been read."""
    (count,) = await reader.readexactly(1)
    offered = await reader.readexactly(count)
    method = next((each for each in (LOGIN, OPEN) if each in offered), NOTHING)
    writer.write(SOCKS + bytes([method]))
    if method == LOGIN:  # RFC 1929: version, user name, password, each with its length
        await reader.readexactly(1)
        for _ in range(2):
            (length,) = await reader.readexactly(1)
            await reader.readexactly(length)
        writer.write(b"\x01\x00")
    *_, kind, length = await reader.readexactly(5)
    if method == NOTHING or kind != NAME:
        raise ValueError("a SOCKS5 client names no host")
    name = (await reader.readexactly(length)).decode("ascii", errors="replace")
    (port,) = struct.unpack("!H", await reader.readexactly(2))
    yes, no = (SOCKS + bytes([reply, 0, 1]) + bytes(6) for reply in (GRANTED, NOT_ALLOWED))
    return f"{name}:{port}", yes, no


def is_known(host_port: str) -> bool:
    """Tell whether `host:port` is WhatsApp's, over TLS."""
    host, colon, port = host_port.rpartition(":")
    return bool(colon) and port == "443" and host.lower().endswith(SUFFIXES)


async def _pipe(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(CHUNK):
            sink.write(data)
            await sink.drain()
    except ConnectionError:
        pass
    finally:
        # Either side's end is the end of both: no client half-closes.
        sink.close()
