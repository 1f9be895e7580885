"""WhatsApp's addresses, and which of them a tenant is shown.

An account has two: a phone number (`4915…@s.whatsapp.net`) and a hidden id (`1234…@lid`). WhatsApp
addresses with either, and often names the other beside it. Tenants see the phone number wherever it
is known, and the LID beside it. Device and agent numbers never leave this file.
"""

from dataclasses import dataclass
from typing import Final

from neonize.proto.Neonize_pb2 import JID

from shared.events import Party
from shared.message import is_e164

_NUMBERS: Final = frozenset({"s.whatsapp.net", "hosted"})
"""Servers whose users are phone numbers; `hosted` is a business account on Meta's servers."""
_LIDS: Final = frozenset({"lid", "hosted.lid"})
_GROUPS: Final = "g.us"


@dataclass(frozen=True, slots=True)
class Address:
    """A user or a group, without its device."""

    user: str
    server: str

    def __str__(self) -> str:
        return f"{self.user}@{self.server}"

    @property
    def number(self) -> str | None:
        """E.164, if this is a phone number."""
        text = f"+{self.user}"
        return text if self.server in _NUMBERS and is_e164(text) else None

    @property
    def lid(self) -> str | None:
        """The LID's JID, if this is one."""
        return f"{self.user}@lid" if self.server in _LIDS else None

    @property
    def is_group(self) -> bool:
        return self.server == _GROUPS


def address(jid: JID) -> Address | None:
    """The address in a JID message; None where it is unset."""
    return Address(jid.User, jid.Server) if jid.User and jid.Server else None


def recipient(to: str) -> Address:
    """Where to send for a canonical recipient: E.164, or a group's JID."""
    if to.startswith("+"):
        return Address(to[1:], "s.whatsapp.net")
    user, _, server = to.partition("@")
    return Address(user, server)


def as_jid(to: Address) -> JID:
    return JID(User=to.user, Server=to.server, Device=0, RawAgent=0, Integrator=0, IsEmpty=False)


def party(first: Address | None, second: Address | None, name: str | None = None) -> Party:
    """Somebody by one or both of their addresses, in whichever order they came."""
    known = [each for each in (first, second) if each is not None]
    return Party(
        phone_number=next((each.number for each in known if each.number), None),
        lid=next((each.lid for each in known if each.lid), None),
        name=name or None,
    )


def chat(who: Party, fallback: Address) -> str:
    """Where to answer them: the number, else the LID, else WhatsApp's own address."""
    return who.phone_number or who.lid or str(fallback)
