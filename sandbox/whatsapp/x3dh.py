"""How a session begins: extended triple Diffie-Hellman, from a bundle of public prekeys.

The initiator agrees with the identity, the signed prekey and, while there is one, a one-time prekey
of a device that may be offline; its first messages carry all the other side needs to arrive at the
same secret (Signal, "The X3DH Key Agreement Protocol", revision 1; constants as in Signal's
messages of version 3).
"""

from typing import Self

import msgspec

from sandbox.whatsapp import curve, wire
from sandbox.whatsapp.chain import Chain, ReceivingChain
from sandbox.whatsapp.curve import KeyPair, Rand
from sandbox.whatsapp.ratchet import VERSION, Session, Unanswered, body, root_step
from sandbox.whatsapp.signal_errors import BadSignatureError, malformed
from sandbox.whatsapp.symmetric import hkdf


class PreKey(msgspec.Struct, frozen=True):
    """A public one-time prekey. The id is 1 to 2^24 - 1: zero means that there is none."""

    id: int
    public: bytes


class SignedPreKey(msgspec.Struct, frozen=True):
    """A public prekey, and the identity's signature over its 33 typed bytes."""

    id: int
    public: bytes
    signature: bytes


class PreKeyBundle(msgspec.Struct, frozen=True):
    """What a server hands out about a device, so that somebody can begin a session with it."""

    registration_id: int
    identity: bytes
    signed_prekey: SignedPreKey
    one_time: PreKey | None = None


class PreKeyMessage(msgspec.Struct, frozen=True):
    """A message of a session the other side may not have yet; `message` is the Signal message."""

    registration_id: int
    base_key: bytes
    identity: bytes
    message: bytes
    prekeys: Unanswered

    def encode(self) -> bytes:
        """Write the message as it travels."""
        return VERSION + wire.encode(
            (1, self.prekeys.one_time_id),
            (2, curve.with_type(self.base_key)),
            (3, curve.with_type(self.identity)),
            (4, self.message),
            (5, self.registration_id),
            (6, self.prekeys.signed_prekey_id),
        )

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read a message; MalformedMessageError if it is none."""
        with malformed():
            fields = wire.Fields.decode(body(data))
            return cls(
                registration_id=fields.number(5, 0),
                base_key=curve.without_type(fields.data(2)),
                identity=curve.without_type(fields.data(3)),
                message=fields.data(4),
                # Writers without a one-time prekey leave its id out or write zero.
                prekeys=Unanswered(fields.number(6, 0), fields.number(1, 0) or None),
            )


def sign_prekey(identity: KeyPair, prekey: KeyPair, number: int, rand: Rand) -> SignedPreKey:
    """Return the public, signed form of a prekey."""
    signature = curve.sign(identity.private, curve.with_type(prekey.public), rand)
    return SignedPreKey(number, prekey.public, signature)


def initiate(identity: KeyPair, bundle: PreKeyBundle, rand: Rand) -> Session:
    """Begin a session with the device that published `bundle`.

    Raises:
        BadSignatureError: the identity in the bundle did not sign its prekey.
        MalformedMessageError: a key in it is of small order or of the wrong size.
    """
    signed, one_time = bundle.signed_prekey, bundle.one_time
    if not curve.verify(bundle.identity, curve.with_type(signed.public), signed.signature):
        raise BadSignatureError("the bundle's prekey is not signed by its identity")
    base, ratchet = curve.generate(rand), curve.generate(rand)
    agreements = [
        (identity, signed.public),
        (base, bundle.identity),
        (base, signed.public),
    ]
    if one_time is not None:
        agreements.append((base, one_time.public))
    root, receiving_key = _master_keys(agreements)
    root, sending_key = root_step(root, ratchet.private, signed.public)
    return Session(
        ours=identity.public,
        theirs=bundle.identity,
        base_key=base.public,
        root=root,
        ratchet=ratchet,
        sending=Chain(sending_key),
        # The responder's first ratchet key is its signed prekey: it could answer at once.
        receiving={signed.public: ReceivingChain(Chain(receiving_key))},
        unanswered=Unanswered(signed.id, one_time.id if one_time else None),
    )


def respond(
    identity: KeyPair, signed_prekey: KeyPair, one_time: KeyPair | None, message: PreKeyMessage
) -> Session:
    """Join the session that `message` begins; the message itself is then read with it."""
    agreements = [
        (signed_prekey, message.identity),
        (identity, message.base_key),
        (signed_prekey, message.base_key),
    ]
    if one_time is not None:
        agreements.append((one_time, message.base_key))
    root, sending_key = _master_keys(agreements)
    return Session(
        ours=identity.public,
        theirs=message.identity,
        base_key=message.base_key,
        root=root,
        ratchet=signed_prekey,
        sending=Chain(sending_key),
    )


def _master_keys(agreements: list[tuple[KeyPair, bytes]]) -> tuple[bytes, bytes]:
    # 32 bytes of FF come first, so that the input can never be the encoding of a point
    # (X3DH, section 2.2).
    with malformed():
        secrets = [curve.agree(ours.private, theirs) for ours, theirs in agreements]
    derived = hkdf(b"".join([b"\xff" * 32, *secrets]), 64, b"WhisperText")
    return derived[:32], derived[32:]
