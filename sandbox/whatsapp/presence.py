"""Who is online, who is typing. Nothing of this waits for a device that is away."""

from sandbox.whatsapp.directory import Device, User
from sandbox.whatsapp.jid import Jid
from sandbox.whatsapp.wabinary import Node, node
from sandbox.whatsapp.world import World


def route(world: World, device: Device, stanza: Node) -> None:
    """Note a device's own presence, or that it wants to follow somebody's."""
    match stanza.text("type"):
        case "subscribe":
            watched = world.directory.user(stanza.jid("to"))
            if watched is not None:
                watched.watchers.add(device)
                world.deliver(device, presence_of(watched, stanza.jid("to") or watched.lid))
        case "unavailable":
            set_available(world, device, available=False)
        case _:
            set_available(world, device, available=True)


def set_available(world: World, device: Device, *, available: bool) -> None:
    before = device.user.available
    device.available = available
    if device.user.available != before:
        if before:
            device.user.last_seen = world.clock()
        for watcher in device.user.watchers:
            world.deliver(watcher, presence_of(device.user, device.user.lid))


def presence_of(user: User, address: Jid) -> Node:
    if user.available:
        return node("presence", {"from": address})
    last = str(user.last_seen) if user.last_seen else "deny"
    return node("presence", {"from": address, "type": "unavailable", "last": last})


def route_chatstate(world: World, device: Device, stanza: Node) -> None:
    """Carry "typing" to the other side of a chat."""
    to = stanza.jid("to")
    state = stanza.children[:1]
    if to is None or not state:
        return
    if to.is_group:
        members = world.groups.members(to)
        attrs = {"from": to, "participant": device.user.lid}
        users = [user for user in members if user is not device.user]
    else:
        found = world.directory.user(to)
        attrs = {"from": device.user.lid}
        users = [found] if found is not None else []
    for user in users:
        for other in user.devices.values():
            world.deliver(other, node("chatstate", attrs, *state))
