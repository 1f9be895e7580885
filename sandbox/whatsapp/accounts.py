"""A user's own settings, and the end of a companion."""

import hashlib

from sandbox.whatsapp.connection import Connection
from sandbox.whatsapp.device_news import announce
from sandbox.whatsapp.directory import Device
from sandbox.whatsapp.jid import SERVER, Jid
from sandbox.whatsapp.media import HOST
from sandbox.whatsapp.refusals import RefusedError
from sandbox.whatsapp.wabinary import Attribute, Node, leaf, node
from sandbox.whatsapp.world import World

REMOVED = node("stream:error", {"code": "401"}, node("conflict", {"type": "device_removed"}))
FLAP = 0.1  # seconds a connection lives that is welcomed and closed
PRIVACY = dict.fromkeys(
    (
        *("groupadd", "last", "status", "profile", "readreceipts", "online", "calladd"),
        *("messages", "defense", "stickers"),
    ),
    "all",
)


def activate(world: World, device: Device, _query: Node) -> tuple[Node, ...]:
    """A companion is ready to live; the first time, its phone gives it what it needs."""
    connection, faults = device.outlet, device.user.faults
    if faults.flaps and isinstance(connection, Connection):
        faults.flaps -= 1
        world.later(FLAP, connection.end)
    phone = device.user.devices.get(0)
    if not device.greeted and phone is not None and phone.outlet is not None:
        device.greeted = True
        world.deliver(phone, node("notification", {"type": "companion", "from": device.lid}))
    return ()


def log_out(world: World, device: Device, query: Node) -> tuple[Node, ...]:
    """A companion leaves, or removes another one of the same user."""
    target = query.children[0].jid("jid")
    leaving = device.user.devices.get(target.device) if target is not None else device
    if leaving is None or leaving.number == 0:
        raise RefusedError(404)
    world.later(0.05, lambda: remove(world, leaving))
    return ()


def remove(world: World, device: Device) -> None:
    """Unlink a companion: its keys are forgotten, its connection told and closed."""
    device.user.devices.pop(device.number, None)
    if isinstance(device.outlet, Connection):
        device.outlet.end(REMOVED)
    for user in world.directory:
        user.watchers.discard(device)
    announce(world, device.user)


def get_privacy(_world: World, device: Device, _query: Node) -> tuple[Node, ...]:
    values = PRIVACY | device.user.privacy
    categories = [node("category", {"name": name, "value": values[name]}) for name in values]
    return (node("privacy", {}, *categories),)


def set_privacy(_world: World, device: Device, query: Node) -> tuple[Node, ...]:
    for category in query.children[0].all("category"):
        device.user.privacy[category.text("name")] = category.text("value")
    return ()


def get_blocked(_world: World, device: Device, _query: Node) -> tuple[Node, ...]:
    blocked = sorted(device.user.blocked)
    digest = hashlib.sha256(repr(blocked).encode()).hexdigest()[:16]
    return (node("list", {"dhash": digest}, *(node("item", {"jid": jid}) for jid in blocked)),)


def set_blocked(world: World, device: Device, query: Node) -> tuple[Node, ...]:
    item = query.children[0]
    user = world.directory.user(item.jid("jid"))
    if user is None:
        raise RefusedError(404)
    if item.text("action") == "unblock":
        device.user.blocked.discard(user.lid)
    else:
        device.user.blocked.add(user.lid)
    return get_blocked(world, device, query)


def get_picture(world: World, device: Device, query: Node) -> tuple[Node, ...]:
    target = query.jid("target") or query.jid("to")
    user = device.user if target in (None, SERVER) else world.directory.user(target)
    if user is None or user.picture is None:
        raise RefusedError(404)
    path = f"/v/{user.picture}?ccb=1"
    attrs = {"id": user.picture, "type": "image", "direct_path": path}
    return (node("picture", attrs | {"url": f"https://{HOST}{path}"}),)


def set_picture(world: World, device: Device, query: Node) -> tuple[Node, ...]:
    picture = query.child("picture")
    if picture is None:
        device.user.picture = None
        return ()
    device.user.picture = world.media.put(picture.data)
    return (node("picture", {"id": device.user.picture}),)


def business_profile(_world: World, _device: Device, query: Node) -> tuple[Node, ...]:
    """Nobody here is a business; a profile says so by being nearly empty."""
    asked = query.children[0].children if query.children else ()
    jids: list[Jid] = [jid for child in asked if (jid := child.jid("jid")) is not None]
    hours = node("business_hours", {"timezone": "Etc/UTC"})
    profiles = [node("profile", {"jid": jid}, hours) for jid in jids]
    return (node("business_profile", {}, *profiles),)


def status_privacy(_world: World, _device: Device, _query: Node) -> tuple[Node, ...]:
    attrs: dict[str, Attribute] = {"type": "contacts", "default": "true"}
    return (node("privacy", {}, node("list", attrs)),)


def set_about(_world: World, device: Device, query: Node) -> tuple[Node, ...]:
    device.user.about = query.children[0].data.decode(errors="replace")
    return ()


def properties(_world: World, _device: Device, _query: Node) -> tuple[Node, ...]:
    """What the server switches on and off in clients: nothing here."""
    return (node("props", {"protocol": "1", "hash": "sandbox"}),)


def mex(_world: World, _device: Device, _query: Node) -> tuple[Node, ...]:
    """Queries in GraphQL: an empty answer satisfies what clients need of them here."""
    return (leaf("result", b'{"data":{}}'),)
