"""Curve25519 as WhatsApp uses it: key agreement, and signatures made with the very same keys.

Agreement is X25519 (RFC 7748). Signatures are XEdDSA (Signal, "The XEdDSA and VXEdDSA Signature
Schemes", revision 1) in the form Signal's own libraries deploy: the private scalar is used as it
is, and the sign bit of its Edwards public key travels in the top bit of the signature. They
sign the certificates of the Noise handshake, linked devices, prekeys and group messages.

The scalar arithmetic here is Python integers, whose time depends on their value. That is right for
people who do not exist and wrong for anybody's real key.
"""

import hashlib
from collections.abc import Callable

import msgspec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from nacl.bindings import crypto_scalarmult_ed25519_base_noclamp, crypto_sign_open
from nacl.exceptions import BadSignatureError

KEY_SIZE = 32
"""Bytes of a private key, of a public key and of a shared secret."""

SIGNATURE_SIZE = 64
"""Bytes of a signature: the point R, then the scalar s with the sign bit on top."""

KEY_TYPE = b"\x05"
"""What Signal puts before a public key of this curve, in its messages and under signatures."""

Rand = Callable[[int], bytes]
"""Randomness as an argument: asked for n, gives n bytes. `os.urandom` is one."""

_PRIME = 2**255 - 19
_ORDER = 2**252 + 27742317777372353535851937790883648493
_SIGN_BIT = 0x80
# The hash that makes the nonce is told apart from every hash of a point by 2^256 - 2, little
# endian, a value no point encodes to (XEdDSA, section 2.5).
_NONCE_PREFIX = b"\xfe" + b"\xff" * 31


class CurveError(ValueError):
    """A key of the wrong size, or a public key that gives no secret (a point of small order)."""


class KeyPair(msgspec.Struct, frozen=True):
    """A private key and its public key, 32 bytes each."""

    private: bytes
    public: bytes

    def __repr__(self) -> str:
        return f"KeyPair(public={self.public.hex()})"


def generate(rand: Rand) -> KeyPair:
    """Make a key pair from 32 random bytes."""
    return key_pair(rand(KEY_SIZE))


def key_pair(seed: bytes) -> KeyPair:
    """Return the key pair of 32 given bytes, which are clamped first (RFC 7748, section 5)."""
    private = _clamp(seed).to_bytes(KEY_SIZE, "little")
    public = X25519PrivateKey.from_private_bytes(private).public_key()
    return KeyPair(private, public.public_bytes_raw())


def with_type(public: bytes) -> bytes:
    """Return the 33 bytes by which Signal names a public key: its type, then the key."""
    return KEY_TYPE + public


def without_type(typed: bytes) -> bytes:
    """Return the 32-byte key of a 33-byte name; CurveError if it is not one of this curve."""
    if len(typed) != 1 + KEY_SIZE or typed[:1] != KEY_TYPE:
        raise CurveError("not a Curve25519 public key with its type in front")
    return typed[1:]


def agree(private: bytes, public: bytes) -> bytes:
    """Return the 32-byte secret both sides reach.

    Raises:
        CurveError: a key has the wrong size, or the secret would be zero whatever our key is.
    """
    try:
        ours = X25519PrivateKey.from_private_bytes(private)
        return ours.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError as error:
        raise CurveError("these keys do not agree on a secret") from error


def sign(private: bytes, message: bytes, rand: Rand) -> bytes:
    """Sign with an X25519 private key; 64 bytes. The message is signed as it is, without prefix."""
    scalar = _clamp(private) % _ORDER
    public = _edwards_point(scalar)
    nonce = _scalar_hash(_NONCE_PREFIX, private, message, rand(64))
    commitment = _edwards_point(nonce)
    challenge = _scalar_hash(commitment, public, message)
    response = (nonce + challenge * scalar) % _ORDER
    signature = bytearray(commitment + response.to_bytes(KEY_SIZE, "little"))
    signature[-1] |= public[-1] & _SIGN_BIT
    return bytes(signature)


def verify(public: bytes, message: bytes, signature: bytes) -> bool:
    """Tell whether `signature` over `message` was made with the private key of `public`."""
    if len(public) != KEY_SIZE or len(signature) != SIGNATURE_SIZE:
        return False
    edwards = bytearray(_edwards_y(public))
    edwards[-1] |= signature[-1] & _SIGN_BIT
    plain = bytearray(signature)
    plain[-1] &= _SIGN_BIT - 1
    try:
        crypto_sign_open(bytes(plain) + message, bytes(edwards))
    except BadSignatureError:
        return False
    return True


def _clamp(private: bytes) -> int:
    if len(private) != KEY_SIZE:
        raise CurveError(f"a key has {KEY_SIZE} bytes, not {len(private)}")
    return int.from_bytes(private, "little") & (2**254 - 8) | 2**254


def _edwards_point(scalar: int) -> bytes:
    return crypto_scalarmult_ed25519_base_noclamp(scalar.to_bytes(KEY_SIZE, "little"))


def _edwards_y(public: bytes) -> bytes:
    # The birational map of RFC 7748, section 4.1: y = (u - 1) / (u + 1), with 1/0 taken as 0.
    u = int.from_bytes(public, "little") & (2**255 - 1)
    y = (u - 1) * pow(u + 1, _PRIME - 2, _PRIME) % _PRIME
    return y.to_bytes(KEY_SIZE, "little")


def _scalar_hash(*parts: bytes) -> int:
    return int.from_bytes(hashlib.sha512(b"".join(parts)).digest(), "little") % _ORDER
