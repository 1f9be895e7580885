"""neonize alone, as a script would use it: the bare counterpart of a session host.

Executed as `raw_client.py FD STORE PROXY [listen]`, in an environment that leads to the sandbox;
speaks one JSON object a line over the socket FD, and with `listen` tells of every message that
comes. It imports nothing of ours but what leads it to the sandbox,
and ends by being killed: neonize cannot be stopped before it is paired.
"""

import asyncio
import json
import os
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pylibmagic as _magic

_ = _magic  # its import puts libmagic where neonize looks for it

from neonize._binder import ProxySettings  # noqa: E402
from neonize.aioze.client import NewAClient  # noqa: E402
from neonize.aioze.events import ConnectedEv, MessageEv  # noqa: E402
from neonize.proto.waE2E.WAWebProtobufsE2E_pb2 import Message  # noqa: E402
from neonize.utils.jid import build_jid  # noqa: E402
from neonize.utils.log import log  # noqa: E402

from sandbox import trust  # noqa: E402

THREADS = 8
"""The connect call keeps one of them for as long as it lasts."""


class RawClient:
    """One client, and the socket over which it is told what to do."""

    def __init__(
        self, store: str, proxy: str, writer: asyncio.StreamWriter, *, listens: bool
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._writer = writer
        self._proxy = proxy
        self._client: Any = NewAClient(store, uuid="raw")
        self._client.qr(self._qr)
        self._client.event(ConnectedEv)(self._connected)
        if listens:
            self._client.event(MessageEv)(self._message)

    def tell(self, event: str, **facts: Any) -> None:
        """Report; `at` is monotonic, so the same in every process of this machine."""
        line = json.dumps({"event": event, "at": time.monotonic(), **facts}).encode() + b"\n"
        self._loop.call_soon_threadsafe(self._writer.write, line)

    async def _qr(self, _: object, data: bytes) -> None:
        self.tell("qr", text=data.decode())

    async def _connected(self, _: object, __: object) -> None:
        self.tell("connected")

    async def _message(self, _: object, message: Any) -> None:
        self.tell("received", text=message.Message.conversation)

    async def connect(self) -> None:
        try:
            await (await self._client.connect(ProxySettings(proxy_address=self._proxy)))
        except Exception as error:  # noqa: BLE001 - whatever it was, it is reported
            self.tell("ended", error=f"{type(error).__name__}: {error}")

    async def send(self, number: str, text: str) -> None:
        """Send, and report the moment the call was made."""
        at = time.monotonic()
        await self._client.send_message(build_jid(number), Message(conversation=text))
        self.tell("sent", called=at, text=text)


async def main(descriptor: int, store: str, proxy: str, *flags: str) -> None:
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(THREADS))
    reader, writer = await asyncio.open_connection(sock=socket.socket(fileno=descriptor))
    log.setLevel("ERROR")
    trust.install()
    raw = RawClient(store, proxy, writer, listens="listen" in flags)
    raw.tell("loaded")
    connecting: asyncio.Future[None] | None = None
    while line := await reader.readline():
        command: dict[str, Any] = json.loads(line)
        match command["do"]:
            case "connect":
                connecting = asyncio.ensure_future(raw.connect())
            case "send":
                # One at a time, as a session host has to.
                for text in command["texts"]:
                    await raw.send(command["to"], text)
            case other:
                raise ValueError(other)
    os._exit(0 if connecting is not None else 1)  # whoever held us is gone


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), *sys.argv[2:]))
