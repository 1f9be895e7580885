"""App state: settings that phone and linked devices share through a server that cannot read them.

A collection is a map kept as a sequence of patches. Each device can check that nothing was left
out: a patch commits to a hash of the whole collection (LTHash: sums, so that entries come and go in
any order) and carries MACs over its values, itself and that hash. A simulated phone writes its name
here; without it a companion cannot announce its presence.
"""

import hmac
import struct
from collections.abc import Mapping, Sequence
from enum import IntEnum

import msgspec

from sandbox.whatsapp import wire
from sandbox.whatsapp.curve import Rand
from sandbox.whatsapp.symmetric import (
    CipherError,
    cbc_decrypt,
    cbc_encrypt,
    hkdf,
    hmac_sha256,
)

CRITICAL_BLOCK = "critical_block"
"""The collection of the account's own settings, the name among them."""

HASH_SIZE = 128
"""Bytes of a collection's hash: 64 sums of 16 bits."""

MAC_SIZE = 32
IV_SIZE = 16

_LANES = struct.Struct("<64H")
_PUSH_NAME_FIELD = 7  # SyncActionValue.pushNameSetting
_PUSH_NAME_VERSION = 1  # of this kind of action, as phones write it


class AppStateError(ValueError):
    """A patch is malformed, or does not follow from what came before it.

    AppStateError
    ├── UnknownKeyError     it is encrypted with a key that was not shared with us
    └── BadPatchMacError    a MAC is wrong: something was changed, left out or put elsewhere
    """


class UnknownKeyError(AppStateError):
    """No key is known under the id in the patch."""


class BadPatchMacError(AppStateError):
    """A MAC does not match; the message says which."""


class Operation(IntEnum):
    """What a mutation does to its index."""

    SET = 0
    REMOVE = 1


class SyncKey(msgspec.Struct, frozen=True):
    """A key the phone shares with its companions (APP_STATE_SYNC_KEY_SHARE).

    `id` is six bytes by custom, two of the device and four of a counter; `data` is 32 secret bytes.
    """

    id: bytes
    data: bytes


class Mutation(msgspec.Struct, frozen=True):
    """One change: `value` is a SyncActionValue in bytes, `version` that of this kind of action."""

    index: tuple[str, ...]
    value: bytes
    version: int
    operation: Operation = Operation.SET


class Collection(msgspec.Struct, frozen=True):
    """What is remembered of a collection: version, hash, and by index MAC the MAC of the value."""

    name: str
    version: int = 0
    hash: bytes = bytes(HASH_SIZE)
    values: dict[bytes, bytes] = {}


class _Keys(msgspec.Struct, frozen=True):
    index: bytes
    value: bytes
    value_mac: bytes
    snapshot_mac: bytes
    patch_mac: bytes


class _Record(msgspec.Struct, frozen=True):
    operation: Operation
    index_mac: bytes
    blob: bytes
    value_mac: bytes

    def encode(self, key_id: bytes) -> bytes:
        record = wire.encode(
            (1, wire.encode((1, self.index_mac))),
            (2, wire.encode((1, self.blob + self.value_mac))),
            (3, wire.encode((1, key_id))),
        )
        return wire.encode((1, self.operation), (2, record))


def create_key(number: int, rand: Rand) -> SyncKey:
    """Make a key; `number` counts the keys of the phone (device 0)."""
    return SyncKey(struct.pack(">HI", 0, number), rand(32))


def push_name(name: str, timestamp_ms: int) -> Mutation:
    """Set the account's name; it belongs in CRITICAL_BLOCK."""
    value = wire.encode((1, timestamp_ms), (_PUSH_NAME_FIELD, wire.encode((1, name))))
    return Mutation(("setting_pushName",), value, _PUSH_NAME_VERSION)


def read_push_name(mutation: Mutation) -> str | None:
    """Return the name a mutation sets, None if it sets something else."""
    if mutation.index != ("setting_pushName",) or mutation.operation is not Operation.SET:
        return None
    try:
        return wire.Fields.decode(mutation.value).message(_PUSH_NAME_FIELD).text(1)
    except wire.WireError as error:
        raise AppStateError("the name setting has no name") from error


def seal(
    collection: Collection, key: SyncKey, mutations: Sequence[Mutation], rand: Rand
) -> tuple[Collection, bytes]:
    """Write the next patch; returns the collection that follows, and the patch with its version."""
    keys = _expand(key)
    records = [_seal_mutation(keys, key.id, mutation, rand) for mutation in mutations]
    following = _advance(collection, collection.version + 1, records)
    snapshot_mac = _snapshot_mac(keys, following)
    patch = wire.encode(
        *((2, record.encode(key.id)) for record in records),
        (4, snapshot_mac),
        (5, _patch_mac(keys, snapshot_mac, records, following)),
        (6, wire.encode((1, key.id))),
    )
    return following, number(patch, following.version)


def number(patch: bytes, version: int) -> bytes:
    """Put the version in front of a patch as a companion sent it: the server decides on it."""
    return wire.encode((1, wire.encode((1, version)))) + patch


def unseal(
    collection: Collection, keys: Mapping[bytes, SyncKey], patch: bytes
) -> tuple[Collection, tuple[Mutation, ...]]:
    """Read and verify the next patch of a collection; `keys` are the shared keys by id.

    Raises:
        UnknownKeyError: one of the keys it uses is missing.
        BadPatchMacError: it does not follow from `collection`, or was changed.
        AppStateError: it is malformed, out of sequence, or keeps its mutations elsewhere.
    """
    try:
        fields = wire.Fields.decode(patch)
        version = fields.message(1).number(1)
        snapshot_mac, patch_mac = fields.data(4, MAC_SIZE), fields.data(5, MAC_SIZE)
        patch_key = _expand(_find(keys, fields.message(6).data(1)))
        if fields.has(3):
            raise AppStateError("the mutations are in a media file, which is not supported")
        opened = [_unseal_mutation(keys, data) for data in fields.every(2)]
    except (wire.WireError, CipherError, msgspec.DecodeError) as error:
        raise AppStateError("not a patch") from error
    if version != collection.version + 1:
        raise AppStateError(f"patch {version} does not follow version {collection.version}")
    records = [record for record, _ in opened]
    following = _advance(collection, version, records)
    if not hmac.compare_digest(snapshot_mac, _snapshot_mac(patch_key, following)):
        raise BadPatchMacError("the collection is not the one the patch was made for")
    if not hmac.compare_digest(patch_mac, _patch_mac(patch_key, snapshot_mac, records, following)):
        raise BadPatchMacError("the patch was changed")
    return following, tuple(mutation for _, mutation in opened)


def add(total: bytes, value_mac: bytes) -> bytes:
    """Take an entry into a collection's hash."""
    return _combine(total, value_mac, 1)


def subtract(total: bytes, value_mac: bytes) -> bytes:
    """Take an entry out of a collection's hash: undoes `add`, whatever was added between."""
    return _combine(total, value_mac, -1)


def _combine(total: bytes, value_mac: bytes, sign: int) -> bytes:
    expanded = _LANES.unpack(hkdf(value_mac, HASH_SIZE, b"WhatsApp Patch Integrity"))
    lanes = zip(_LANES.unpack(total), expanded, strict=True)
    return _LANES.pack(*((lane + sign * other) % 2**16 for lane, other in lanes))


def _expand(key: SyncKey) -> _Keys:
    derived = hkdf(key.data, 160, b"WhatsApp Mutation Keys")
    return _Keys(*(derived[start : start + 32] for start in range(0, 160, 32)))


def _find(keys: Mapping[bytes, SyncKey], key_id: bytes) -> SyncKey:
    if key_id not in keys:
        raise UnknownKeyError(f"key {key_id.hex()} was not shared with this device")
    return keys[key_id]


def _seal_mutation(keys: _Keys, key_id: bytes, mutation: Mutation, rand: Rand) -> _Record:
    index = msgspec.json.encode(mutation.index)
    action = wire.encode((1, index), (2, mutation.value), (3, b""), (4, mutation.version))
    iv = rand(IV_SIZE)
    blob = iv + cbc_encrypt(keys.value, iv, action)
    value_mac = _value_mac(keys, key_id, mutation.operation, blob)
    return _Record(mutation.operation, hmac_sha256(keys.index, index), blob, value_mac)


def _unseal_mutation(shared: Mapping[bytes, SyncKey], data: bytes) -> tuple[_Record, Mutation]:
    fields = wire.Fields.decode(data)
    record = fields.message(2)
    key_id = record.message(3).data(1)
    keys = _expand(_find(shared, key_id))
    value = record.message(2).data(1)
    opened = _Record(
        operation=_operation(fields.number(1, Operation.SET)),
        index_mac=record.message(1).data(1, MAC_SIZE),
        blob=value[:-MAC_SIZE],
        value_mac=value[-MAC_SIZE:],
    )
    expected = _value_mac(keys, key_id, opened.operation, opened.blob)
    if not hmac.compare_digest(opened.value_mac, expected):
        raise BadPatchMacError("a value was changed")
    iv, ciphertext = opened.blob[:IV_SIZE], opened.blob[IV_SIZE:]
    action = wire.Fields.decode(cbc_decrypt(keys.value, iv, ciphertext))
    index = action.data(1)
    if not hmac.compare_digest(opened.index_mac, hmac_sha256(keys.index, index)):
        raise BadPatchMacError("a value was put under another index")
    return opened, Mutation(
        index=msgspec.json.decode(index, type=tuple[str, ...]),
        value=action.data(2) if action.has(2) else b"",
        version=action.number(4, 0),
        operation=opened.operation,
    )


def _operation(number: int) -> Operation:
    try:
        return Operation(number)
    except ValueError as error:
        raise AppStateError(f"{number} is no operation") from error


def _advance(collection: Collection, version: int, records: Sequence[_Record]) -> Collection:
    total, values = collection.hash, dict(collection.values)
    for record in records:
        # Removing what is not there is allowed: phones do it for contacts that were never synced.
        previous = values.pop(record.index_mac, None)
        if previous is not None:
            total = subtract(total, previous)
        if record.operation is Operation.SET:
            total = add(total, record.value_mac)
            values[record.index_mac] = record.value_mac
    return Collection(collection.name, version, total, values)


def _value_mac(keys: _Keys, key_id: bytes, operation: Operation, blob: bytes) -> bytes:
    authenticated = bytes([operation + 1]) + key_id + blob + struct.pack(">Q", len(key_id) + 1)
    return hmac.digest(keys.value_mac, authenticated, "sha512")[:MAC_SIZE]


def _snapshot_mac(keys: _Keys, collection: Collection) -> bytes:
    place = struct.pack(">Q", collection.version) + collection.name.encode()
    return hmac_sha256(keys.snapshot_mac, collection.hash, place)


def _patch_mac(
    keys: _Keys, snapshot_mac: bytes, records: Sequence[_Record], following: Collection
) -> bytes:
    place = struct.pack(">Q", following.version) + following.name.encode()
    macs = (record.value_mac for record in records)
    return hmac_sha256(keys.patch_mac, snapshot_mac, *macs, place)
