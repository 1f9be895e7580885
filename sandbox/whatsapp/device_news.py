"""Telling clients that somebody's devices changed, so that they write to the right ones.

Clients remember device lists. A user's own companions are told the whole new list; everybody else
only that what they remember is out of date.
"""

import base64
import hashlib
from collections.abc import Iterable

from sandbox.whatsapp.directory import Device, User
from sandbox.whatsapp.jid import Jid
from sandbox.whatsapp.wabinary import Attribute, Node, node
from sandbox.whatsapp.world import World


def announce(world: World, user: User, but: Device | None = None) -> None:
    """Tell every companion on the network about a user's devices, except the new one itself."""
    addresses = [device.pn for device in user.devices.values()]
    digest = devices_hash(addresses)
    listed = [node("device", {"jid": jid}) for jid in addresses]
    own = node("devices", {"dhash": digest}, *listed)
    outdated = node("update", {"device_hash": digest})
    for device in list(world.directory.companions()):
        if device is but:
            continue
        if device.user is user:
            world.deliver(device, _notification(world, user.pn, "account_sync", own))
        else:
            for address in (user.pn, user.lid):
                world.deliver(device, _notification(world, address, "devices", outdated))


def devices_hash(devices: Iterable[Jid]) -> str:
    """The short name of a list of devices that clients compare (whatsmeow, send.go)."""
    names = sorted(f"{jid.user}.0:{jid.device}@{jid.server}" for jid in devices)
    digest = hashlib.sha256("".join(names).encode()).digest()[:6]
    return "2:" + base64.b64encode(digest).decode().rstrip("=")


def _notification(world: World, origin: Jid, kind: str, what: Node) -> Node:
    attrs: dict[str, Attribute] = {
        "from": origin,
        "id": world.new_id(),
        "t": str(world.clock()),
        "type": kind,
    }
    return node("notification", attrs, what)
