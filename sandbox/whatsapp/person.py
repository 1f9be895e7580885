"""A simulated person: a phone that speaks Signal for real and behaves as it was told.

A person is a contact to others and may link companions of its own. What happens to it is kept, so
that a test can ask. Reading, writing and linking are files of their own; all of them send through
the door that clients' stanzas come through.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from sandbox.whatsapp import adv, appstate
from sandbox.whatsapp.appstate import Collection, SyncKey
from sandbox.whatsapp.directory import Device, User
from sandbox.whatsapp.signal import SignalDevice
from sandbox.whatsapp.wabinary import Node
from sandbox.whatsapp.world import World

logger = logging.getLogger(__name__)

PREKEYS = 30  # one-time keys a phone publishes at a time
KEPT_MESSAGES = 10_000  # received or sent; the oldest are forgotten

Reply = Literal["none", "echo"]


class Received(msgspec.Struct, frozen=True):
    """A message the phone could read. `index` counts from 0 and is never used twice.

    `sender` and `chat` are phone numbers in E.164; `chat` of a group message is the group's JID.
    `from_me` marks what one of the person's own companions sent. `timestamp` is in Unix seconds.
    """

    index: int
    id: str
    chat: str
    sender: str
    sender_device: int
    push_name: str
    timestamp: int
    kind: str
    text: str
    content: dict[str, Any]
    from_me: bool = False


@dataclass(eq=False)
class Sent:
    """A message the person sent, and how far it got. Plaintext is kept to send it again."""

    id: str
    chat: str
    text: str
    timestamp: int
    plaintext: bytes
    delivered: bool = False
    read: bool = False
    retries: int = 0


class Typing(msgspec.Struct, frozen=True):
    """Somebody typed, recorded or stopped, in Unix seconds."""

    sender: str
    state: str
    timestamp: int


@dataclass(eq=False)
class Person:
    """`delivers` and `reads` say which receipts go out by themselves; `reply` what is answered."""

    world: World
    user: User
    device: Device
    account: adv.Account
    signal: SignalDevice
    sync_key: SyncKey
    settings: Collection
    delivers: bool = True
    reads: bool = False
    reply: Reply = "none"
    received: list[Received] = field(default_factory=list[Received])
    received_count: int = 0
    sent: OrderedDict[str, Sent] = field(default_factory=OrderedDict[str, Sent])
    typing: list[Typing] = field(default_factory=list[Typing])
    refused: dict[str, int] = field(default_factory=dict[str, int])
    on_stanza: "Callable[[Person, Node], None] | None" = None
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def send(self, stanza: Node) -> None:
        """Take a stanza from the server, as a connection would."""
        if self.on_stanza is not None:
            self.on_stanza(self, stanza)

    def remember(self, message: Received) -> None:
        self.received.append(message)
        self.received_count += 1
        del self.received[:-KEPT_MESSAGES]
        self.tell()

    def remember_sent(self, message: Sent) -> None:
        self.sent[message.id] = message
        while len(self.sent) > KEPT_MESSAGES:
            self.sent.popitem(last=False)

    def tell(self) -> None:
        """Wake whoever waits for something to happen to this person."""
        self._news.set()
        self._news = asyncio.Event()

    async def until(self, happened: Callable[[], bool], seconds: float) -> bool:
        """Wait until `happened`, or for so long; return whether it did."""
        try:
            async with asyncio.timeout(seconds):
                while not happened():
                    await self._news.wait()
        except TimeoutError:
            return False
        return True


def new_person(world: World, user: User) -> Person:
    """Give a user a phone, with keys of its own."""
    account = adv.Account.create(world.rand)
    signal = SignalDevice.create(world.rand, account.identity, PREKEYS)
    keys = signal.public_keys()
    device = Device(user, 0, keys)
    device.one_time.extend(keys.one_time)
    user.devices[0] = device
    person = Person(
        world=world,
        user=user,
        device=device,
        account=account,
        signal=signal,
        sync_key=appstate.create_key(1, world.rand),
        settings=Collection(appstate.CRITICAL_BLOCK),
    )
    device.outlet = person
    return person
