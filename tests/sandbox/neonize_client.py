"""An unmodified neonize in a process of its own, told what to do over a socket.

Started by the tests as `python neonize_client.py FD STORE PROXY`; speaks one JSON object a line.
It ends by being killed: neonize cannot be stopped before it is paired.
"""

import asyncio
import json
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pylibmagic as _magic
from google.protobuf.json_format import MessageToDict

from sandbox import trust

_ = _magic  # its import puts libmagic where neonize looks for it


async def main(descriptor: int, store: str, proxy: str) -> None:
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(16))
    reader, writer = await asyncio.open_connection(sock=socket.socket(fileno=descriptor))

    def tell(event: str, **facts: Any) -> None:
        line = json.dumps({"event": event, **facts}).encode() + b"\n"
        loop.call_soon_threadsafe(writer.write, line)

    import neonize
    from neonize import events
    from neonize._binder import ProxySettings
    from neonize.aioze.client import NewAClient
    from neonize.aioze.events import event_global_loop
    from neonize.proto.waE2E.WAWebProtobufsE2E_pb2 import Message
    from neonize.utils.enum import ChatPresence, ChatPresenceMedia, Presence, ReceiptType
    from neonize.utils.jid import build_jid

    trust.install()
    tell("loaded", neonize=neonize.__version__, loop=event_global_loop is not None)

    client = NewAClient(store, uuid="test")

    async def on_qr(_: object, data: bytes) -> None:
        tell("qr", text=data.decode())

    client.qr(on_qr)
    names = [
        "PairStatusEv",
        "ConnectedEv",
        "LoggedOutEv",
        "StreamReplacedEv",
        "TemporaryBanEv",
        "ConnectFailureEv",
        "ClientOutdatedEv",
        "StreamErrorEv",
        "DisconnectedEv",
        "MessageEv",
        "ReceiptEv",
        "ChatPresenceEv",
        "PresenceEv",
        "JoinedGroupEv",
        "GroupInfoEv",
        "UndecryptableMessageEv",
        "OfflineSyncCompletedEv",
        "KeepAliveTimeoutEv",
        "KeepAliveRestoredEv",
        "HistorySyncEv",
    ]

    def subscribe(name: str) -> None:
        async def handler(_: object, message: Any) -> None:
            tell(name.removesuffix("Ev"), **MessageToDict(message))

        client.event(getattr(events, name))(handler)

    for name in names:
        subscribe(name)

    async def do(command: dict[str, Any]) -> Any:
        match command["do"]:
            case "pair_phone":
                return await client.PairPhone(command["number"], True)  # noqa: FBT003 - its signature
            case "send":
                server = command.get("server", "s.whatsapp.net")
                to = build_jid(command["to"], server)
                sent = await client.send_message(to, Message(conversation=command["text"]))
                return {"id": sent.ID}
            case "is_on_whatsapp":
                found = await client.is_on_whatsapp(*command["numbers"])
                return [MessageToDict(each) for each in found]
            case "presence":
                state = Presence.AVAILABLE if command["available"] else Presence.UNAVAILABLE
                return await client.send_presence(state)
            case "subscribe":
                return await client.subscribe_presence(build_jid(command["to"]))
            case "typing":
                return await client.send_chat_presence(
                    build_jid(command["to"]),
                    ChatPresence.CHAT_PRESENCE_COMPOSING,
                    ChatPresenceMedia.CHAT_PRESENCE_MEDIA_TEXT,
                )
            case "read":
                chat = build_jid(command["chat"], "lid")
                return await client.mark_read(
                    command["id"], chat=chat, sender=chat, receipt=ReceiptType.READ
                )
            case "send_image":
                image = await client.build_image_message(
                    bytes.fromhex(command["data"]), caption=command["caption"]
                )
                return {"id": (await client.send_message(build_jid(command["to"]), image)).ID}
            case "create_group":
                members = [build_jid(number) for number in command["members"]]
                made = await client.create_group(command["name"], members)
                return MessageToDict(made)
            case "logout":
                return await client.logout()
            case other:
                raise ValueError(other)

    async def answer(command: dict[str, Any]) -> None:
        try:
            result = await do(command)
        except Exception as error:
            tell("result", number=command["number_"], error=f"{type(error).__name__}: {error}")
        else:
            tell("result", number=command["number_"], value=result)

    async def connect() -> None:
        try:
            await (await client.connect(ProxySettings(proxy_address=proxy)))
        except Exception as error:
            tell("ended", error=f"{type(error).__name__}: {error}")
        else:
            tell("ended", error="")

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(connect())
        while line := await reader.readline():
            tasks.create_task(answer(json.loads(line)))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], sys.argv[3]))
