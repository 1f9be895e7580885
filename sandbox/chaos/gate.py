"""A port that leads to another, and can be made to lead nowhere: an outage for whoever goes by it.

Each plane goes to each service by a gate of its own, so that a table can fail for all of them, or
everything for one.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from enum import StrEnum
from typing import Final

CHUNK: Final = 1 << 16
LARGEST_HEAD: Final = 1 << 16
"""Bytes of a request's head that is answered with a failure."""
_FAILURE: Final = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"


class How(StrEnum):
    """How a gate is shut."""

    REFUSE = "refused"
    """Connections are reset, those that are open and those that come."""
    STALL = "stalled"
    """Nothing passes. What was sent meanwhile arrives when the gate opens, late as it is."""
    FAIL = "answered 503"
    """Every HTTP request is answered with a failure."""


class Gate:
    """Leads to a port of 127.0.0.1 while it is open."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._how: How | None = None
        self._flows = asyncio.Event()
        self._flows.set()
        self._open: set[asyncio.StreamWriter] = set()
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def shut(self, how: How) -> None:
        self._how = how
        if how is How.STALL:
            self._flows.clear()
        else:
            self._cut()

    def open(self) -> None:
        if self._how is How.FAIL:
            self._cut()
        self._how = None
        self._flows.set()

    def _cut(self) -> None:
        for writer in list(self._open):
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take one connection where it wants to go, or not."""
        self._open.add(writer)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, ValueError):
                match self._how:
                    case How.REFUSE:
                        writer.transport.abort()
                    case How.FAIL:
                        await _fail(reader, writer)
                    case How.STALL | None:
                        await self._lead(reader, writer)
        finally:
            self._open.discard(writer)
            writer.close()

    async def _lead(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._flows.wait()
        onward_reader, onward = await asyncio.open_connection("127.0.0.1", self._target)
        self._open.add(onward)
        try:
            async with asyncio.TaskGroup() as ways:
                ways.create_task(self._pipe(reader, onward))
                ways.create_task(self._pipe(onward_reader, writer))
        finally:
            self._open.discard(onward)
            onward.close()

    async def _pipe(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await source.read(CHUNK):
                await self._flows.wait()
                sink.write(data)
                await sink.drain()
        # Either side's end is the end of both: nobody here half-closes.
        sink.close()


@asynccontextmanager
async def gate_to(port: int) -> AsyncGenerator[Gate]:
    """A gate on a free port, open."""
    gate = Gate(port)
    server = await asyncio.start_server(gate.serve, "127.0.0.1", 0, limit=LARGEST_HEAD)
    gate.port = server.sockets[0].getsockname()[1]
    try:
        yield gate
    finally:
        server.close()
        gate.shut(How.REFUSE)
        gate.open()
        await server.wait_closed()


async def _fail(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        _, _, rest = head.partition(b"\r\ncontent-length:")
        await reader.readexactly(int(rest.partition(b"\r\n")[0] or 0))
        writer.write(_FAILURE)
