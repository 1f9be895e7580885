"""What is ordered of a session: imperative, tagged and versioned, signed on the queue.

A command carries the tenant it is for; the gateway refuses one whose session belongs to another. A
new version of a command is a new tag beside the old one, so that planes of two releases can run
side by side during a deploy.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from shared import clock, signing
from shared.errors import Expired, Malformed
from shared.ids import CommandId, MessageId, SessionId, TenantId
from shared.message import Content, OnUncertain

LIFETIME: Final = 4 * clock.DAY
"""How long an order stays good unless it says otherwise: as long as a command queue keeps it."""


class _Command(msgspec.Struct, frozen=True, kw_only=True, tag_field="command", omit_defaults=True):
    id: CommandId
    tenant_id: TenantId
    session_id: SessionId
    issued_at: int
    expires_at: int


class StartSession(_Command, frozen=True, kw_only=True, tag="session.start.v1"):
    """Hold a socket for the session; ask for a pairing code if a number is given and needed."""

    phone_number: str | None = None
    restart: bool = False
    """End a running host first."""
    redial: bool = False
    """Only a session that runs: end its host and dial anew, by the way its row now says."""


class StopSession(_Command, frozen=True, kw_only=True, tag="session.stop.v1"):
    """Close the socket, keep the credentials."""


class LogOutSession(_Command, frozen=True, kw_only=True, tag="session.log_out.v1"):
    """Remove the device from the account and erase its credentials."""


class ResetSession(_Command, frozen=True, kw_only=True, tag="session.reset.v1"):
    """Erase the device's credentials without a word to WhatsApp: the next start pairs."""


class DeleteSession(_Command, frozen=True, kw_only=True, tag="session.delete.v1"):
    """Log out if possible, erase credentials and journal, then every row of the session."""


class SendMessage(_Command, frozen=True, kw_only=True, tag="message.send.v1"):
    """Send one message. `expires_at` is the tenant's `expires_in` made absolute."""

    message_id: MessageId
    to: str
    content: Content
    on_uncertain: OnUncertain = OnUncertain.REPORT


class PurgeTenant(_Command, frozen=True, kw_only=True, tag="tenant.purge.v1"):
    """Delete the sessions of a deleted tenant, then erase its every row.

    `session_id` is made up: it only says which queue and group the command waits in.
    """


Lifecycle = StartSession | StopSession | LogOutSession | ResetSession | DeleteSession
Command = Lifecycle | SendMessage | PurgeTenant

_decoder: Final = msgspec.json.Decoder(Command)


def encode(keys: Sequence[bytes], command: Command) -> str:
    """The signed text of a queue message."""
    return signing.sign_command(keys, msgspec.json.encode(command))


def decode(keys: Sequence[bytes], text: str, now: int) -> Command:
    """The command in a queue message. Raises Forged, Expired or Malformed.

    An expired `SendMessage` is returned, not refused: its message must be told that it failed.
    """
    payload = signing.open_command(keys, text)
    try:
        command = _decoder.decode(payload)
    except msgspec.DecodeError as error:
        raise Malformed(f"a signed command does not decode: {error}") from error
    if now >= command.expires_at and not isinstance(command, SendMessage):
        raise Expired("the command's time is over")
    return command
