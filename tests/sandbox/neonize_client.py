"""An unmodified neonize in a process of its own, told what to do over a socket.

Started by the tests as `python neonize_client.py FD STORE PROXY`; speaks one JSON object a line.
It ends by being killed: neonize cannot be stopped before it is paired.
"""

# isort: off - libmagic must be where neonize looks for it before neonize is imported
# isort: on
import asyncio
import json
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pylibmagic  # noqa: F401  # pyright: ignore[reportUnusedImport] - its import is its effect
from google.protobuf.json_format import MessageToDict, ParseDict
from neonize import events
from neonize._binder import ProxySettings
from neonize.aioze.client import NewAClient
from neonize.proto.waE2E.WAWebProtobufsE2E_pb2 import Message
from neonize.utils.enum import ChatPresence, ChatPresenceMedia, Presence, ReceiptType
from neonize.utils.jid import build_jid

from sandbox import trust

EVENTS = (
    "PairStatus",
    "Connected",
    "LoggedOut",
    "StreamReplaced",
    "TemporaryBan",
    "ConnectFailure",
    "ClientOutdated",
    "StreamError",
    "Disconnected",
    "Message",
    "Receipt",
    "ChatPresence",
    "Presence",
    "JoinedGroup",
    "GroupInfo",
    "UndecryptableMessage",
    "OfflineSyncCompleted",
    "KeepAliveTimeout",
    "KeepAliveRestored",
    "HistorySync",
)


class Commands:
    """What a test may ask of the client, one method each."""

    def __init__(self, client: NewAClient) -> None:
        self.client = client

    async def pair_phone(self, number: str) -> str:
        return await self.client.PairPhone(number, show_push_notification=True)

    async def send(self, to: str, text: str, server: str = "s.whatsapp.net") -> dict[str, str]:
        sent = await self.client.send_message(build_jid(to, server), Message(conversation=text))
        return {"id": sent.ID}

    async def send_image(self, to: str, data: str, caption: str) -> dict[str, str]:
        image = await self.client.build_image_message(bytes.fromhex(data), caption=caption)
        return {"id": (await self.client.send_message(build_jid(to), image)).ID}

    async def download(self, content: dict[str, Any]) -> str:
        data = await self.client.download_any(ParseDict(content, Message()))
        return bytes(data or b"").hex()

    async def is_on_whatsapp(self, numbers: list[str]) -> list[dict[str, Any]]:
        return [MessageToDict(each) for each in await self.client.is_on_whatsapp(*numbers)]

    async def presence(self, *, available: bool) -> None:
        await self.client.send_presence(Presence.AVAILABLE if available else Presence.UNAVAILABLE)

    async def subscribe(self, to: str) -> None:
        await self.client.subscribe_presence(build_jid(to))

    async def typing(self, to: str) -> None:
        await self.client.send_chat_presence(
            build_jid(to),
            ChatPresence.CHAT_PRESENCE_COMPOSING,
            ChatPresenceMedia.CHAT_PRESENCE_MEDIA_TEXT,
        )

    async def read(self, chat: str, message_id: str) -> None:
        jid = build_jid(chat, "lid")
        await self.client.mark_read(message_id, chat=jid, sender=jid, receipt=ReceiptType.READ)

    async def create_group(self, name: str, members: list[str]) -> dict[str, Any]:
        return MessageToDict(
            await self.client.create_group(name, [build_jid(number) for number in members])
        )

    async def logout(self) -> None:
        await self.client.logout()


class Session:
    """The socket to the test and the client that it is about."""

    def __init__(self, writer: asyncio.StreamWriter, client: NewAClient) -> None:
        self._writer = writer
        self._client = client
        self._commands = Commands(client)
        client.qr(self._qr)
        for name in EVENTS:
            self._subscribe(name)

    def tell(self, event: str, **facts: Any) -> None:
        self._writer.write(json.dumps({"event": event, **facts}).encode() + b"\n")

    async def _qr(self, _: object, data: bytes) -> None:
        self.tell("qr", text=data.decode())

    def _subscribe(self, name: str) -> None:
        async def handle(_: object, message: Any) -> None:
            self.tell(name, **MessageToDict(message))

        self._client.event(getattr(events, f"{name}Ev"))(handle)

    async def connect(self, proxy: str) -> None:
        task = await self._client.connect(ProxySettings(proxy_address=proxy))
        try:
            await task
        except Exception as error:  # noqa: BLE001 - whatever it is, the test is to hear of it
            self.tell("ended", error=f"{type(error).__name__}: {error}")
        else:
            self.tell("ended", error="")

    async def do(self, command: dict[str, Any]) -> None:
        method = getattr(self._commands, command["do"])
        try:
            value = await method(**command["with"])
        except Exception as error:  # noqa: BLE001 - likewise
            self.tell("result", number=command["number"], error=f"{type(error).__name__}: {error}")
        else:
            self.tell("result", number=command["number"], value=value)


async def main(descriptor: int, store: Path, proxy: str) -> None:
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(16))  # neonize blocks a thread for each call
    reader, writer = await asyncio.open_connection(sock=socket.socket(fileno=descriptor))
    trust.install()
    session = Session(writer, NewAClient(str(store), uuid="test"))
    session.tell("loaded")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(session.connect(proxy))
        while line := await reader.readline():
            tasks.create_task(session.do(json.loads(line)))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]))
