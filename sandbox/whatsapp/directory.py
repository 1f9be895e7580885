"""Who is on the sandbox's WhatsApp: users, their devices, and what the server keeps of them.

The server knows public keys, addresses and undelivered stanzas, and never a plaintext. A user's
device 0 is the phone; companions (WhatsApp Web clients) get the numbers above.
"""

import hashlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, Protocol

import msgspec

from sandbox.whatsapp.jid import LEGACY_PHONE_SERVER, LID_SERVER, PHONE_SERVER, Jid, lid, phone
from sandbox.whatsapp.signal import PublicKeys
from sandbox.whatsapp.wabinary import Node
from sandbox.whatsapp.x3dh import PreKey

MAX_COMPANIONS = 255  # a device's number is one byte on the wire
MAX_PENDING = 10_000  # stanzas kept for a device that is away; a test that needs more has a bug


class Outlet(Protocol):
    """Where a device's stanzas go: a companion's connection, or a simulated phone."""

    def send(self, stanza: Node) -> None: ...


@dataclass(eq=False)
class Device:
    user: "User"
    number: int
    keys: PublicKeys
    noise_key: bytes = b""
    key_index: int = 0
    one_time: deque[PreKey] = field(default_factory=deque[PreKey])
    outlet: Outlet | None = None
    available: bool = False
    online_since: int | None = None
    greeted: bool = False  # its phone has sent it the app state key and the push name
    pending: dict[tuple[str, str, str], Node] = field(
        default_factory=dict[tuple[str, str, str], Node]
    )

    @property
    def pn(self) -> Jid:
        return phone(self.user.number, self.number)

    @property
    def lid(self) -> Jid:
        return lid(self.user.lid_user, self.number)


class Patch(msgspec.Struct, frozen=True):
    version: int
    data: bytes


@dataclass(eq=False)
class Faults:
    """What a user's connections are made to suffer. All of it is off by default."""

    silent: bool = False
    held: bool = False
    ack_delay: float = 0.0
    nack: int | None = None
    nacks_left: int = 0
    garbled: int = 0
    flaps: int = 0
    kept: deque[tuple[Device, Node]] = field(default_factory=deque[tuple[Device, Node]])
    next_login: deque[Node] = field(default_factory=deque[Node])
    code_refusals: deque[int] = field(default_factory=deque[int])

    def count_nack(self) -> None:
        """Refuse one message fewer; 0 left means that the refusing ends."""
        self.nacks_left -= 1
        if self.nacks_left <= 0:
            self.nack = None


@dataclass(eq=False)
class User:
    number: str
    push_name: str
    registered: bool = True
    addressing: Literal["lid", "pn"] = "lid"
    last_seen: int | None = None
    about: str = ""
    picture: str | None = None
    devices: dict[int, Device] = field(default_factory=dict[int, Device])
    numbers_given: int = 0
    faults: Faults = field(default_factory=Faults)
    app_state: dict[str, list[Patch]] = field(default_factory=dict[str, list[Patch]])
    privacy: dict[str, str] = field(default_factory=dict[str, str])
    blocked: set[Jid] = field(default_factory=set[Jid])
    watchers: set[Device] = field(default_factory=set[Device])

    @property
    def lid_user(self) -> str:
        return lid_user(self.number)

    @property
    def pn(self) -> Jid:
        return phone(self.number)

    @property
    def lid(self) -> Jid:
        return lid(self.lid_user)

    @property
    def available(self) -> bool:
        return any(device.available for device in self.devices.values())

    @property
    def companions(self) -> list[Device]:
        return [device for number, device in self.devices.items() if number]

    def next_device_number(self) -> int | None:
        """A number no companion had before, `None` if there is none left."""
        if self.numbers_given >= MAX_COMPANIONS:
            return None
        self.numbers_given += 1
        return self.numbers_given


def lid_user(number: str) -> str:
    """A user's opaque number: the same in every run, and not the phone number."""
    digest = int.from_bytes(hashlib.sha256(b"lid:" + number.encode()).digest()[:8], "big")
    return str(10**14 + digest % (9 * 10**14))


class Directory:
    def __init__(self) -> None:
        self._by_number: dict[str, User] = {}
        self._by_lid: dict[str, User] = {}

    def __iter__(self) -> Iterator[User]:
        return iter(self._by_number.values())

    def add(self, user: User) -> None:
        self._by_number[user.number] = user
        self._by_lid[user.lid_user] = user

    def by_number(self, number: str) -> User | None:
        return self._by_number.get(number)

    def user(self, jid: Jid | None) -> User | None:
        """The registered user at an address of either kind."""
        if jid is None:
            return None
        match jid.server:
            case s if s in (PHONE_SERVER, LEGACY_PHONE_SERVER):
                found = self._by_number.get(jid.user)
            case s if s == LID_SERVER:
                found = self._by_lid.get(jid.user)
            case _:
                found = None
        return found if found is not None and found.registered else None

    def device(self, jid: Jid | None) -> Device | None:
        user = self.user(jid)
        return user.devices.get(jid.device) if user is not None and jid is not None else None

    def companions(self) -> Iterator[Device]:
        for user in self:
            yield from user.companions
