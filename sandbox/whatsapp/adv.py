"""How a phone vouches for a device it links ("ADV", the account's device verification).

The phone's identity key signs the companion's identity, and the companion signs back. An HMAC with
the secret in the QR code proves to the companion that this phone saw the code; without a QR code
the secret comes from the exchange that the pairing code opens.
"""

import binascii
import hmac
from base64 import b64decode
from typing import Self

import msgspec

from sandbox.whatsapp import curve, wire
from sandbox.whatsapp.curve import KEY_SIZE, KeyPair, Rand
from sandbox.whatsapp.symmetric import hmac_sha256

_ACCOUNT_SIGNS = b"\x06\x00"
_DEVICE_SIGNS = b"\x06\x01"


class LinkError(ValueError):
    """Linking cannot go on.

    LinkError
    ├── QrError         the text is not a linking code of this network
    └── IdentityError   a signed device identity is malformed or not signed as it must be
    """


class QrError(LinkError):
    """The scanned text is not the QR code of a device that wants to be linked."""


class IdentityError(LinkError):
    """A device identity is malformed, or a signature on it is not the one it needs."""


class QrCode(msgspec.Struct, frozen=True):
    """What the QR code of a companion says.

    `ref` names its connection to the server; the keys and the secret have 32 bytes each.
    `client_type` is the kind of browser; older clients leave it out.
    """

    ref: str
    noise: bytes
    identity: bytes
    adv_secret: bytes
    client_type: str | None = None

    def __repr__(self) -> str:
        return f"QrCode(ref={self.ref!r}, identity={self.identity.hex()})"


class SignedIdentity(msgspec.Struct, frozen=True):
    """A device identity and who signed it. `details` is kept as it was signed, byte for byte."""

    details: bytes
    account_key: bytes
    account_signature: bytes
    device_signature: bytes | None = None

    def encode(self) -> bytes:
        """Write the identity as it travels."""
        return wire.encode(
            (1, self.details),
            (2, self.account_key),
            (3, self.account_signature),
            (4, self.device_signature),
        )

    @classmethod
    def decode(cls, data: bytes, account_key: bytes | None = None) -> Self:
        """Read an identity; a companion's answer leaves the account's key out, so give it.

        Raises:
            IdentityError: malformed, or without an account key from either side.
        """
        try:
            fields = wire.Fields.decode(data)
            return cls(
                details=fields.data(1),
                account_key=fields.data(2, KEY_SIZE) if account_key is None else account_key,
                account_signature=fields.data(3),
                device_signature=fields.data(4) if fields.has(4) else None,
            )
        except wire.WireError as error:
            raise IdentityError("not a signed device identity") from error

    def verify(self, companion: bytes) -> None:
        """Raise IdentityError unless account and companion have signed each other."""
        if not curve.verify(
            self.account_key, _ACCOUNT_SIGNS + self.details + companion, self.account_signature
        ):
            raise IdentityError("the account did not sign this device")
        signed = _DEVICE_SIGNS + self.details + companion + self.account_key
        if not curve.verify(companion, signed, self.device_signature or b""):
            raise IdentityError("the device did not sign this account")


class Offer(msgspec.Struct, frozen=True):
    """A device identity on its way to the companion.

    `envelope` is the content of `device-identity` in `pair-success`; `signed` lacks the companion's
    signature until `accept` has read its answer.
    """

    key_index: int
    companion: bytes
    signed: SignedIdentity
    envelope: bytes


class Account(msgspec.Struct, frozen=True):
    """The phone's account: its identity key, and the index the next linked device gets.

    The identity is the phone's Signal identity too: a companion takes it for that of device 0.
    """

    identity: KeyPair
    raw_id: int
    next_key_index: int = 1

    @classmethod
    def create(cls, rand: Rand) -> Self:
        """Make a new account."""
        return cls(curve.generate(rand), int.from_bytes(rand(4), "big"))

    def offer(
        self, companion: bytes, adv_secret: bytes, timestamp: int, rand: Rand
    ) -> tuple[Self, Offer]:
        """Sign a companion's identity key; `timestamp` is in Unix seconds.

        Returns the account with the next index, and what the server sends to the companion.
        """
        index = self.next_key_index
        details = wire.encode((1, self.raw_id), (2, timestamp), (3, index))
        signature = curve.sign(self.identity.private, _ACCOUNT_SIGNS + details + companion, rand)
        signed = SignedIdentity(details, self.identity.public, signature)
        inner = signed.encode()
        envelope = wire.encode((1, inner), (2, hmac_sha256(adv_secret, inner)))
        following = msgspec.structs.replace(self, next_key_index=index + 1)
        return following, Offer(index, companion, signed, envelope)


def parse_qr(text: str) -> QrCode:
    """Read a QR code: with the address of the linking page in front and the type behind, or bare.

    Raises:
        QrError: a part is missing, or a key is not 32 bytes of base64.
    """
    parts = text.strip().rpartition("#")[2].split(",")
    if len(parts) not in (4, 5) or not parts[0]:
        raise QrError("a linking code has a reference, three keys and perhaps a type")
    noise, identity, adv_secret = (_key(part) for part in parts[1:4])
    return QrCode(parts[0], noise, identity, adv_secret, parts[4] if len(parts) == 5 else None)


def accept(offer: Offer, answer: bytes) -> SignedIdentity:
    """Read the content of `pair-device-sign` and return the identity signed by both.

    Raises:
        IdentityError: it is not the offered identity with the companion's signature.
    """
    signed = SignedIdentity.decode(answer, offer.signed.account_key)
    if signed.details != offer.signed.details:
        raise IdentityError("the device answered about another identity")
    signed.verify(offer.companion)
    return signed


def open_envelope(envelope: bytes, adv_secret: bytes) -> SignedIdentity:
    """Read `Offer.envelope` as the companion does.

    Raises:
        IdentityError: malformed, or made by somebody who does not know the secret.
    """
    try:
        fields = wire.Fields.decode(envelope)
        inner, mac = fields.data(1), fields.data(2)
    except wire.WireError as error:
        raise IdentityError("not a device identity with its HMAC") from error
    if not hmac.compare_digest(mac, hmac_sha256(adv_secret, inner)):
        raise IdentityError("the phone does not know the secret of this code")
    return SignedIdentity.decode(inner)


def _key(text: str) -> bytes:
    try:
        key = b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise QrError("a key in the linking code is not base64") from error
    if len(key) != KEY_SIZE:
        raise QrError(f"a key in the linking code has {len(key)} bytes instead of {KEY_SIZE}")
    return key
