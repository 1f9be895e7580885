"""Looking people up: who is on WhatsApp, under which addresses, with which devices."""

from collections.abc import Iterator

from sandbox.whatsapp.directory import Device, User
from sandbox.whatsapp.jid import Jid, phone
from sandbox.whatsapp.refusals import RefusedError
from sandbox.whatsapp.wabinary import Attribute, Node, leaf, node
from sandbox.whatsapp.world import World

# Attributes of the question that its answer repeats.
ECHOED = ("sid", "index", "last", "mode", "context")


def answer(world: World, _device: Device, query: Node) -> tuple[Node, ...]:
    """Answer for each person asked about, with the parts asked for."""
    usync = query.children[0]
    wanted, people = usync.child("query"), usync.child("list")
    if wanted is None or people is None:
        raise RefusedError(400)
    users = [_user(world, person, wanted) for person in people.all("user")]
    attrs = {name: usync.attrs[name] for name in ECHOED if name in usync.attrs}
    done = node("result", {}, *(node(part.tag) for part in wanted.children))
    return (node("usync", attrs, done, node("list", {}, *users)),)


def _user(world: World, person: Node, wanted: Node) -> Node:
    contact = person.child("contact")
    jid = person.jid("jid") or (_dialled(contact) if contact is not None else None)
    if jid is None:
        raise RefusedError(400)
    user = world.directory.user(jid)
    attrs: dict[str, Attribute] = {"jid": jid}
    asked = wanted.child("contact")
    if user is not None and asked is not None and asked.text("addressing_mode") == "lid":
        attrs = {"jid": user.lid, "pn_jid": user.pn}
    return node("user", attrs, *_parts(user, contact, wanted))


def _dialled(contact: Node) -> Jid:
    number = contact.data.decode(errors="replace").partition("@")[0]
    return phone(number.removeprefix("+"))


def _parts(user: User | None, contact: Node | None, wanted: Node) -> Iterator[Node]:
    if wanted.child("contact") is not None:
        kind = {"type": "in" if user is not None else "out"}
        yield Node("contact", kind, contact.content if contact is not None else None)
    if user is None:
        return
    if wanted.child("devices") is not None:
        yield node("devices", {}, node("device-list", {}, *_devices(user)))
    if wanted.child("lid") is not None:
        yield node("lid", {"val": user.lid})
    if wanted.child("status") is not None:
        yield leaf("status", user.about.encode())
    if wanted.child("picture") is not None and user.picture is not None:
        yield node("picture", {"id": user.picture})


def _devices(user: User) -> Iterator[Node]:
    for number, device in sorted(user.devices.items()):
        index = {"key-index": str(device.key_index)} if number else {}
        yield node("device", {"id": str(number), **index})
