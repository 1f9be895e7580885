"""What of a request's or an answer's headers may be kept in the log: bounded, and no secrets."""

import re
from collections.abc import Iterable
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
    kept: dict[str, str] = {}
    left = LARGEST_HEADERS
    for raw, value in headers:
        name = _text(raw).lower()
        shown = MASK if _SECRET.search(name) else _text(value)
        before = kept.get(name)
        if before is not None:
            shown = MASK if shown == MASK else f"{before}, {shown}"
            left += len(name) + len(before)
        size = len(name) + len(shown)
        if size <= left and (before is not None or len(kept) < MOST_HEADERS):
            kept[name] = shown
            left -= size
        elif before is not None:
            left -= len(name) + len(before)
    return kept


def _text(raw: str) -> str:
    # Bytes that are no UTF-8 come as lone surrogates, which cannot be written as JSON.
    return raw.encode(errors="surrogateescape").decode(errors="replace")
