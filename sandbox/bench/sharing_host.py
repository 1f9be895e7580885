"""Several sessions in one process, by the library as our hosts call it: what they never do.

Executed as `sharing_host.py FD PROXY`; speaks as `raw_client.py` does. No call of ours runs beside
a start or a stop: the library's maps of clients have no lock. Its own goroutines cannot be held.
"""

import asyncio
import ctypes
import json
import os
import socket
import sys
import threading
import time
from ctypes import c_char_p
from functools import partial
from typing import Any, Final

from gateway.zygote import protobufs

protobufs()  # else the next line loads the whole of neonize's client

from neonize.proto.Neonize_pb2 import SendMessageReturnFunction  # noqa: E402
from neonize.proto.waE2E.WAWebProtobufsE2E_pb2 import Message  # noqa: E402

from gateway.host.events import CODES  # noqa: E402
from gateway.host.jid import as_jid, recipient  # noqa: E402
from gateway.host.library import ON_EVENT, ON_LOG, ON_TEXT, Library, Proxy  # noqa: E402
from gateway.host.socket import device  # noqa: E402
from sandbox import trust  # noqa: E402

CONNECTED: Final = 3
MESSAGE: Final = 17
DRAIN: Final = 0.05
"""Seconds between the end of a socket and the stop: what was received is handed over."""
START_LIMIT: Final = 20.0
STOP_LIMIT: Final = 10.0
"""Seconds after which a start or a stop counts as hung."""


class StoppingLibrary(Library):
    """With the call that our hosts never make."""

    def __init__(self) -> None:
        super().__init__()
        self._c.Stop.argtypes = [c_char_p]
        self._c.Stop.restype = None

    def stop(self, client: bytes) -> None:
        self._c.Stop(client)


class Sharer:
    """The sessions of this process, and the socket over which it is told what to do."""

    def __init__(self, proxy: str, writer: asyncio.StreamWriter) -> None:
        self._loop = asyncio.get_running_loop()
        self._writer = writer
        self._library = StoppingLibrary()
        self._proxy = Proxy(proxy.encode(), False, False, False)  # noqa: FBT003 (C's order)
        self._alone = asyncio.Lock()
        self._connected: dict[str, asyncio.Event] = {}
        self._ended: dict[str, asyncio.Event] = {}
        self._kept: list[Any] = []
        """Callbacks: the library keeps only their addresses, and may use them after a stop."""
        self._received = 0
        self._sent = 0

    def tell(self, event: str, **facts: Any) -> None:
        line = json.dumps({"event": event, "at": time.monotonic(), **facts}).encode() + b"\n"
        self._loop.call_soon_threadsafe(self._writer.write, line)

    async def start(self, client: str, store: str) -> None:
        """Dial; nothing else is called until it is connected."""
        async with self._alone:
            begun = time.monotonic()
            connected = self._connected[client] = asyncio.Event()
            ended = self._ended[client] = asyncio.Event()
            threading.Thread(
                target=partial(self._live, client, store, ended), name=client, daemon=True
            ).start()
            try:
                await asyncio.wait_for(connected.wait(), START_LIMIT)
            except TimeoutError:
                self.tell("hung", client=client, what="start")
                return
        self.tell("started", client=client, seconds=time.monotonic() - begun)

    async def stop(self, client: str) -> None:
        """Close the socket, let it drain, stop; nothing else is called until it has ended."""
        async with self._alone:
            begun = time.monotonic()
            name = client.encode()

            def end() -> None:
                self._library.disconnect(name)
                time.sleep(DRAIN)
                self._library.stop(name)
                self._loop.call_soon_threadsafe(stopped.set)

            stopped = asyncio.Event()
            threading.Thread(target=end, name=f"end {client}", daemon=True).start()
            try:
                async with asyncio.timeout(STOP_LIMIT):
                    await stopped.wait()
                    await self._ended[client].wait()
            except TimeoutError:
                self.tell("hung", client=client, what="stop")
                return
        self.tell(
            "stopped",
            client=client,
            seconds=time.monotonic() - begun,
            sent=self._sent,
            received=self._received,
        )

    async def write(self, client: str, to: str, pause: float) -> None:
        """Send a text now and then, never beside a start or a stop."""
        while True:
            text = Message(conversation=f"{client} {self._sent}").SerializeToString()
            jid = as_jid(recipient(to)).SerializeToString()
            async with self._alone:
                answer = await asyncio.to_thread(
                    self._library.call, "SendMessage", client.encode(), jid, text
                )
            if not SendMessageReturnFunction.FromString(answer).Error:
                self._sent += 1
            await asyncio.sleep(pause)

    def _live(self, client: str, store: str, ended: asyncio.Event) -> None:
        codes, properties = bytes(CODES), device().SerializeToString()
        callbacks = (
            ON_TEXT(partial(self._qr, client)),
            ON_TEXT(_pass_over),
            ON_EVENT(partial(self._event, client)),
            ON_LOG(_pass_over),
        )
        self._kept.append(callbacks)
        error = self._library.connect(
            store.encode(),
            client.encode(),
            b"",
            0,
            0,
            b"ERROR",
            *callbacks,
            codes,
            len(codes),
            properties,
            len(properties),
            b"",
            0,
            ctypes.byref(self._proxy),
        )
        if error:
            self.tell("error", client=client, error=error)
        self._loop.call_soon_threadsafe(ended.set)

    def _qr(self, client: str, _id: int, text: int) -> None:
        self.tell("qr", client=client, text=ctypes.string_at(text).decode())

    def _event(self, client: str, _id: bytes, payload: int, size: int, code: int) -> None:
        ctypes.string_at(payload, size)
        if code == MESSAGE:
            self._received += 1
        elif code == CONNECTED:
            self._loop.call_soon_threadsafe(self._connected[client].set)


def _pass_over(_first: int, _second: int) -> None:
    """A login status, or a log line."""


async def main(descriptor: int, proxy: str) -> None:
    reader, writer = await asyncio.open_connection(sock=socket.socket(fileno=descriptor))
    sharer = Sharer(proxy, writer)
    trust.install()
    sharer.tell("loaded")
    tasks: set[asyncio.Future[None]] = set()
    while line := await reader.readline():
        command: dict[str, Any] = json.loads(line)
        match command.pop("do"):
            case "start":
                work = sharer.start(**command)
            case "stop":
                work = sharer.stop(**command)
            case "write":
                work = sharer.write(**command)
            case other:
                raise ValueError(other)
        tasks.add(asyncio.ensure_future(work))
    os._exit(0)  # whoever held us is gone


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
