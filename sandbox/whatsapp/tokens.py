"""The words of the binary XML: what a tag on the wire means, and which words are one or two bytes.

The tables themselves are data (`tokens.json`), as are the licence and the source of that data.
"""

from enum import IntEnum
from importlib.resources import files

import msgspec


class Tag(IntEnum):
    """What comes next on the wire; the numbers between are tokens themselves."""

    LIST_EMPTY = 0
    DICTIONARY_0 = 236
    DICTIONARY_3 = 239
    INTEROP_JID = 245
    FB_JID = 246
    AD_JID = 247
    LIST_8 = 248
    LIST_16 = 249
    JID_PAIR = 250
    HEX_8 = 251
    BINARY_8 = 252
    BINARY_20 = 253
    BINARY_32 = 254
    NIBBLE_8 = 255


class Tables(msgspec.Struct, frozen=True):
    single: list[str]
    double: list[list[str]]


def _read_tables() -> Tables:
    raw = files("sandbox.whatsapp").joinpath("tokens.json").read_bytes()
    return msgspec.json.decode(raw, type=Tables)


TABLES = _read_tables()
TOKENS: dict[str, bytes] = {
    word: bytes([Tag.DICTIONARY_0 + dictionary, index])
    for dictionary, words in enumerate(TABLES.double)
    for index, word in enumerate(words)
} | {word: bytes([index]) for index, word in enumerate(TABLES.single) if word}
