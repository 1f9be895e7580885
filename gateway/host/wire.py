"""What a host asks of the WhatsApp library, and how it is refused.

`gateway/host/socket.py` is the one there is; it loads the library, after which no process can fork.
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

    def connect(self, proxy: str) -> "asyncio.Future[str]":
        """Dial. The future lasts as long as the library's loop; its end is never good news."""
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
