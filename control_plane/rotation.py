"""The rotation of an endpoint's signing secret: a new one, and how long the old one goes on.

While two secrets sign, every request carries both signatures, so a receiver may be changed at any
moment of the overlap and misses nothing.
"""

import secrets
from typing import Annotated, Final

import msgspec
from litestar import Response, post
from litestar.params import FromPath, JSONBody
from msgspec import Meta

from control_plane.call import Call
from control_plane.endpoints import ITEM, EndpointCreated, EndpointOut, changed, shown
from control_plane.idempotency import Answer, once
from control_plane.problems import Problem
from control_plane.webhooks import noticed
from shared import clock, sealing, signing
from shared.tenant import Scope
from shared.webhook import (
    LONGEST_OVERLAP,
    RETIRED_SECRETS,
    Endpoint,
    live_retired,
    revoked,
    rotated,
)


class RotateIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to rotate a secret."""

    overlap_seconds: Annotated[int, Meta(ge=0, le=LONGEST_OVERLAP // clock.SECOND)] = (
        clock.DAY // clock.SECOND
    )
    """Seconds the secret of now goes on to sign beside the new one; 0 ends it at once."""
    force: bool = False
    """Rotate although a former secret still signs."""


@post(f"{ITEM}/secret/rotate", needs=Scope.WEBHOOKS_WRITE, status_code=200)
async def rotate_secret(
    endpoint_id: FromPath[str], data: JSONBody[RotateIn], request: Call
) -> Response[EndpointCreated]:
    """Give an endpoint a new signing secret. It is shown in this answer only.

    The old one signs beside it for `overlap_seconds`: put the new one into your receiver meanwhile.
    Until that is over, or you revoke it, another rotation is a conflict unless forced, because a
    receiver may still be on its way from one secret to the next.

    With an `Idempotency-Key`, a repeat of this request shows the same secret again within a day;
    such answers are kept sealed. Once this is answered, every request is signed with it.
    """

    def work() -> Answer[EndpointCreated]:
        plane = request.plane
        secret = signing.webhook_secret(secrets.token_bytes(signing.SECRET_BYTES))
        nonce = secrets.token_bytes(sealing.NONCE_BYTES)
        sealed: bytes | None = None

        def change(row: Endpoint) -> Endpoint:
            nonlocal sealed
            if sealed is None:
                sealed = sealing.seal(plane.keyring.seals, row.owner, secret, nonce)
            elif row.sealed_secret == sealed:
                # It was written, and only the answer to that was lost.
                return row
            now = plane.now()
            _check_room(row, now, data)
            return rotated(row, sealed, now, data.overlap_seconds * clock.SECOND)

        _, after = changed(request, endpoint_id, change)
        body = shown(after, plane.now())
        return Answer(200, EndpointCreated(secret=secret, **msgspec.structs.asdict(body)))

    return await noticed(request, (await once(request, work, secret=True)).response)


@post(f"{ITEM}/secret/revoke-previous", needs=Scope.WEBHOOKS_WRITE, status_code=200)
async def revoke_previous_secrets(
    endpoint_id: FromPath[str], request: Call
) -> Response[EndpointOut]:
    """Revoke an endpoint's former secrets. Once this is answered, only the newest signs.

    A repeat changes nothing.
    """

    def work() -> Answer[EndpointOut]:
        _, after = changed(request, endpoint_id, revoked)
        return Answer(200, shown(after, request.plane.now()))

    return await noticed(request, (await once(request, work)).response)


def _check_room(row: Endpoint, now: int, asked: RotateIn) -> None:
    """Raises Problem where a former secret signs, or where too many would."""
    live = live_retired(row, now)
    if not live:
        return
    last = f"{clock.instant(max(each.until for each in live)):%Y-%m-%dT%H:%M:%SZ}"
    if not asked.force:
        raise Problem(
            "conflict",
            f"A former secret signs until {last}. Revoke it at …/secret/revoke-previous, wait, "
            "or send `force`: true to have one more.",
        )
    # None is dropped to make room: its receivers were told how long it signs.
    if asked.overlap_seconds and len(live) >= RETIRED_SECRETS:
        raise Problem(
            "limit_reached",
            f"{RETIRED_SECRETS} former secrets sign, the last until {last}. Revoke them at "
            "…/secret/revoke-previous, or send `overlap_seconds`: 0.",
        )


ROUTES: Final = [rotate_secret, revoke_previous_secrets]
