"""Addresses on WhatsApp: a user at a server, and which of the user's devices.

One person has two addresses: the phone number (`…@s.whatsapp.net`) and the LID (`…@lid`), an
opaque number that does not give the phone number away.
"""

import msgspec

PHONE_SERVER = "s.whatsapp.net"
LID_SERVER = "lid"
GROUP_SERVER = "g.us"
BROADCAST_SERVER = "broadcast"
LEGACY_PHONE_SERVER = "c.us"  # how a client names a number it has not looked up yet


class MalformedJidError(ValueError):
    """A text that is no address."""


class Jid(msgspec.Struct, frozen=True, order=True):
    """`device` 0 is the phone; companions are numbered from 1 to 255."""

    user: str
    server: str
    device: int = 0
    integrator: int = 0

    def __str__(self) -> str:
        user = f"{self.integrator}-{self.user}" if self.integrator else self.user
        user = f"{user}:{self.device}" if self.device else user
        return f"{user}@{self.server}" if user else self.server

    @property
    def bare(self) -> "Jid":
        """The person or group, whatever the device."""
        return Jid(self.user, self.server)

    @property
    def is_group(self) -> bool:
        return self.server == GROUP_SERVER

    def with_device(self, device: int) -> "Jid":
        return Jid(self.user, self.server, device)


SERVER = Jid("", PHONE_SERVER)  # the server itself, as sender and addressee of queries


def phone(number: str, device: int = 0) -> Jid:
    """The address of a phone number given in digits, without a plus sign."""
    return Jid(number, PHONE_SERVER, device)


def lid(user: str, device: int = 0) -> Jid:
    return Jid(user, LID_SERVER, device)


def group(user: str) -> Jid:
    return Jid(user, GROUP_SERVER)


def parse(text: str) -> Jid:
    """Read `user@server` or `user:device@server`.

    Raises:
        MalformedJidError: no server, or a device that is no number of one byte.
    """
    user, at, server = text.rpartition("@")
    if not at or not server:
        raise MalformedJidError(f"{text!r} has no server")
    user, colon, device = user.partition(":")
    if not colon:
        return Jid(user, server)
    if not (device.isascii() and device.isdigit()) or int(device) > 255:
        raise MalformedJidError(f"{text!r} has an impossible device")
    return Jid(user, server, int(device))
