"""How a person reads: what its phone does with each stanza the server hands it."""

import logging

from sandbox.whatsapp import linking, plaintexts, prekeys, router, writing
from sandbox.whatsapp.directory import Device
from sandbox.whatsapp.jid import Jid
from sandbox.whatsapp.person import KEPT_MESSAGES, PREKEYS, Person, Received, Typing
from sandbox.whatsapp.plaintexts import PlaintextError
from sandbox.whatsapp.refusals import RefusedError
from sandbox.whatsapp.signal import unpad
from sandbox.whatsapp.signal_errors import DuplicateMessageError, SignalError
from sandbox.whatsapp.wabinary import Attribute, Node, leaf, node
from sandbox.whatsapp.x3dh import PreKeyBundle

logger = logging.getLogger(__name__)

MAX_RETRIES = 5  # as whatsmeow: more would only repeat the failure


def read(person: Person, stanza: Node) -> None:
    """Act on a stanza as a phone does."""
    match stanza.tag:
        case "message":
            _message(person, stanza)
        case "receipt" if stanza.text("type") == "retry":
            _retry(person, stanza)
        case "receipt":
            _receipt(person, stanza)
        case "chatstate":
            _typing(person, stanza)
        case "notification" if stanza.text("type") == "encrypt":
            person.device.one_time.extend(person.signal.add_prekeys(PREKEYS, person.world.rand))
        case "notification" if stanza.text("type") == "w:gp2" and stanza.child("remove"):
            # Who was removed knows our key of this group; the next message needs another one.
            person.signal.forget_sender_key(str(stanza.jid("from")))
        case "notification" if stanza.text("type") == "companion":
            companion = person.world.directory.device(stanza.jid("from"))
            if companion is not None:
                linking.greet(person, companion)
        case _:
            pass  # acknowledgements and presence tell a simulated phone nothing new


def _message(person: Person, stanza: Node) -> None:
    origin = stanza.jid("from")
    author = (stanza.jid("participant") if origin and origin.is_group else None) or origin
    sender = person.world.directory.device(author)
    if origin is None or sender is None:
        return
    try:
        found = [_decrypt(person, sender, origin, enc) for enc in stanza.all("enc")]
    except DuplicateMessageError:
        _confirm(person, stanza, origin, sender)
        return
    except (SignalError, PlaintextError) as error:
        _ask_again(person, stanza, origin, sender, error)
        return
    person.refused.pop(stanza.text("id"), None)
    _confirm(person, stanza, origin, sender)
    for message in found:
        _take(person, stanza, origin, sender, message)


def _decrypt(person: Person, sender: Device, origin: Jid, enc: Node) -> "plaintexts.AnyMessage":
    peer, rand = writing.peer_key(sender), person.world.rand
    match enc.text("type"):
        case "pkmsg":
            padded = person.signal.decrypt(peer, "pkmsg", enc.data, rand)
        case "skmsg":
            padded = person.signal.decrypt_group(str(origin), peer, enc.data)
        case _:
            padded = person.signal.decrypt(peer, "msg", enc.data, rand)
    message = plaintexts.decode(unpad(padded))
    if message.HasField("senderKeyDistributionMessage"):
        given = message.senderKeyDistributionMessage
        key = given.axolotlSenderKeyDistributionMessage
        person.signal.learn_sender_key(given.groupID, peer, key)
    return message


def _take(
    person: Person, stanza: Node, origin: Jid, sender: Device, message: "plaintexts.AnyMessage"
) -> None:
    chat = f"+{sender.user.number}"
    if message.HasField("deviceSentMessage"):
        other = person.world.directory.user(stanza.jid("recipient"))
        chat = f"+{other.number}" if other else message.deviceSentMessage.destinationJID
        message = message.deviceSentMessage.message
    said = plaintexts.content(message)
    if said is None or stanza.text("category") == "peer":
        return
    from_me = sender.user is person.user
    received = Received(
        index=person.received_count,
        id=stanza.text("id"),
        chat=str(origin) if origin.is_group else chat,
        sender=f"+{sender.user.number}",
        sender_device=sender.number,
        push_name=stanza.text("notify"),
        timestamp=int(stanza.text("t") or person.world.clock()),
        kind=said.kind,
        text=said.text,
        content=said.fields,
        from_me=from_me,
    )
    person.remember(received)
    if from_me or origin.is_group:
        return
    if person.reads:
        mark_read(person, received)
    if person.reply == "echo" and said.text:
        writing.send_text(person, sender.user, said.text)


def _confirm(person: Person, stanza: Node, origin: Jid, sender: Device) -> None:
    """Say that a message arrived; what own companions sent needs no word."""
    if person.delivers and sender.user is not person.user:
        _send_receipt(person, origin, stanza.text("id"), "", stanza.jid("participant"))


def mark_read(person: Person, message: Received) -> None:
    """Tell the sender that its message was read."""
    author = person.world.directory.by_number(message.sender.removeprefix("+"))
    if author is None or message.from_me:
        return
    device = author.lid.with_device(message.sender_device)
    in_group = message.chat.endswith("@g.us")
    chat = Jid(message.chat.partition("@")[0], "g.us") if in_group else device
    _send_receipt(person, chat, message.id, "read", device if in_group else None)


def _send_receipt(
    person: Person, to: Jid, message_id: str, kind: str, participant: Jid | None
) -> None:
    attrs: dict[str, Attribute] = {"id": message_id, "to": to, "type": kind}
    if participant is not None:
        attrs["participant"] = participant
    router.handle(person.world, person.device, node("receipt", attrs))


def _ask_again(person: Person, stanza: Node, origin: Jid, sender: Device, error: Exception) -> None:
    message_id = stanza.text("id")
    count = person.refused.get(message_id, 0) + 1
    person.refused[message_id] = count
    logger.info("sandbox.undecryptable", extra={"reason": type(error).__name__, "attempt": count})
    if count > MAX_RETRIES:
        return
    world, signal = person.world, person.signal
    [one_time] = signal.add_prekeys(1, world.rand)
    keys = signal.public_keys()
    bundle = prekeys.bundle_parts(keys.bundle(one_time))
    number = leaf("registration", keys.registration_id.to_bytes(4, "big"))
    retry = node(
        "retry",
        {"count": str(count), "id": message_id, "t": stanza.text("t"), "v": "1"},
    )
    attrs: dict[str, Attribute] = {"id": message_id, "to": sender.lid, "type": "retry"}
    if origin.is_group:
        attrs |= {"to": origin, "participant": sender.lid}
    receipt = node("receipt", attrs, retry, number, node("keys", {}, *bundle[1:]))
    router.handle(world, person.device, receipt)


def _retry(person: Person, stanza: Node) -> None:
    message = person.sent.get(stanza.text("id"))
    origin = stanza.jid("from")
    device = person.world.directory.device(stanza.jid("participant") or origin)
    if message is None or origin is None or device is None or message.retries >= MAX_RETRIES:
        return
    keys, registration = stanza.child("keys"), stanza.child("registration")
    bundle: PreKeyBundle | None = None
    if keys is not None and registration is not None:
        try:
            bundle = prekeys.read_bundle(int.from_bytes(registration.data, "big"), keys)
        except RefusedError:
            logger.info("sandbox.retry_without_keys", extra={"device": device.number})
    chat = origin
    if device.user is person.user:
        other = person.world.directory.by_number(message.chat.removeprefix("+"))
        chat = other.lid if other is not None else origin
    writing.resend(person, message, chat, device, bundle)


def _receipt(person: Person, stanza: Node) -> None:
    listed = stanza.child("list")
    more = [item.text("id") for item in listed.all("item")] if listed is not None else []
    for message_id in (stanza.text("id"), *more):
        message = person.sent.get(message_id)
        if message is not None:
            message.delivered = True
            message.read = message.read or stanza.text("type") in ("read", "played")
    person.tell()


def _typing(person: Person, stanza: Node) -> None:
    user = person.world.directory.user(stanza.jid("participant") or stanza.jid("from"))
    if user is not None and stanza.children:
        state = stanza.children[0].tag
        person.typing.append(Typing(f"+{user.number}", state, person.world.clock()))
        del person.typing[:-KEPT_MESSAGES]
        person.tell()
