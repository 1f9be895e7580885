"""What of a request's or an answer's headers may be kept in the log: bounded, and no secrets."""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

MOST_HEADERS: Final = 40
LARGEST_HEADERS: Final = 4 * 1024
"""Characters of names and values in all: an attempt's row holds two such sets."""
MASK: Final = "[masked]"

_SECRET: Final = re.compile(
    r"cookie|authorization|token|secret|passw|credential|session|api-?key|access-?key"
)
"""What a header that gives somebody access has in its name."""


def kept_headers(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The headers to keep, by lower-case name, in their order; repeated ones are joined.

    What would go over the bound is left out, so that one long header does not hide the others.
    """
    joined: dict[str, str] = {}
    for raw, value in headers:
        name = _text(raw).lower()
        shown = MASK if _secret(name) else _text(value)
        before = joined.get(name)
        joined[name] = shown if before is None or shown == MASK else f"{before}, {shown}"
    kept: dict[str, str] = {}
    left = LARGEST_HEADERS
    for name, value in joined.items():
        size = len(name) + len(value)
        if size <= left and len(kept) < MOST_HEADERS:
            kept[name] = value
            left -= size
    return kept


@lru_cache(maxsize=1024)
def _secret(name: str) -> bool:
    return _SECRET.search(name) is not None


def _text(raw: str) -> str:
    if raw.isascii():
        return raw
    # Bytes that are no UTF-8 come as lone surrogates, which cannot be written as JSON.
    return raw.encode(errors="surrogateescape").decode(errors="replace")
