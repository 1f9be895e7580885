"""The symmetric cryptography that sessions, groups, pairing and app state share."""

import hmac

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.padding import PKCS7

_BLOCK_BITS = 128


class CipherError(ValueError):
    """These bytes are no ciphertext of this key: not whole blocks, or no padding inside."""


def hkdf(secret: bytes, size: int, info: bytes, salt: bytes | None = None) -> bytes:
    """Derive `size` bytes from a secret (HKDF with SHA-256, RFC 5869)."""
    return HKDF(algorithm=SHA256(), length=size, salt=salt, info=info).derive(secret)


def hmac_sha256(key: bytes, *parts: bytes) -> bytes:
    """Authenticate the joined parts; 32 bytes."""
    return hmac.digest(key, b"".join(parts), "sha256")


def cbc_encrypt(key: bytes, iv: bytes, plaintext: bytes) -> bytes:
    """Encrypt with AES-CBC and PKCS#7 padding; the iv is not part of the result."""
    padder = PKCS7(_BLOCK_BITS).padder()
    padded = padder.update(plaintext) + padder.finalize()
    encryptor = Cipher(AES(key), CBC(iv)).encryptor()
    return encryptor.update(padded) + encryptor.finalize()


def cbc_decrypt(key: bytes, iv: bytes, ciphertext: bytes) -> bytes:
    """Undo `cbc_encrypt`. Authenticate first: the error says whether the padding was right.

    Raises:
        CipherError: the iv is not a block, the bytes not whole blocks, or without padding.
    """
    unpadder = PKCS7(_BLOCK_BITS).unpadder()
    try:
        decryptor = Cipher(AES(key), CBC(iv)).decryptor()
        padded = decryptor.update(ciphertext) + decryptor.finalize()
        return unpadder.update(padded) + unpadder.finalize()
    except ValueError as error:
        raise CipherError("not a ciphertext of this key") from error
