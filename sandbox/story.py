"""The story the product is for, step by step: the demo plays it, the journeys hold it.

Each step is a function that acts, then waits for what must be seen, and raises if it is not.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from sandbox.api import Api
from sandbox.receiver import Receiver
from sandbox.whatsapp.control_client import ControlClient
from sandbox.whatsapp.control_types import ReceivedOut

Pairing = Literal["code", "qr"]

OWNER: Final = "+4915112345678"
CONTACT: Final = "+15550102030"

PATIENCE: Final = 30.0
"""Seconds a step may take before it counts as not seen."""


class NotSeenError(Exception):
    """A step did not lead where it must."""


@dataclass
class Cast:
    """Who and what the story is about."""

    api: Api
    """The tenant's."""
    people: ControlClient
    receiver: Receiver
    owner: str = OWNER
    contact: str = CONTACT
    session_id: str = ""
    endpoint_id: str = ""
    heard: int = -1
    """Index of the last message the contact was asked about."""
    facts: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def session(self) -> str:
        return f"/v1/sessions/{self.session_id}"


async def meet(cast: Cast) -> None:
    """The owner of the number and a contact exist on WhatsApp."""
    await cast.people.create_person(cast.owner, "Owner")
    await cast.people.create_person(cast.contact, "Contact")


async def listen(cast: Cast) -> None:
    """The tenant names a webhook endpoint and learns its secret."""
    endpoint = await cast.api.ok(
        "POST", "/v1/webhooks", {"url": cast.receiver.url, "events": ["*"]}
    )
    cast.endpoint_id = endpoint["id"]
    cast.receiver.secret = endpoint["secret"]


async def open_session(cast: Cast, pairing: Pairing) -> None:
    """A session is created and offers what its owner has to scan or type."""
    await create_session(cast, pairing)
    await offered(cast, pairing)


async def create_session(cast: Cast, pairing: Pairing, proxy: str | None = None) -> None:
    """A session is created, with a proxy of its own if one is given."""
    number = cast.owner if pairing == "code" else None
    wanted = {"name": "front desk", "phone_number": number, "proxy": proxy}
    body = {name: value for name, value in wanted.items() if value is not None}
    session = await cast.api.ok("POST", "/v1/sessions", body)
    cast.session_id = session["id"]


async def offered(cast: Cast, pairing: Pairing) -> None:
    """The session offers what its owner has to scan or type."""
    async with asyncio.timeout(PATIENCE):
        while True:
            answer = await cast.api.call("GET", f"{cast.session}/pairing", Prefer="wait=10")
            shown: dict[str, Any] = answer.json if answer.status == 200 else {}
            if shown.get("code" if pairing == "code" else "qr"):
                cast.facts["pairing"] = shown
                return
            if shown.get("code_error"):
                raise NotSeenError(shown["code_error"])


async def link(cast: Cast, pairing: Pairing) -> None:
    """The owner's phone links the device; the session is connected, and a webhook says so."""
    offered = cast.facts["pairing"]
    if pairing == "code":
        await cast.people.type_code(cast.owner, offered["code"])
    else:
        await cast.people.scan(cast.owner, offered["qr"])
    connected = await cast.receiver.typed("session.connected", PATIENCE)
    session = await cast.api.ok("GET", cast.session)
    if session["state"] != "connected" or session["phone_number"] != cast.owner:
        raise NotSeenError(f"the session is {session}")
    if connected.event["data"]["phone_number"] != cast.owner:
        raise NotSeenError(f"the webhook says {connected.event}")


async def send(cast: Cast, text: str) -> str:
    """A message goes out; the contact's phone decrypts exactly this text. Its id."""
    message = await cast.api.ok(
        "POST", f"{cast.session}/messages", {"to": cast.contact, "text": text}
    )
    heard = await hear(cast, text)
    if heard.sender.startswith("+") and heard.sender != cast.owner:
        raise NotSeenError(f"the contact heard it from {heard.sender}")
    return message["id"]


async def hear(cast: Cast, text: str) -> ReceivedOut:
    """Wait until the contact received this text."""
    heard = await cast.people.wait_for_text(cast.contact, text, after=cast.heard, wait=PATIENCE)
    cast.heard = heard.index
    return heard


async def confirm(cast: Cast, message_id: str) -> None:
    """Webhooks tell that the message was sent and delivered, and the API agrees."""
    for event_type in ("message.sent", "message.delivered"):
        await cast.receiver.wait(
            lambda event, kind=event_type: (
                event["type"] == kind and event["data"]["message_id"] == message_id
            ),
            f"{event_type} of {message_id}",
            PATIENCE,
        )
    message = await cast.api.ok("GET", f"{cast.session}/messages/{message_id}")
    if message["status"] not in {"delivered", "read"}:
        raise NotSeenError(f"the message is {message['status']}")


async def reply(cast: Cast, text: str) -> None:
    """The contact answers; a webhook brings the text with the contact's phone number."""
    await cast.people.send(cast.contact, cast.owner, text)
    await told(cast, text)


async def told(cast: Cast, text: str) -> None:
    """A webhook brings what the contact wrote, with the contact's phone number."""
    received = await cast.receiver.wait(
        lambda event: (
            event["type"] == "message.received" and event["data"]["content"].get("text") == text
        ),
        "the contact's reply",
        PATIENCE,
    )
    data = received.event["data"]
    if data["sender"].get("phone_number") != cast.contact or data["chat"] != cast.contact:
        raise NotSeenError(f"the reply is from {data['sender']} in {data['chat']}")


async def judge(cast: Cast) -> int:
    """Every webhook so far verified; how many there were."""
    bad = [each.event["type"] for each in cast.receiver.seen if not each.verified]
    if bad:
        raise NotSeenError(f"signatures that do not verify: {bad}")
    return len(cast.receiver.seen)


async def stop(cast: Cast) -> None:
    """The session is stopped, and a webhook says so."""
    await cast.api.ok("POST", f"{cast.session}/stop", Prefer="wait=20")
    await cast.receiver.typed("session.stopped", PATIENCE)
