"""Messages: one ciphertext for each device, taken from its sender and brought to each of them."""

from collections.abc import Iterator

from sandbox.whatsapp.directory import Device
from sandbox.whatsapp.jid import Jid
from sandbox.whatsapp.wabinary import Attribute, Node, node
from sandbox.whatsapp.world import World

CARRIED = {"device-identity", "meta"}  # what else of a message the receiver gets to see


def route(world: World, sender: Device, stanza: Node) -> None:
    """Acknowledge a message, or refuse it if that was asked for, and bring it to its devices."""
    to = stanza.jid("to")
    if to is None:
        _answer(world, sender, stanza, error="400")
        return
    faults = sender.user.faults
    if faults.nack is not None and sender.number and stanza.text("category") != "peer":
        _answer(world, sender, stanza, error=str(faults.nack))
        faults.count_nack()
        return
    copies = list(_copies(world, sender, stanza, to))

    def bring() -> None:
        _answer(world, sender, stanza)
        for device, copy in copies:
            world.deliver(device, copy)

    world.later(faults.ack_delay if sender.number else 0, bring)


def _answer(world: World, sender: Device, stanza: Node, error: str = "") -> None:
    attrs: dict[str, Attribute] = {
        "class": "message",
        "id": stanza.text("id"),
        "t": str(world.clock()),
        "error": error,
    }
    to = stanza.jid("to")
    if to is not None:
        attrs["from"] = to
    if to is not None and to.server == "newsletter":
        attrs["server_id"] = str(world.clock())
    world.deliver(sender, node("ack", attrs))


def _copies(world: World, sender: Device, stanza: Node, to: Jid) -> Iterator[tuple[Device, Node]]:
    personal = dict(_personal(world, sender, stanza, to))
    shared = [enc for enc in stanza.all("enc") if enc.text("type") == "skmsg"]
    devices = set(personal)
    if to.is_group and shared:
        devices |= {device for user in world.groups.members(to) for device in user.devices.values()}
    extras = [child for child in stanza.children if child.tag in CARRIED]
    for device in devices - {sender}:
        mine = [_perhaps_garbled(device, personal[device])] if device in personal else []
        attrs = _attributes(world, sender, stanza, to, device)
        yield device, node("message", attrs, *mine, *shared, *extras)


def _personal(world: World, sender: Device, stanza: Node, to: Jid) -> Iterator[tuple[Device, Node]]:
    """The devices that have a ciphertext of their own, with it."""
    participants = stanza.child("participants")
    if participants is not None:
        pairs = [(child.jid("jid"), child.child("enc")) for child in participants.all("to")]
    else:
        target = stanza.jid("participant") or to
        own = [enc for enc in stanza.all("enc") if enc.text("type") != "skmsg"]
        pairs = [(target, enc) for enc in own[:1]]
    for jid, enc in pairs:
        device = world.directory.device(jid)
        blocked = device is not None and sender.user.lid in device.user.blocked
        if device is not None and enc is not None and not blocked:
            yield device, enc


def _perhaps_garbled(device: Device, enc: Node) -> Node:
    """A ciphertext, spoilt if that was asked for: its reader has to ask for it again."""
    if device.user.faults.garbled == 0:
        return enc
    device.user.faults.garbled -= 1
    middle = len(enc.data) // 2
    spoilt = bytes([enc.data[middle] ^ 0x55])
    return Node("enc", enc.attrs, enc.data[:middle] + spoilt + enc.data[middle + 1 :])


def _attributes(
    world: World, sender: Device, stanza: Node, to: Jid, device: Device
) -> dict[str, Attribute]:
    attrs: dict[str, Attribute] = {
        "id": stanza.text("id"),
        "t": str(world.clock()),
        "type": stanza.text("type") or "text",
        "notify": sender.user.push_name,
        "edit": stanza.text("edit"),
        "category": stanza.text("category"),
    }
    if to.is_group or to.server == "broadcast":
        by = {"participant": sender.lid, "participant_pn": sender.pn}
        return attrs | by | {"from": to, "addressing_mode": "lid"}
    if device.user is not sender.user:
        return attrs | _by_address(sender)
    peer = world.directory.user(to)
    attrs |= {"from": sender.pn, "recipient": to}
    if stanza.text("category") == "peer":
        del attrs["recipient"]
    elif peer is not None:
        attrs["peer_recipient_lid"] = peer.lid
    return attrs


def _by_address(sender: Device) -> dict[str, Attribute]:
    """The sender's address and, always, its other one: clients keep one session for both."""
    if sender.user.addressing == "pn":
        return {"from": sender.pn, "sender_lid": sender.lid}
    return {"from": sender.lid, "sender_pn": sender.pn, "addressing_mode": "lid"}
