"""WhatsApp's messages and receipts as ours."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from neonize.proto.Neonize_pb2 import (
    JID,
    Device,
    MessageInfo,
    MessageSource,
    Receipt,
    UndecryptableMessage,
)
from neonize.proto.Neonize_pb2 import Message as MessageEvent
from neonize.proto.waE2E.WAWebProtobufsE2E_pb2 import (
    ExtendedTextMessage,
    FutureProofMessage,
    ImageMessage,
    Message,
    MessageContextInfo,
    ProtocolMessage,
    SenderKeyDistributionMessage,
)

from gateway.host.convert import (
    LONGEST_TEXT,
    Account,
    Received,
    account,
    as_own,
    received,
    seen,
    unavailable,
    unknown_lids,
    with_numbers,
)
from shared.events import Party, Unsupported
from shared.message import MessageStatus, Text


def jid(text: str, device: int = 0) -> JID:
    user, server = text.split("@")
    return JID(User=user, Server=server, Device=device, RawAgent=0, Integrator=0, IsEmpty=False)


BEN, BEN_LID = "4915112345679@s.whatsapp.net", "974717779012138@lid"
ME, ME_LID = "4915112345678@s.whatsapp.net", "756772701718111@lid"
GROUP = "120363041234567890@g.us"


NOBODY = JID(User="", Server="", Device=0, RawAgent=0, Integrator=0, IsEmpty=True)
"""How the library writes an address it does not know."""


def info(chat: str, sender: str, **how: Any) -> MessageInfo:
    source = MessageSource(
        Chat=jid(chat),
        Sender=jid(sender, how.pop("device", 0)),
        IsFromMe=how.pop("from_me", False),
        IsGroup=chat.endswith("g.us"),
    )
    source.BroadcastListOwner.CopyFrom(NOBODY)
    source.SenderAlt.CopyFrom(jid(how.pop("sender_alt")) if "sender_alt" in how else NOBODY)
    source.RecipientAlt.CopyFrom(
        jid(how.pop("recipient_alt")) if "recipient_alt" in how else NOBODY
    )
    return MessageInfo(
        MessageSource=source,
        ID=how.pop("id", "3A01"),
        ServerID=0,
        Type="text",
        Multicast=False,
        MediaType="",
        Edit="",
        Pushname=how.pop("name", "Ben"),
        Timestamp=1_700_000_000_000,
        Category=how.pop("category", ""),
    )


def event(content: Message, about: MessageInfo | None = None) -> MessageEvent:
    made = MessageEvent(
        Info=about or info(BEN, BEN),
        IsEphemeral=False,
        IsViewOnce=False,
        IsViewOnceV2=False,
        IsViewOnceV2Extension=False,
        IsDocumentWithCaption=False,
        IsLottieSticker=False,
        IsEdit=False,
        UnavailableRequestID="",
        RetryCount=0,
    )
    # The library's schema and ours describe the same message by two generated classes.
    made.Message.ParseFromString(  # pyright: ignore[reportUnknownMemberType] (the stub hides it)
        content.SerializeToString()
    )
    return made


def content_of(message: Message) -> object:
    found = received(event(message))
    return None if found is None else found.message.content


HELLO = Message(conversation="hello")


def wrapped(name: str, inner: Message) -> Message:
    outer = Message()
    getattr(outer, name).message.CopyFrom(inner)
    return outer


WRAPPERS = [
    "ephemeralMessage",
    "viewOnceMessage",
    "viewOnceMessageV2",
    "viewOnceMessageV2Extension",
    "deviceSentMessage",
    "editedMessage",
    "documentWithCaptionMessage",
    "groupMentionedMessage",
]


@pytest.mark.parametrize(
    ("message", "content"),
    [
        (HELLO, Text("hello")),
        (Message(extendedTextMessage=ExtendedTextMessage(text="see this")), Text("see this")),
        (Message(imageMessage=ImageMessage()), Unsupported("imageMessage")),
        (
            Message(
                conversation="hi",
                senderKeyDistributionMessage=SenderKeyDistributionMessage(groupID="g"),
            ),
            Text("hi"),
        ),
        (
            Message(senderKeyDistributionMessage=SenderKeyDistributionMessage(groupID="g")),
            None,
        ),
        (
            Message(
                senderKeyDistributionMessage=SenderKeyDistributionMessage(groupID="g"),
                messageContextInfo=MessageContextInfo(),
            ),
            None,
        ),
        (
            Message(
                imageMessage=ImageMessage(),
                senderKeyDistributionMessage=SenderKeyDistributionMessage(groupID="g"),
            ),
            Unsupported("imageMessage"),
        ),
        (Message(), Unsupported("unknown")),
        (Message(messageContextInfo=MessageContextInfo()), Unsupported("unknown")),
        (Message(ephemeralMessage=FutureProofMessage()), Unsupported("ephemeralMessage")),
        (
            Message(protocolMessage=ProtocolMessage(type=ProtocolMessage.REVOKE)),
            Unsupported("protocolMessage.REVOKE"),
        ),
        (
            Message(protocolMessage=ProtocolMessage(type=ProtocolMessage.APP_STATE_SYNC_KEY_SHARE)),
            None,
        ),
        (
            Message(
                protocolMessage=ProtocolMessage(type=ProtocolMessage.HISTORY_SYNC_NOTIFICATION)
            ),
            None,
        ),
    ],
    ids=str,
)
def test_content(message: Message, content: object) -> None:
    """Text is text, keys and syncs are nobody's news, and the rest is passed on by its name."""
    assert content_of(message) == content


@given(st.lists(st.sampled_from(WRAPPERS), max_size=8))
def test_wrappers_are_opened(names: list[str]) -> None:
    """However a text is wrapped, the text comes out."""
    message = HELLO
    for name in names:
        message = wrapped(name, message)
    assert content_of(message) == Text("hello")


def test_endless_wrapping_ends() -> None:
    """A hostile sender cannot make conversion run for ever."""
    message = HELLO
    for _ in range(50):
        message = wrapped("ephemeralMessage", message)
    assert content_of(message) == Unsupported("ephemeralMessage")


def test_an_edit_is_the_new_text_and_names_the_old_message() -> None:
    """What was edited is published under its own id, with the id it replaces."""
    edit = ProtocolMessage(type=ProtocolMessage.MESSAGE_EDIT, editedMessage=HELLO)
    edit.key.ID = "3A00"  # pyright: ignore[reportUnknownMemberType] (the stub hides it)
    found = received(event(wrapped("editedMessage", Message(protocolMessage=edit))))
    assert found is not None
    assert (found.message.content, found.message.edits) == (Text("hello"), "3A00")


@pytest.mark.parametrize(
    ("about", "chat", "number", "lid"),
    [
        (info(BEN, BEN), "+4915112345679", "+4915112345679", None),
        (
            info(BEN, BEN, sender_alt=BEN_LID),
            "+4915112345679",
            "+4915112345679",
            BEN_LID,
        ),
        (
            info(BEN_LID, BEN_LID, sender_alt=BEN, device=3),
            "+4915112345679",
            "+4915112345679",
            BEN_LID,
        ),
        (info(BEN_LID, BEN_LID), BEN_LID, None, BEN_LID),
        (
            info(GROUP, BEN_LID, sender_alt=BEN, device=7),
            GROUP,
            "+4915112345679",
            BEN_LID,
        ),
        (info(GROUP, BEN), GROUP, "+4915112345679", None),
        (
            info(BEN_LID, ME_LID, recipient_alt=BEN, from_me=True),
            "+4915112345679",
            None,
            ME_LID,
        ),
        (info(BEN, ME, from_me=True), "+4915112345679", "+4915112345678", None),
        (
            info("1700000000@broadcast", BEN_LID, sender_alt=BEN),
            "+4915112345679",
            "+4915112345679",
            BEN_LID,
        ),
    ],
    ids=["pn", "pn+lid", "lid+pn", "lid", "group-lid", "group-pn", "me-lid", "me-pn", "list"],
)
def test_addresses(about: MessageInfo, chat: str, number: str | None, lid: str | None) -> None:
    """Phone numbers first, the LID beside it, and `chat` is where to answer."""
    found = received(event(HELLO, about))
    assert found is not None
    message = found.message
    assert (message.chat, message.sender.phone_number, message.sender.lid) == (chat, number, lid)
    assert message.group == (chat == GROUP)


@pytest.mark.parametrize(
    "about",
    [
        info("status@broadcast", BEN),
        info("120363000@newsletter", "120363000@newsletter"),
        info(BEN, BEN, category="peer"),
    ],
    ids=["status", "channel", "peer"],
)
def test_what_is_not_for_the_account(about: MessageInfo) -> None:
    """Status posts, channels and syncs between own devices are left out by rule."""
    assert received(event(HELLO, about)) is None


def test_a_message_is_known_again_by_chat_and_id() -> None:
    """Delivered twice it has the same key; in another chat it has not."""
    keys = [
        found.key
        for about in (info(BEN, BEN), info(BEN, BEN, name="Benny"), info(GROUP, BEN))
        if (found := received(event(HELLO, about))) is not None
    ]
    assert keys[0] == keys[1] != keys[2]


def test_a_number_that_was_looked_up_fills_in() -> None:
    """A LID alone is asked about; what is found replaces it in chat and sender."""
    found = received(event(HELLO, info(BEN_LID, BEN_LID)))
    assert found is not None
    assert unknown_lids(found.message) == {BEN_LID}
    message = with_numbers(found.message, {BEN_LID: "+4915112345679"})
    assert message.chat == "+4915112345679"
    assert message.sender == Party(phone_number="+4915112345679", lid=BEN_LID, name="Ben")
    assert unknown_lids(message) == frozenset()
    assert with_numbers(found.message, {}) == found.message


def test_an_own_message_names_the_account() -> None:
    """A message from the account's phone carries both of the account's addresses."""
    found = received(event(HELLO, info(BEN_LID, ME_LID, recipient_alt=BEN, from_me=True)))
    assert found is not None
    own = as_own(found.message, Account("+4915112345678", ME_LID))
    assert (own.sender.phone_number, own.sender.lid) == ("+4915112345678", ME_LID)
    other = msgspec.structs.replace(found.message, from_me=False)
    assert as_own(other, Account("+4915112345678", ME_LID)) == other


@pytest.mark.parametrize("name", Receipt.ReceiptType.keys(), ids=str)
@pytest.mark.parametrize("from_me", [False, True], ids=["theirs", "own"])
def test_receipts(name: str, *, from_me: bool) -> None:
    """For every type: delivered and read are a recipient's word, the others are not."""
    receipt = Receipt(
        MessageSource=MessageSource(
            Chat=jid(BEN), Sender=jid(BEN), IsFromMe=from_me, IsGroup=False
        ),
        MessageIDs=["3EB0", "3EB1"],
        Timestamp=1_700_000_000,
        Type=Receipt.ReceiptType.Value(name),
    )
    expected = {
        "DELIVERED": MessageStatus.DELIVERED,
        "READ": MessageStatus.READ,
        "PLAYED": MessageStatus.READ,
    }.get(name)
    found = seen(receipt)
    if from_me or expected is None:
        assert found is None
    else:
        assert found is not None
        assert (found.whatsapp_ids, found.status) == (("3EB0", "3EB1"), expected)


def test_a_message_only_the_phone_can_show_is_announced() -> None:
    """It does not claim its key, so that the message itself may still follow."""
    about = info(BEN, BEN)
    hidden = UndecryptableMessage(Info=about, IsUnavailable=True)
    found = unavailable(hidden)
    assert isinstance(found, Received)
    assert found.message.content == Unsupported("unavailable")
    assert not found.final
    assert unavailable(UndecryptableMessage(Info=about, IsUnavailable=False)) is None


def test_the_account_is_read_from_the_device() -> None:
    """Number and LID without their device numbers."""
    device = Device(JID=jid(ME, 12), LID=jid(ME_LID, 12))
    assert account(device) == Account("+4915112345678", ME_LID)


def test_what_a_stranger_sends_is_bounded() -> None:
    """A text, a name or an id of any length must not stop the session it is sent to."""
    edit = Message(
        protocolMessage=ProtocolMessage(
            type=ProtocolMessage.MESSAGE_EDIT,
            editedMessage=Message(conversation="x" * 5_000_000),
        )
    )
    edit.protocolMessage.key.ID = "i" * 100_000  # pyright: ignore[reportUnknownMemberType] (the stub hides it)
    found = received(event(edit, info(BEN, BEN, id="3" * 100_000, name="n" * 100_000)))
    assert found is not None
    assert found.message.content == Unsupported("oversized")
    assert len(msgspec.json.encode(found.message)) < 2_000
    longest = received(event(Message(conversation="x" * LONGEST_TEXT)))
    assert longest is not None
    assert longest.message.content == Text("x" * LONGEST_TEXT)
