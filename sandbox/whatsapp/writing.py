"""How a person writes: one ciphertext for each device of who is written to, and for its own."""

from collections.abc import Iterable

from sandbox.whatsapp import plaintexts, prekeys, router
from sandbox.whatsapp.directory import Device, User
from sandbox.whatsapp.jid import Jid
from sandbox.whatsapp.person import Person, Sent
from sandbox.whatsapp.signal import pad
from sandbox.whatsapp.wabinary import Attribute, Node, leaf, node
from sandbox.whatsapp.x3dh import PreKeyBundle


def peer_key(device: Device) -> str:
    """The name of a device in a person's session store: the same for both its addresses."""
    return f"{device.user.lid_user}.{device.number}"


def send_text(person: Person, to: User, text: str) -> Sent:
    """Write to another person."""
    return send(person, to.lid, f"+{to.number}", text, plaintexts.text(text))


def send_to_group(person: Person, group: Jid, text: str) -> Sent:
    """Write to a group."""
    return send(person, group, str(group), text, plaintexts.text(text))


def send(person: Person, chat: Jid, shown: str, text: str, plaintext: bytes) -> Sent:
    """Send any plaintext to a person or a group; `shown` is how the chat is called outside."""
    world = person.world
    message = Sent(world.message_id(), shown, text, world.clock(), plaintext)
    person.remember_sent(message)
    if chat.is_group:
        content = _for_group(person, chat, plaintext)
    else:
        content = _for_person(person, chat, plaintext)
    attrs: dict[str, Attribute] = {"id": message.id, "to": chat, "type": "text"}
    router.handle(world, person.device, node("message", attrs, *content))
    return message


def _for_person(person: Person, chat: Jid, plaintext: bytes) -> list[Node]:
    user = person.world.directory.user(chat)
    theirs = list(user.devices.values()) if user is not None else []
    copy = plaintexts.sent_elsewhere(chat, plaintext)
    own = person.user.companions if user is not person.user else []
    targets = [_to(person, device, plaintext) for device in theirs if device is not person.device]
    targets += [_to(person, device, copy) for device in own]
    return [node("participants", {}, *targets)]


def _for_group(person: Person, group: Jid, plaintext: bytes) -> list[Node]:
    rand = person.world.rand
    key = plaintexts.sender_key(group, person.signal.sender_key(str(group), rand))
    devices: Iterable[Device] = (
        device
        for user in person.world.groups.members(group)
        for device in user.devices.values()
        if device is not person.device
    )
    keys = [_to(person, device, key) for device in devices]
    shared = person.signal.encrypt_group(str(group), pad(plaintext, rand), rand)
    return [node("participants", {}, *keys), leaf("enc", shared, {"v": "2", "type": "skmsg"})]


def _to(person: Person, device: Device, plaintext: bytes) -> Node:
    return node("to", {"jid": device.lid}, encrypted(person, device, plaintext))


def encrypted(
    person: Person, device: Device, plaintext: bytes, bundle: PreKeyBundle | None = None
) -> Node:
    """One device's ciphertext; a session begins with `bundle`, or with the server's keys."""
    world, peer = person.world, peer_key(device)
    if bundle is None and not person.signal.has_session(peer):
        bundle = prekeys.take(world, device)
    kind, data = person.signal.encrypt(peer, pad(plaintext, world.rand), world.rand, bundle)
    return leaf("enc", data, {"v": "2", "type": kind})


def send_to_companion(person: Person, device: Device, plaintext: bytes) -> None:
    """Send what only a phone and its companion talk about."""
    attrs: dict[str, Attribute] = {
        "id": person.world.message_id(),
        "to": device.pn,
        "type": "text",
        "category": "peer",
    }
    enc = encrypted(person, device, plaintext)
    router.handle(person.world, person.device, node("message", attrs, enc))


def resend(
    person: Person, message: Sent, to: Jid, device: Device, bundle: PreKeyBundle | None
) -> None:
    """Send a message once more to the one device that could not read it."""
    message.retries += 1
    plaintext = message.plaintext
    attrs: dict[str, Attribute] = {"id": message.id, "to": device.lid, "type": "text"}
    if to.is_group:
        attrs |= {"to": to, "participant": device.lid}
    elif device.user is person.user:
        plaintext = plaintexts.sent_elsewhere(to, plaintext)
    enc = encrypted(person, device, plaintext, bundle)
    counted = enc.with_attrs(count=str(message.retries))
    router.handle(person.world, person.device, node("message", attrs, counted))
