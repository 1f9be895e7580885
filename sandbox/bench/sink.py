"""A server that takes webhooks as fast as Python can, and notes when each one's first byte came.

`python -m sandbox.bench.sink PORT`: a process of its own, so that whoever posts pays for nothing
here. The path says how it answers: `/ok` at once, `/slow` after longer than any attempt may take,
`/bad` with an error. `GET /-/seen` takes what it noted. It knows HTTP/1.1 with lengths and no more.
"""

import asyncio
import re
import sys
import time
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import aiohttp
import msgspec

from sandbox.processes import free_port, run_plane
from shared import clock

SLOW_SECONDS: Final = 20.0
LOOK_SECONDS: Final = 0.1
PATIENCE: Final = 30.0
"""Seconds until what has not come counts as lost."""

_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_ID: Final = re.compile(rb"\r\nwebhook-id: *(\S+)", re.IGNORECASE)
_END: Final = b"\r\n\r\n"
_OK: Final = b"HTTP/1.1 204 No Content\r\n\r\n"
_BAD: Final = b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n"


class Arrival(msgspec.Struct, frozen=True, array_like=True):
    """A webhook that was posted, and when its first byte was read."""

    id: str
    at: float
    """Monotonic seconds, which are the same in every process of a machine."""
    wall: int
    """Milliseconds since 1970, for comparison with the time in an id."""


_ARRIVALS: Final = msgspec.msgpack.Decoder(list[Arrival])


class Sink:
    """The server as a figure holds it."""

    def __init__(self, url: str, pid: int, http: aiohttp.ClientSession) -> None:
        self.url = url
        self.pid = pid
        self._http = http

    async def take(self) -> list[Arrival]:
        """What came since the last time, in order."""
        async with self._http.get(f"{self.url}/-/seen") as answer:
            return _ARRIVALS.decode(await answer.read())

    async def until(self, ids: Iterable[str]) -> list[Arrival]:
        """Likewise, once all of these have come, or do not come any more."""
        missing, arrivals = set(ids), list[Arrival]()
        deadline = time.monotonic() + PATIENCE
        while missing and time.monotonic() < deadline:
            arrivals += (more := await self.take())
            missing.difference_update(each.id for each in more)
            await asyncio.sleep(LOOK_SECONDS if missing else 0)
        return arrivals


@asynccontextmanager
async def run_sink(logs: Path) -> AsyncGenerator[Sink]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    module = ["sandbox.bench.sink", str(port)]
    async with (
        run_plane("sink", module, {}, url=url, ready="/-/ready", logs=logs) as plane,
        aiohttp.ClientSession() as http,
    ):
        yield Sink(url, plane.process.pid, http)


class Noted:
    """All that came, over any connection."""

    def __init__(self) -> None:
        self._arrivals: list[Arrival] = []

    def add(self, arrival: Arrival) -> None:
        self._arrivals.append(arrival)

    def take(self) -> bytes:
        taken, self._arrivals = self._arrivals, []
        return msgspec.msgpack.encode(taken)


class Connection(asyncio.Protocol):
    """One client's connection: requests one after the other."""

    def __init__(self, noted: Noted) -> None:
        self._noted = noted
        self._buffer = b""
        self._began, self._began_wall = 0.0, 0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - it serves TCP
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if not self._buffer:
            self._began, self._began_wall = time.monotonic(), clock.millis()
        self._buffer += data
        while (whole := request_length(self._buffer)) is not None:
            request, self._buffer = self._buffer[:whole], self._buffer[whole:]
            self._requested(request)

    def _requested(self, request: bytes) -> None:
        path = request.split(b" ", 2)[1]
        if path == b"/-/seen":
            body = self._noted.take()
            self._write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
            return
        if path == b"/-/ready":
            self._write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            return
        named = _ID.search(request)
        if named is not None:
            self._noted.add(Arrival(named[1].decode(), self._began, self._began_wall))
        if path.startswith(b"/slow"):
            asyncio.get_running_loop().call_later(SLOW_SECONDS, self._write, _OK)
        else:
            self._write(_BAD if path.startswith(b"/bad") else _OK)

    def _write(self, answer: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(answer)


def request_length(buffer: bytes) -> int | None:
    """How many bytes the request at the beginning has; None while it is not whole."""
    head = buffer.find(_END)
    if head < 0:
        return None
    told = _LENGTH.search(buffer, 0, head)
    whole = head + len(_END) + (int(told[1]) if told is not None else 0)
    return whole if len(buffer) >= whole else None


async def _serve(port: int) -> None:
    noted = Noted()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(noted), "127.0.0.1", port, backlog=512)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
