"""API keys: `zg_live_` + 32 random base62 characters (190 bits) + 6 of their CRC-32.

The checksum lets a typo or garbage be refused without a look-up and secret scanners be sure. A key
this random needs no slow hash: the row is found under HMAC-SHA256(pepper, key), and the key itself
is shown once and never stored.
"""

import hashlib
import hmac
import re
import zlib
from typing import Final

PREFIX: Final = "zg_live_"
OPERATOR_PREFIX: Final = "zg_oper_"
RANDOM_BYTES: Final = 32

_BASE62: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SHAPE: Final = re.compile(r"(zg_(?:live|oper)_)([0-9A-Za-z]{32})([0-9A-Za-z]{6})")


def mint(random: bytes, prefix: str = PREFIX) -> str:
    """A new key from 32 random bytes."""
    if len(random) != RANDOM_BYTES:
        raise ValueError(f"a key takes {RANDOM_BYTES} random bytes")
    body = _base62(int.from_bytes(random), 32)
    return f"{prefix}{body}{_checksum(prefix + body)}"


def well_formed(key: str) -> bool:
    """Whether the shape and the checksum fit."""
    match = _SHAPE.fullmatch(key)
    return match is not None and hmac.compare_digest(_checksum(match[1] + match[2]), match[3])


def digest(pepper: bytes, key: str) -> str:
    """What the key is stored and found under: hex, 64 characters."""
    return hmac.new(pepper, key.encode(), hashlib.sha256).hexdigest()


def hint(key: str) -> str:
    """Enough of a key for its owner to tell it from others."""
    return f"{key[:8]}…{key[-4:]}"


def _checksum(text: str) -> str:
    return _base62(zlib.crc32(text.encode()), 6)


def _base62(number: int, length: int) -> str:
    digits: list[str] = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits.append(_BASE62[digit])
    return "".join(reversed(digits))
