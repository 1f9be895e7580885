"""Secrets at rest: AES-256-GCM, bound to the row they belong to.

A sealed value copied into another tenant's row does not open there, because the row's identity is
part of what is authenticated.
"""

from collections.abc import Sequence
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from shared.errors import Forged

NONCE_BYTES: Final = 12
"""The nonce AES-GCM is defined for (NIST SP 800-38D)."""


def seal(keys: Sequence[bytes], owner: str, plain: str, nonce: bytes) -> bytes:
    """`plain` sealed for `owner` with the newest key; `nonce` is 12 fresh random bytes."""
    return nonce + AESGCM(keys[0]).encrypt(nonce, plain.encode(), owner.encode())


def unseal(keys: Sequence[bytes], owner: str, sealed: bytes) -> str:
    """What was sealed for `owner`, by any of the keys. Raises Forged."""
    nonce, box = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
    for key in keys:
        try:
            return AESGCM(key).decrypt(nonce, box, owner.encode()).decode()
        except InvalidTag:
            continue
    raise Forged("a sealed value does not open with any key")
