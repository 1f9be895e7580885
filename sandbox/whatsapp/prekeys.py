"""Prekeys: public keys a device leaves with the server, so that others can write to it first."""

import hashlib

import msgspec

from sandbox.whatsapp.curve import KEY_SIZE, KEY_TYPE
from sandbox.whatsapp.directory import Device
from sandbox.whatsapp.jid import SERVER, Jid
from sandbox.whatsapp.refusals import RefusedError
from sandbox.whatsapp.signal import PublicKeys
from sandbox.whatsapp.wabinary import Node, leaf, node
from sandbox.whatsapp.world import World
from sandbox.whatsapp.x3dh import PreKey, PreKeyBundle, SignedPreKey

FEW = 5  # below this whatsmeow uploads more, if it is told


def count(_world: World, device: Device, _query: Node) -> tuple[Node, ...]:
    return (node("count", {"value": str(len(device.one_time))}),)


def upload(_world: World, device: Device, query: Node) -> tuple[Node, ...]:
    """Keep the one-time keys of a device, and its signed key if it made a new one."""
    keys, keylist = query.child("skey"), query.child("list")
    identity, registration = query.child("identity"), query.child("registration")
    if keys is None or keylist is None or identity is None or registration is None:
        raise RefusedError(406)
    number = int.from_bytes(registration.data, "big")
    device.keys = PublicKeys(number, identity.data, _signed(keys), ())
    known = {key.id for key in device.one_time}
    fresh = [PreKey(*_numbered(key)) for key in keylist.all("key")]
    device.one_time.extend(key for key in fresh if key.id not in known)
    return ()


def rotate(_world: World, device: Device, query: Node) -> tuple[Node, ...]:
    keys = query.children[0].child("skey")
    if keys is None:
        raise RefusedError(406)
    device.keys = msgspec.structs.replace(device.keys, signed_prekey=_signed(keys))
    return ()


def digest(_world: World, device: Device, _query: Node) -> tuple[Node, ...]:
    """Tell a device what we hold of it, so that it can compare (Baileys asks at login)."""
    keys = device.keys
    one_time = [key.public for key in device.one_time]
    whole = (
        keys.identity
        + keys.signed_prekey.public
        + keys.signed_prekey.signature
        + b"".join(one_time)
    )
    listed = [leaf("id", key.id.to_bytes(3, "big")) for key in device.one_time]
    parts = [
        leaf("registration", keys.registration_id.to_bytes(4, "big")),
        leaf("type", KEY_TYPE),
        leaf("identity", keys.identity),
        _signed_node(keys.signed_prekey),
        node("list", {}, *listed),
        leaf("hash", hashlib.sha1(whole, usedforsecurity=False).digest()),
    ]
    return (node("digest", {}, *parts),)


def fetch(world: World, _device: Device, query: Node) -> tuple[Node, ...]:
    """Hand out one bundle a device asked for; each one-time key is given away once."""
    users = [_bundle(world, user.jid("jid")) for user in query.children[0].all("user")]
    return (node("list", {}, *users),)


def _bundle(world: World, jid: Jid | None) -> Node:
    if jid is None:
        raise RefusedError(400)
    device = world.directory.device(jid)
    if device is None:
        error = node("error", {"code": "404", "text": "item-not-found"})
        return node("user", {"jid": jid}, error)
    return node("user", {"jid": jid}, *bundle_parts(take(world, device)))


def bundle_parts(keys: PreKeyBundle) -> list[Node]:
    """A bundle as it stands in answers and, but for the registration, in retry receipts."""
    parts = [
        leaf("registration", keys.registration_id.to_bytes(4, "big")),
        leaf("type", KEY_TYPE),
        leaf("identity", keys.identity),
        _signed_node(keys.signed_prekey),
    ]
    if keys.one_time is not None:
        parts.append(_numbered_node("key", keys.one_time.id, keys.one_time.public))
    return parts


def read_bundle(registration_id: int, keys: Node) -> PreKeyBundle:
    """Read the keys of a retry receipt; RefusedError if one is missing or has a wrong size."""
    identity, signed, one_time = keys.child("identity"), keys.child("skey"), keys.child("key")
    if identity is None or signed is None or len(identity.data) != KEY_SIZE:
        raise RefusedError(406)
    key = PreKey(*_numbered(one_time)) if one_time is not None else None
    return PreKeyBundle(registration_id, identity.data, _signed(signed), key)


def take(world: World, device: Device) -> PreKeyBundle:
    """Give away a device's keys, and ask the device for more when few are left."""
    one_time = device.one_time.popleft() if device.one_time else None
    if len(device.one_time) == FEW - 1:
        ask_for_more(world, device)
    return device.keys.bundle(one_time)


def ask_for_more(world: World, device: Device) -> None:
    attrs = {
        "from": SERVER,
        "id": world.new_id(),
        "t": str(world.clock()),
        "type": "encrypt",
    }
    left = node("count", {"value": str(len(device.one_time))})
    world.deliver(device, node("notification", attrs, left))


def _signed(keys: Node) -> SignedPreKey:
    number, public = _numbered(keys)
    signature = keys.child("signature")
    if signature is None or len(signature.data) != 64:
        raise RefusedError(406)
    return SignedPreKey(number, public, signature.data)


def _numbered(key: Node) -> tuple[int, bytes]:
    number, value = key.child("id"), key.child("value")
    if number is None or value is None or len(value.data) != KEY_SIZE:
        raise RefusedError(406)
    return int.from_bytes(number.data, "big"), value.data


def _numbered_node(tag: str, number: int, public: bytes, *more: Node) -> Node:
    return node(tag, {}, leaf("id", number.to_bytes(3, "big")), leaf("value", public), *more)


def _signed_node(key: SignedPreKey) -> Node:
    return _numbered_node("skey", key.id, key.public, leaf("signature", key.signature))
