"""A reverse proxy in front of an AWS that keeps every request it passed on.

`python -m sandbox.bench.recorder UPSTREAM_PORT PORT`: one process for each plane that is watched,
so that it is plain whose a request was. `GET /-/records` takes what it kept, `GET /-/ready`
answers. It knows HTTP/1.1 as botocore and the embedded AWS speak it, with lengths, and no more.
"""

import asyncio
import sys
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import aiohttp
import msgspec

from sandbox.bench.script import Record
from sandbox.processes import free_port, run_plane

_LARGEST_HEAD: Final = 1 << 16
_RECORDS: Final = msgspec.msgpack.Decoder(list[Record])


class Watch:
    """A recorder that runs: where a plane is led to, and what went through it since last asked."""

    def __init__(self, url: str, http: aiohttp.ClientSession) -> None:
        self.url = url
        self._http = http

    async def take(self) -> list[Record]:
        """What was passed on since the last time, in order."""
        async with self._http.get(f"{self.url}/-/records") as answer:
            records = _RECORDS.decode(await answer.read())
        return sorted(records, key=lambda each: each.order)


@asynccontextmanager
async def watching(name: str, endpoint: str, logs: Path) -> AsyncGenerator[Watch]:
    """Run a recorder in front of the AWS at `endpoint` (`http://host:port`)."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    upstream = endpoint.rpartition(":")[2]
    async with (
        run_plane(
            f"recorder-{name}",
            ["sandbox.bench.recorder", upstream, str(port)],
            {},
            url=url,
            ready="/-/ready",
            logs=logs,
        ),
        aiohttp.ClientSession() as http,
    ):
        yield Watch(url, http)


class Recorder:
    """The proxy's connections, and what they carried."""

    def __init__(self, upstream: int) -> None:
        self._upstream = upstream
        self._kept: list[Record] = []

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a client's connection with one of its own to the AWS behind."""
        behind: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                while True:
                    head, body = await _message(reader)
                    path = head.split(b" ", 2)[1]
                    if path.startswith(b"/-/"):
                        writer.write(self._own(path))
                        continue
                    if behind is None:
                        behind = await asyncio.open_connection("127.0.0.1", self._upstream)
                    begun = time.monotonic()
                    behind[1].write(head + body)
                    answer_head, answer = await _message(behind[0])
                    ended = time.monotonic()
                    writer.write(answer_head + answer)
                    status = int(answer_head.split(b" ", 2)[1])
                    target = _headers(head).get(b"x-amz-target", path).decode()
                    self._kept.append(Record(begun, ended, target, body, status, answer))
        finally:
            for each in (writer, behind[1] if behind else None):
                if each is not None:
                    each.close()

    def _own(self, path: bytes) -> bytes:
        taken: list[Record] = []
        if path == b"/-/records":
            taken, self._kept = self._kept, []
        body = msgspec.msgpack.encode(taken)
        return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)


async def _message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """The head and the body of a request or an answer, as they stood on the wire."""
    head = await reader.readuntil(b"\r\n\r\n")
    headers = _headers(head)
    if headers.get(b"transfer-encoding", b"").lower() != b"chunked":
        return head, await reader.readexactly(int(headers.get(b"content-length", 0)))
    # The AWS answers in chunks now and then: passed on with a length, which says the same.
    chunks: list[bytes] = []
    while size := int((await reader.readline()).partition(b";")[0], 16):
        chunks.append(await reader.readexactly(size))
        await reader.readline()
    while await reader.readline() != b"\r\n":
        pass
    body = b"".join(chunks)
    kept = [
        line
        for line in head.split(b"\r\n")
        if line and not line.lower().startswith(b"transfer-encoding:")
    ]
    return b"\r\n".join([*kept, b"content-length: %d" % len(body), b"", b""]), body


def _headers(head: bytes) -> Mapping[bytes, bytes]:
    lines = head.split(b"\r\n")[1:]
    pairs = (line.partition(b":") for line in lines if line)
    return {name.lower().strip(): value.strip() for name, _, value in pairs}


async def _serve(upstream: int, port: int) -> None:
    recorder = Recorder(upstream)
    server = await asyncio.start_server(recorder.connected, "127.0.0.1", port, limit=_LARGEST_HEAD)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), int(sys.argv[2])))
