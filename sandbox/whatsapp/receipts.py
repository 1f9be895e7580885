"""Receipts: a device tells a sender that its message arrived, was read, or could not be opened."""

from sandbox.whatsapp.directory import Device, User
from sandbox.whatsapp.jid import Jid
from sandbox.whatsapp.wabinary import Attribute, Node, node
from sandbox.whatsapp.world import World

# Of what whatsmeow can send only these concern the sender; the rest is between own devices.
# A client that was not told to be present says "inactive" for delivered.
FORWARDED = {"": "", "inactive": "", "read": "read", "played": "played", "retry": "retry"}


def route(world: World, device: Device, stanza: Node) -> None:
    """Confirm the message the receipt is for, acknowledge the receipt, and pass it on."""
    stanza_id, to = stanza.text("id"), stanza.jid("to")
    world.confirm(device, "message", stanza_id)
    if to is None:
        return
    kind = stanza.text("type")
    ack = {"class": "receipt", "id": stanza_id, "from": to, "type": kind}
    world.deliver(device, node("ack", ack))
    if kind not in FORWARDED:
        return
    author = stanza.jid("participant") if to.is_group else to
    receiver = world.directory.user(author)
    if receiver is None or author is None:
        return
    receipt = _forwarded(world, device, stanza, to, FORWARDED[kind])
    for other in _addressees(receiver, author, kind):
        world.deliver(other, receipt)


def _addressees(receiver: User, author: Jid, kind: str) -> list[Device]:
    """A retry goes to the very device that sent; the rest to all devices of the sender."""
    if kind == "retry":
        device = receiver.devices.get(author.device)
        return [device] if device is not None else []
    return list(receiver.devices.values())


def _forwarded(world: World, device: Device, stanza: Node, to: Jid, kind: str) -> Node:
    attrs: dict[str, Attribute] = {
        "from": to if to.is_group else device.lid,
        "id": stanza.text("id"),
        "t": str(world.clock()),
        "type": kind,
    }
    if to.is_group:
        attrs["participant"] = device.lid
    return Node("receipt", attrs, stanza.content)
