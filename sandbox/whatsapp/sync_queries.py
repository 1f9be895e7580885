"""App state: settings a user's devices share as sealed patches. The server keeps their order."""

from sandbox.whatsapp.appstate import number
from sandbox.whatsapp.directory import Device, Patch, User
from sandbox.whatsapp.jid import SERVER
from sandbox.whatsapp.refusals import RefusedError
from sandbox.whatsapp.wabinary import Attribute, Node, leaf, node
from sandbox.whatsapp.world import World


def sync(world: World, device: Device, query: Node) -> tuple[Node, ...]:
    """Take a device's patches and give it those it lacks."""
    collections = query.children[0].all("collection")
    if any(not collection.text("name") for collection in collections):
        raise RefusedError(400)
    answers = [_collection(world, device, collection) for collection in collections]
    return (node("sync", {}, *answers),)


def _collection(world: World, device: Device, asked: Node) -> Node:
    name, known = asked.text("name"), _number(asked.text("version"))
    patches = device.user.app_state.setdefault(name, [])
    fresh = asked.child("patch")
    attrs: dict[str, Attribute] = {"name": name}
    if fresh is not None and known == len(patches):
        append(world, device.user, name, fresh.data, by=device)
        return node("collection", attrs | {"version": str(len(patches))})
    attrs["version"] = str(len(patches))
    newer = [leaf("patch", patch.data) for patch in patches[known:]]
    inside = [node("patches", {}, *newer)] if newer else []
    if fresh is not None:
        attrs["type"] = "error"
        inside.append(node("error", {"code": "409", "text": "conflict"}))
    return node("collection", attrs, *inside)


def publish(user: User, name: str, patch: bytes) -> None:
    """Take a patch that has its number already, from the phone itself."""
    patches = user.app_state.setdefault(name, [])
    patches.append(Patch(len(patches) + 1, patch))


def append(world: World, user: User, name: str, data: bytes, by: Device | None = None) -> None:
    """Give a patch the next version, written into it, and tell the user's other devices."""
    patches = user.app_state.setdefault(name, [])
    version = len(patches) + 1
    patches.append(Patch(version, number(data, version)))
    for device in user.companions:
        if device is not by:
            attrs = {
                "from": SERVER,
                "id": world.new_id(),
                "t": str(world.clock()),
                "type": "server_sync",
            }
            news = node("collection", {"name": name, "version": str(version)})
            world.deliver(device, node("notification", attrs, news))


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else 0
