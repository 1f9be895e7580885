"""What a client says at the end of the handshake: "register me", or "I am this device".

The message is `ClientPayload` of WhatsApp's `waWa6` definitions; a client without a user name
wants to be paired and brings its public keys along.
"""

import msgspec

from sandbox.whatsapp import wire
from sandbox.whatsapp.curve import KEY_TYPE, verify, with_type
from sandbox.whatsapp.signal import PublicKeys
from sandbox.whatsapp.x3dh import SignedPreKey


class PayloadError(ValueError):
    """A payload that neither registers nor logs in."""


class Registration(msgspec.Struct, frozen=True):
    keys: PublicKeys


class Login(msgspec.Struct, frozen=True):
    number: str
    device: int
    pull: bool


def read_payload(payload: bytes) -> Registration | Login:
    """Read a client's payload.

    Raises:
        PayloadError: it is malformed, or its signed prekey is not signed by its identity.
    """
    try:
        fields = wire.Fields.decode(payload)
        if fields.has(1):
            pull = bool(fields.number(33, 0))
            return Login(str(fields.number(1)), fields.number(18, 0), pull)
        keys = _device_keys(fields.message(19))
    except wire.WireError as error:
        raise PayloadError("no client payload") from error
    signed = keys.signed_prekey
    if not verify(keys.identity, with_type(signed.public), signed.signature):
        raise PayloadError("the signed prekey is not signed by the identity")
    return Registration(keys)


def _device_keys(pairing: wire.Fields) -> PublicKeys:
    if pairing.data(2) != KEY_TYPE:
        raise PayloadError("keys of an unknown type")
    signed = SignedPreKey(
        int.from_bytes(pairing.data(4, 3), "big"), pairing.data(5, 32), pairing.data(6, 64)
    )
    registration = int.from_bytes(pairing.data(1, 4), "big")
    return PublicKeys(registration, pairing.data(3, 32), signed, ())
