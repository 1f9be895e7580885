"""What the log says of an attempt: everything a person needs to mend a receiver, and no secret."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final, assert_never

import msgspec

from gateway.delivery import (
    Delivered,
    Exchange,
    GaveUp,
    Post,
    RetryAt,
    Verdict,
    error_of,
)
from gateway.redaction import MASK
from shared.delivery import Attempt, Delivery, Outcome
from shared.webhook import Endpoint

SHORTEST_SECRET: Final = 8
"""Shorter values are no credentials, and would mask half of every answer."""
_OURS: Final = frozenset({"webhook-signature"})
INTERRUPTED: Final = "interrupted"
"""The error of an attempt whose gateway ended while it was being made."""


def logged(
    delivery: Delivery,
    endpoint: Endpoint,
    post: Post | None,
    exchange: Exchange,
    verdict: Verdict,
    *,
    began_at: int,
) -> Attempt:
    """An attempt that was made; `post` is None where it could not even be signed."""
    match verdict:
        case Delivered():
            outcome, next_at = Outcome.DELIVERED, None
        case RetryAt(at):
            outcome, next_at = Outcome.RETRY, at
        case GaveUp():
            outcome, next_at = Outcome.GAVE_UP, None
        case _:
            assert_never(verdict)
    result = exchange.result
    theirs = () if post is None else own_values(post.headers, endpoint.header_names)
    return Attempt(
        tenant_id=delivery.tenant_id,
        endpoint_id=delivery.endpoint_id,
        event_id=delivery.event_id,
        number=delivery.attempt,
        trigger=delivery.trigger,
        began_at=began_at,
        outcome=outcome,
        url=endpoint.url,
        status=result.status,
        error=error_of(result),
        next_at=next_at,
        phases=exchange.phases,
        request_headers={} if post is None else masked(post.headers, endpoint.header_names),
        response_headers={
            name: without(value, theirs) for name, value in exchange.response_headers.items()
        },
        response_body=_cut_without(exchange.response_body.decode(errors="replace"), theirs),
        response_cut=exchange.response_cut,
    )


def interrupted(delivery: Delivery, url: str) -> Attempt:
    """The attempt of a claim that lapsed, so that every attempt counted is in the log."""
    return Attempt(
        tenant_id=delivery.tenant_id,
        endpoint_id=delivery.endpoint_id,
        event_id=delivery.event_id,
        number=delivery.attempt,
        trigger=delivery.trigger,
        began_at=delivery.updated_at,
        outcome=Outcome.INTERRUPTED,
        url=url,
        error=INTERRUPTED,
    )


def masked(headers: Mapping[str, str], names: Collection[str]) -> dict[str, str]:
    """Headers as they may be shown: signatures and the tenant's own values are not."""
    hidden = _OURS.union(map(str.lower, names)) if names else _OURS
    return {name: MASK if name.lower() in hidden else value for name, value in headers.items()}


def own_values(headers: Mapping[str, str], names: Collection[str]) -> tuple[str, ...]:
    """The values of the tenant's own headers that could be a credential, or end with one."""
    if not names:
        return ()
    values = (value for name, value in headers.items() if name in names)
    words = (word for value in values for word in (value, *value.split()[-1:]))
    return tuple(
        written for word in words if len(word) >= SHORTEST_SECRET for written in _written(word)
    )


def _written(word: str) -> Iterable[str]:
    """A word as it is, and as JSON has it: with its slashes escaped too, which PHP does."""
    escaped = msgspec.json.encode(word).decode()[1:-1]
    return dict.fromkeys((word, escaped, escaped.replace("/", r"\/")))


def without(text: str, secrets: Sequence[str]) -> str:
    """A text without the secrets: there are receivers that answer with what they were sent."""
    for secret in secrets:
        text = text.replace(secret, MASK)
    return text


def _cut_without(text: str, secrets: Sequence[str]) -> str:
    """Likewise, of a text that was cut off: it may end with a secret's beginning."""
    text = without(text, secrets)
    for secret in secrets:
        for length in range(len(secret) - 1, SHORTEST_SECRET - 1, -1):
            if text.endswith(secret[:length]):
                return text[:-length] + MASK
    return text
