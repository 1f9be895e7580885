"""What a host asks of the WhatsApp library, and how it is refused.

`gateway/host/socket.py` is the library; it can be loaded only in a process that will never fork.
"""

import asyncio
from typing import Protocol

from shared.errors import ZapgateError


class Undelivered(ZapgateError):
    """The library's words for why a message was not acknowledged."""


class NoCode(ZapgateError):
    """The library's words for why there is no pairing code."""


class NotRemoved(ZapgateError):
    """The device could not be removed from the account."""


class Wire(Protocol):
    """One connection to WhatsApp."""

    async def connect(self, proxy: str) -> "asyncio.Task[None]":
        """Dial. The task lasts as long as the library's loop does; its end is never good news."""
        ...

    async def send(self, to: str, text: str, secret: bytes) -> str:
        """Send a text; the WhatsApp id it was acknowledged under. Raises Undelivered."""
        ...

    async def pair(self, phone_number: str) -> str:
        """A pairing code for a number. Raises NoCode."""
        ...

    async def number_of(self, lid: str) -> str | None:
        """The phone number behind a LID, if the library has seen it. Only while logged in."""
        ...

    async def log_out(self) -> None:
        """Remove the device from the account. Raises NotRemoved."""
        ...

    async def disconnect(self) -> None:
        """Close the socket; what was received is still handed over."""
        ...
