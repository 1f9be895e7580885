"""Tenants' servers as they come: a handler of raw bytes on loopback, and one that listens well."""

import asyncio
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import count

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True)
class Request:
    """A POST as it arrived."""

    line: str
    headers: dict[str, str]
    body: bytes


async def read_request(reader: asyncio.StreamReader) -> Request:
    """The next request of a connection. Raises EOFError when there is none."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    line, *rest = head.rstrip().split("\r\n")
    headers = {name.lower(): value for name, _, value in (each.partition(": ") for each in rest)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(line, headers, body)


def response(status: int, *headers: str, body: bytes = b"") -> bytes:
    lines = [f"HTTP/1.1 {status} Whatever", f"content-length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


@asynccontextmanager
async def served(
    handler: Handler, tls: ssl.SSLContext | None = None, *, host: str = "127.0.0.1", port: int = 0
) -> AsyncGenerator[str]:
    """A server whose connections are given to the handler; its URL."""
    tasks: set[asyncio.Task[None]] = set()

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            with suppress(EOFError, OSError):
                await handler(reader, writer)
        except asyncio.CancelledError:
            pass  # the test is over
        finally:
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(connection, host, port, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"http{'s' if tls else ''}://127.0.0.1:{port}/hook"
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@dataclass
class Receiver:
    """Answers every request, and remembers it."""

    answers: list[bytes] = field(default_factory=list[bytes])
    """Given in turn; the last one for ever."""
    requests: list[Request] = field(default_factory=list[Request])
    connections: int = 0
    busy: int = 0
    busiest: int = 0
    pause: float = 0
    hang_up: bool = False
    """Whether connections that were used before are closed with the next request in hand."""

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        for used in count():
            request = await read_request(reader)
            if used and self.hang_up:
                return
            self.requests.append(request)
            self.busy += 1
            self.busiest = max(self.busiest, self.busy)
            try:
                await asyncio.sleep(self.pause)
            finally:
                self.busy -= 1
            writer.write(self.next_answer())
            await writer.drain()

    def next_answer(self) -> bytes:
        if not self.answers:
            return response(204)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
