"""Linking by the eight characters a person types into the phone, as the phone computes it.

The companion sends an ephemeral key, encrypted with the code it shows; whoever types the code can
read it, and answers with an ephemeral key encrypted likewise. What both agree on opens the bundle
in which the companion proves its identity, and gives the secret with which linking goes on as after
a QR code. A wrong code is noticed only there: until then every code decrypts to some key.
"""

from hashlib import pbkdf2_hmac

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from sandbox.whatsapp import curve
from sandbox.whatsapp.curve import KEY_SIZE, CurveError, KeyPair, Rand
from sandbox.whatsapp.symmetric import hkdf

ALPHABET = "123456789ABCDEFGHJKLMNPQRSTVWXYZ"
"""The 32 characters of a code: none that a person could take for another (no 0, I, O, U)."""

CODE_LENGTH = 8
"""Characters of a code, which is shown as four, a dash, four."""

_ROUNDS = 2**17  # of PBKDF2: what clients compute, and what makes guessing a code slow
_SALT_SIZE, _IV_SIZE, _NONCE_SIZE, _TAG_SIZE = 32, 16, 12, 16
_WRAPPED_SIZE = _SALT_SIZE + _IV_SIZE + KEY_SIZE


class LinkCodeError(ValueError):
    """Linking by code cannot go on.

    LinkCodeError
    ├── CodeFormatError   what was typed cannot be a code
    ├── WrongCodeError    it is not the code the companion shows
    └── ExchangeError     the companion sent something malformed or contradictory
    """


class CodeFormatError(LinkCodeError):
    """What was typed has the wrong length or characters no code contains."""


class WrongCodeError(LinkCodeError):
    """The typed code is not the one the companion shows."""


class ExchangeError(LinkCodeError):
    """The companion's part of the exchange is malformed, or names other keys than it should."""


class Attempt(msgspec.Struct, frozen=True):
    """The phone's side between its hello and the companion's last message.

    `hello` is the wrapped ephemeral key that goes to the companion.
    """

    ephemeral: KeyPair
    companion_ephemeral: bytes
    hello: bytes


def normalise(typed: str) -> str:
    """Return the eight characters of a code, typed in any case, with a dash or spaces or without.

    Raises:
        CodeFormatError: with the reason, in words for the person who typed it.
    """
    code = "".join(typed.split()).replace("-", "").upper()
    wrong = sorted(set(code) - set(ALPHABET))
    if wrong:
        raise CodeFormatError(f"a linking code does not contain {' '.join(wrong)}")
    if len(code) != CODE_LENGTH:
        raise CodeFormatError(f"a linking code has {CODE_LENGTH} characters, not {len(code)}")
    return code


def answer(typed: str, companion_hello: bytes, rand: Rand) -> Attempt:
    """Open the companion's hello (`…wrapped_companion_ephemeral_pub`) with the code, and answer it.

    Raises:
        CodeFormatError: the code cannot be one.
        ExchangeError: the hello does not have its 80 bytes.
    """
    code = normalise(typed)
    companion_ephemeral = unwrap_key(code, companion_hello)
    ephemeral = curve.generate(rand)
    return Attempt(ephemeral, companion_ephemeral, wrap_key(code, ephemeral.public, rand))


def finish(attempt: Attempt, account: KeyPair, companion: bytes, bundle: bytes) -> bytes:
    """Open the companion's bundle and return the 32-byte secret for `Account.offer`.

    `companion` is its identity key as it stands beside the bundle (`companion_identity_public`).

    Raises:
        WrongCodeError: the bundle does not open: the two sides used different codes.
        ExchangeError: the bundle is malformed, or is about other identities.
    """
    if len(bundle) < _SALT_SIZE + _NONCE_SIZE + _TAG_SIZE:
        raise ExchangeError("the device's bundle is too short")
    salt, nonce, sealed = _split(bundle, _SALT_SIZE, _NONCE_SIZE)
    try:
        agreed = curve.agree(attempt.ephemeral.private, attempt.companion_ephemeral)
        key = hkdf(agreed, 32, b"link_code_pairing_key_bundle_encryption_key", salt=salt)
        opened = AESGCM(key).decrypt(nonce, sealed, None)
        identities_agreed = curve.agree(account.private, companion)
    except InvalidTag as error:
        raise WrongCodeError("the typed code is not the one the device shows") from error
    except CurveError as error:
        raise ExchangeError("the device sent an unusable key") from error
    named, ours, randomness = _split(opened, KEY_SIZE, KEY_SIZE)
    if (named, ours) != (companion, account.public) or len(randomness) != KEY_SIZE:
        raise ExchangeError("the device's bundle is about other identities")
    return hkdf(agreed + identities_agreed + randomness, 32, b"adv_secret")


def wrap_key(code: str, public: bytes, rand: Rand) -> bytes:
    """Encrypt an ephemeral public key with a normalised code; 80 bytes."""
    salt, iv = rand(_SALT_SIZE), rand(_IV_SIZE)
    return salt + iv + _ctr(code, salt, iv, public)


def unwrap_key(code: str, wrapped: bytes) -> bytes:
    """Undo `wrap_key`; a wrong code gives another key. ExchangeError unless it has 80 bytes."""
    if len(wrapped) != _WRAPPED_SIZE:
        raise ExchangeError(f"a wrapped key has {_WRAPPED_SIZE} bytes, not {len(wrapped)}")
    salt, iv, sealed = _split(wrapped, _SALT_SIZE, _IV_SIZE)
    return _ctr(code, salt, iv, sealed)


def _ctr(code: str, salt: bytes, iv: bytes, data: bytes) -> bytes:
    key = pbkdf2_hmac("sha256", code.encode(), salt, _ROUNDS, 32)
    cipher = Cipher(AES(key), CTR(iv)).encryptor()
    return cipher.update(data) + cipher.finalize()


def _split(data: bytes, first: int, second: int) -> tuple[bytes, bytes, bytes]:
    return data[:first], data[first : first + second], data[first + second :]
