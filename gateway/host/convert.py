"""WhatsApp's events as ours: a protobuf message in, what happened out, nothing else touched.

What carries no meaning for a person (keys, syncs between one's own devices, status posts, channels)
is left out by the lists below, and only by them; content that this version cannot show is passed on
as `Unsupported`, so that nothing a person sent disappears.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, cast

import msgspec
from neonize.proto.Neonize_pb2 import (
    Device,
    MessageInfo,
    MessageSource,
    Receipt,
    UndecryptableMessage,
)
from neonize.proto.Neonize_pb2 import Message as MessageEvent
from neonize.proto.waE2E.WAWebProtobufsE2E_pb2 import Message, ProtocolMessage

from gateway.host.jid import Address, address, chat, party
from shared import clock
from shared.events import Party, ReceivedMessage, Unsupported
from shared.message import Content, MessageStatus, Text

_DEEPEST: Final = 8
"""Wrappers around wrappers that are opened; WhatsApp nests two or three."""

LONGEST_TEXT: Final = 64 * 1024
"""Characters. WhatsApp's own apps write as many at most; a stranger's client may send more than a
frame to the gateway or a row of the table holds."""
LONGEST_NAME: Final = 256
LONGEST_ID: Final = 256
"""Characters: names and ids are a stranger's choice, too."""

_KEYS: Final = frozenset(
    {
        "senderKeyDistributionMessage",
        "fastRatchetKeySenderKeyDistributionMessage",
        "groupRootKeyShare",
        "rootSecretDistributeMessage",
    }
)
"""Key material. A group message arrives twice under one id, the first time with only this."""

_ANNEX: Final = frozenset({"messageContextInfo"})
"""Accompanies content and is none."""

_FOR_DEVICES: Final = frozenset(
    {
        "EPHEMERAL_SYNC_RESPONSE",
        "HISTORY_SYNC_NOTIFICATION",
        "APP_STATE_SYNC_KEY_SHARE",
        "APP_STATE_SYNC_KEY_REQUEST",
        "MSG_FANOUT_BACKFILL_REQUEST",
        "INITIAL_SECURITY_NOTIFICATION_SETTING_SYNC",
        "APP_STATE_FATAL_EXCEPTION_NOTIFICATION",
        "PEER_DATA_OPERATION_REQUEST_MESSAGE",
        "PEER_DATA_OPERATION_REQUEST_RESPONSE_MESSAGE",
        "BOT_FEEDBACK_MESSAGE",
        "MEDIA_NOTIFY_MESSAGE",
        "CLOUD_API_THREAD_CONTROL_NOTIFICATION",
        "LID_MIGRATION_MAPPING_SYNC",
        "COEX_STATE_SYNC",
        "AI_PSI_METADATA",
        "AI_QUERY_FANOUT",
        "AI_METADATA_OPERATION",
        "SHARED_DEVICE_CONTACT_HASH_KEY_SHARE",
        "SHARED_DEVICE_CONTACT_HASH_KEY_REQUEST",
    }
)
"""Protocol messages between an account's own devices, or from WhatsApp's servers to them."""

_NOT_CHATS: Final = frozenset({"newsletter"})
_STATUS: Final = Address("status", "broadcast")

_READ: Final = frozenset({Receipt.READ, Receipt.PLAYED})


@dataclass(frozen=True, slots=True)
class Received:
    """A message to publish once per `key`."""

    message: ReceivedMessage
    key: str
    """WhatsApp's chat and message id, as they came: the same when it is delivered again."""
    final: bool = True
    """Whether it may claim the key: a placeholder leaves it to the message that may follow."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Messages of ours reached, or were read by, their recipient."""

    whatsapp_ids: tuple[str, ...]
    status: MessageStatus


@dataclass(frozen=True, slots=True)
class Account:
    """Who the session is linked to."""

    phone_number: str | None
    lid: str | None


def account(device: Device) -> Account:
    """The account behind the device that logged in."""
    who = party(address(device.JID), address(device.LID))
    return Account(who.phone_number, who.lid)


def seen(receipt: Receipt) -> Seen | None:
    """What a receipt says of our messages; None where it says nothing.

    Receipts of one's own other devices, retries and peer messages are not a recipient's.
    """
    if receipt.MessageSource.IsFromMe:
        return None
    if receipt.Type == Receipt.DELIVERED:
        return Seen(tuple(receipt.MessageIDs), MessageStatus.DELIVERED)
    if receipt.Type in _READ:
        return Seen(tuple(receipt.MessageIDs), MessageStatus.READ)
    return None


def received(event: MessageEvent) -> Received | None:
    """The message a person sent; None for what is not for people."""
    if event.Info.Category == "peer":
        return None
    # The stub names the type by a path of the generator's that only the run time knows.
    outer = cast("Message", event.Message)  # pyright: ignore[reportUnknownMemberType]
    inner, edits = _open(outer)
    content = _content(inner)
    return None if content is None else _addressed(event.Info, content, edits)


def unavailable(event: UndecryptableMessage) -> Received | None:
    """A message only the phone can show, such as a photo to be viewed once.

    One that merely failed to decrypt is asked for again by the library and arrives later, so it is
    not announced.
    """
    if not event.IsUnavailable:
        return None
    return _addressed(event.Info, Unsupported("unavailable"), None, final=False)


def as_own(message: ReceivedMessage, own: Account) -> ReceivedMessage:
    """A message of the account's other device, its sender named by both addresses."""
    if not message.from_me:
        return message
    sender = Party(
        phone_number=message.sender.phone_number or own.phone_number,
        lid=message.sender.lid or own.lid,
        name=message.sender.name,
    )
    return msgspec.structs.replace(message, sender=sender)


def unknown_lids(message: ReceivedMessage) -> frozenset[str]:
    """LIDs in a message whose phone numbers the tenant would rather see."""
    found = {message.chat} if message.chat.endswith("@lid") else set[str]()
    if message.sender.lid and not message.sender.phone_number:
        found.add(message.sender.lid)
    return frozenset(found)


def with_numbers(message: ReceivedMessage, numbers: Mapping[str, str]) -> ReceivedMessage:
    """The same message, its LIDs replaced by those numbers (E.164 by LID) that were found."""
    sender = message.sender
    if sender.lid and sender.lid in numbers and not sender.phone_number:
        sender = msgspec.structs.replace(sender, phone_number=numbers[sender.lid])
    return msgspec.structs.replace(
        message, sender=sender, chat=numbers.get(message.chat, message.chat)
    )


def _open(message: Message) -> tuple[Message, str | None]:
    """The innermost message, and the id of the one it edits, if it is an edit."""
    edits: str | None = None
    for _ in range(_DEEPEST):
        inner = _inside(message)
        if inner is None:
            break
        if message.HasField("protocolMessage"):
            edits = str(message.protocolMessage.key.ID) or None  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType] (likewise)
        message = inner
    return message, edits


def _inside(message: Message) -> Message | None:
    for field, value in message.ListFields():
        kind = field.message_type.name if field.message_type is not None else ""
        if kind in {"FutureProofMessage", "DeviceSentMessage"} and value.HasField("message"):
            return value.message
        if (
            kind == "ProtocolMessage"
            and value.type == ProtocolMessage.MESSAGE_EDIT
            and value.HasField("editedMessage")
        ):
            return value.editedMessage
    return None


def _content(message: Message) -> Content | Unsupported | None:
    text = message.conversation or message.extendedTextMessage.text
    if text:
        return Text(text) if len(text) <= LONGEST_TEXT else Unsupported("oversized")
    names = [field.name for field, _ in message.ListFields() if field.name not in _ANNEX]
    if any(name in _KEYS for name in names):
        names = [name for name in names if name not in _KEYS]
        if not names:
            return None
    if not names:
        # A field newer than our copy of WhatsApp's schema.
        return Unsupported("unknown")
    if names[0] == "protocolMessage":
        number = message.protocolMessage.type
        name = ProtocolMessage.Type.DESCRIPTOR.values_by_number[number].name
        return None if name in _FOR_DEVICES else Unsupported(f"protocolMessage.{name}")
    return Unsupported(names[0])


def _addressed(
    info: MessageInfo, content: Content | Unsupported, edits: str | None, *, final: bool = True
) -> Received | None:
    source = info.MessageSource
    place = address(source.Chat)
    if place is None or place == _STATUS or place.server in _NOT_CHATS:
        return None
    name = info.Pushname[:LONGEST_NAME]
    sender = party(address(source.Sender), address(source.SenderAlt), name)
    message = ReceivedMessage(
        whatsapp_id=info.ID[:LONGEST_ID],
        chat=str(place) if place.is_group else chat(_partner(source, place, sender), place),
        sender=sender,
        content=content,
        sent_at=clock.instant(info.Timestamp),
        group=place.is_group,
        from_me=source.IsFromMe,
        edits=None if edits is None else edits[:LONGEST_ID],
    )
    return Received(message, f"{place} {message.whatsapp_id}", final)


def _partner(source: MessageSource, place: Address, sender: Party) -> Party:
    """Whom a direct chat is with. A broadcast list's message is answered to its sender."""
    if source.IsFromMe:
        return party(place, address(source.RecipientAlt))
    return sender
