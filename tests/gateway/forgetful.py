"""A prelude for hosts: the sandbox's, and a library that names senders by their LIDs alone."""

import msgspec

from gateway.host import intake
from gateway.host.convert import Account
from sandbox import trust
from shared.events import ReceivedMessage


def install() -> None:
    """Lead the host to the sandbox, and forget the numbers beside the LIDs."""
    trust.install()
    intake.as_own = _forget


def _forget(message: ReceivedMessage, _: Account) -> ReceivedMessage:
    lid = message.sender.lid or ""
    sender = msgspec.structs.replace(message.sender, phone_number=None)
    return msgspec.structs.replace(message, sender=sender, chat=lid)
