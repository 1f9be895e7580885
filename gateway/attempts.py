"""What the log says of an attempt: everything a person needs to mend a receiver, and no secret."""

from collections.abc import Collection
from typing import Final, assert_never

from gateway.delivery import (
    Answer,
    Delivered,
    Exchange,
    GaveUp,
    Post,
    RetryAt,
    Verdict,
    error_of,
)
from shared.delivery import Attempt, Delivery, Outcome
from shared.webhook import Endpoint

MASK: Final = "***"

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
    return Attempt(
        tenant_id=delivery.tenant_id,
        endpoint_id=delivery.endpoint_id,
        event_id=delivery.event_id,
        number=delivery.attempt,
        trigger=delivery.trigger,
        began_at=began_at,
        outcome=outcome,
        url=endpoint.url,
        status=result.status if isinstance(result, Answer) else None,
        error=error_of(result),
        next_at=next_at,
        phases=exchange.phases,
        request_headers={} if post is None else masked(post.headers, endpoint.header_names),
        response_headers=dict(exchange.response_headers),
        response_body=exchange.response_body.decode(errors="replace"),
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


def masked(headers: dict[str, str], theirs: Collection[str]) -> dict[str, str]:
    """Headers as they may be shown: signatures and the tenant's own values are not."""
    hidden = {name.lower() for name in theirs} | {"webhook-signature"}
    return {name: MASK if name.lower() in hidden else value for name, value in headers.items()}
