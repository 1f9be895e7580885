"""A tenant's own headers on its webhooks: which it may set, and how they are kept.

They often carry a credential of the receiver, so their values are sealed like the signing secret
and shown to nobody. A header that is ours, that frames the request, or that says who asks would let
a tenant forge what we sign or speak in another's name, so such names are refused.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import msgspec

from shared.sealing import seal, unseal
from shared.webhook import Endpoint

MOST: Final = 20
"""Headers of one endpoint."""
LONGEST: Final = 1_024
"""Bytes of one header, name and value. Receivers commonly stop at 8 KiB for a line, or for all."""
LARGEST: Final = 4_096
"""Bytes of all of them: half of that, which leaves room for ours and a proxy's."""

_REASONS: Final[Mapping[str, tuple[str, ...]]] = {
    "It is ours: it names or signs what we send.": (
        "webhook-*",
        "zapgate-*",
        "x-zapgate-*",
        "host",
        "user-agent",
    ),
    "It describes the body, which we write.": ("content-*", "digest", "repr-digest"),
    "It frames the request or governs the connection.": (
        "connection",
        "keep-alive",
        "transfer-encoding",
        "te",
        "trailer",
        "upgrade",
        "http2-settings",
        "expect",
        "early-data",
        "max-forwards",
        "proxy-*",
        "sec-*",
    ),
    "It says who asks, or on whose behalf.": (
        "forwarded",
        "via",
        "x-forwarded*",
        "x-original-*",
        "x-rewrite-*",
        "x-real-ip",
        "x-client-ip",
        "client-ip",
        "true-client-ip",
        "cf-connecting-ip*",
    ),
    "It makes another request of ours.": (
        "range",
        "if-*",
        "x-http-method*",
        "x-method-override",
    ),
    "It chooses an encoding of the answer; we read plain ones.": ("accept-encoding",),
    "It differs from request to request, and this one would not.": ("date", "idempotency-key"),
    "It belongs to browsers; send a credential as Authorization or in a header of your own.": (
        "cookie",
        "cookie2",
    ),
    "It is how a cloud's own services are asked.": (
        "x-amz*",
        "x-aws-*",
        "metadata",
        "metadata-flavor",
        "x-google-metadata-request",
    ),
}

RESERVED: Final[Mapping[str, str]] = {
    pattern: reason for reason, patterns in _REASONS.items() for pattern in patterns
}
"""Names no tenant may set, as `name` or `beginning*`, each with its reason."""

_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
"""What a field's name is written with (RFC 9110 §5.6.2)."""
_VALUE: Final = re.compile(r"[\x21-\x7e]([\x20-\x7e\t]*[\x21-\x7e])?")
"""A field's value (RFC 9110 §5.5) in ASCII. Blanks around it are no part of it there."""
_PURPOSE: Final = "/headers"
"""What a sealed value of headers is sealed for, so that it opens as nothing else."""
_PORTS: Final = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True)
class Refused:
    """Why headers may not be set: a code, and a sentence for whoever wrote them."""

    name: str | None
    """Which one; None where it is all of them together."""
    code: str
    detail: str


def judge(headers: Mapping[str, str]) -> tuple[Refused, ...]:
    """Everything that is wrong with these headers, in their order; empty if they may be set."""
    if len(headers) > MOST:
        return (Refused(None, "too_many_headers", f"An endpoint has at most {MOST} headers."),)
    refused: list[Refused] = []
    seen: dict[str, str] = {}
    for name, value in headers.items():
        other = seen.setdefault(folded(name), name)
        wrong = _wrong(name, value, other)
        if wrong is not None:
            refused.append(Refused(name, *wrong))
    size = sum(len(name) + len(value) for name, value in headers.items())
    if not refused and size > LARGEST:
        detail = f"All headers together have at most {LARGEST} bytes; these have {size}."
        return (Refused(None, "headers_too_large", detail),)
    return tuple(refused)


def _wrong(name: str, value: str, other: str) -> tuple[str, str] | None:
    if not _TOKEN.fullmatch(name):
        return "header_name", "A header's name is ASCII letters, digits and !#$%&'*+-.^_`|~ only."
    pattern = reserved(name)
    if pattern is not None:
        return "header_reserved", f"{pattern} cannot be set. {RESERVED[pattern]}"
    if other != name:
        return "header_repeated", f"Receivers may take it for {other}, which is set too."
    if not _VALUE.fullmatch(value):
        detail = "A header's value is visible ASCII, with blanks or tabs only within it."
        return "header_value", detail
    if len(name) + len(value) > LONGEST:
        return "header_too_long", f"A header, name and value, has at most {LONGEST} bytes."
    return None


def reserved(name: str) -> str | None:
    """The pattern in `RESERVED` that a name falls under."""
    plain = folded(name)
    for pattern in RESERVED:
        if pattern.endswith("*"):
            if plain.startswith(pattern[:-1]):
                return pattern
        elif plain == pattern:
            return pattern
    return None


def folded(name: str) -> str:
    """A name as the least exact of receivers tells it from others.

    Case means nothing (RFC 9110), and CGI's heirs (WSGI, PHP, Rack) turn every other character into
    one and the same: to them `webhook_signature` is `webhook-signature`.
    """
    return re.sub(r"[^a-z0-9]", "-", name.lower())


def with_headers(
    seals: Sequence[bytes], endpoint: Endpoint, headers: Mapping[str, str], nonce: bytes
) -> Endpoint:
    """The endpoint with these headers in place of what it had; `nonce` is what `seal` wants."""
    plain = msgspec.json.encode(dict(headers)).decode()
    return msgspec.structs.replace(
        endpoint,
        header_names=tuple(headers),
        sealed_headers=seal(seals, endpoint.owner + _PURPOSE, plain, nonce) if headers else None,
    )


def opened(seals: Sequence[bytes], endpoint: Endpoint) -> dict[str, str]:
    """The endpoint's headers, as its tenant gave them. Raises Forged."""
    if endpoint.sealed_headers is None:
        return {}
    plain = unseal(seals, endpoint.owner + _PURPOSE, endpoint.sealed_headers)
    return msgspec.json.decode(plain, type=dict[str, str])


def merged(theirs: Mapping[str, str], ours: Mapping[str, str]) -> dict[str, str]:
    """All headers of a request: ours come last, and one of theirs that is like ours is dropped."""
    if not theirs:
        return dict(ours)
    taken = {folded(name) for name in ours}
    kept = {name: value for name, value in theirs.items() if folded(name) not in taken}
    return kept | dict(ours)


def may_follow(before: str, after: str) -> bool:
    """Whether headers given for one URL may be sent to another: only on the same server."""
    return _server(before) == _server(after)


def _server(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)
