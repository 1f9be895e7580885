"""Webhook endpoints: where a tenant receives events.

The secret is made here, shown once and kept sealed. What an endpoint may be is judged by its URL's
text and by what its host resolves to now; the gateway judges every address again when it dials.
"""

import asyncio
import logging
import secrets
from collections.abc import Mapping, Sequence
from typing import Final, TypeVar

import msgspec
from litestar import Response, delete, get, patch, post
from litestar.params import FromPath, JSONBody
from msgspec import UNSET

from control_plane import paging
from control_plane.auth import unauthorized
from control_plane.call import Call
from control_plane.endpoints import (
    ITEM,
    PATH,
    EndpointCreated,
    EndpointIn,
    EndpointOut,
    EndpointPatch,
    changed,
    found,
    shown,
)
from control_plane.hosts import is_public
from control_plane.idempotency import Answer, once, reply
from control_plane.paging import DEFAULT_LIMIT, Cursor, Limit, PageOut
from control_plane.problems import Fault, Problem, escaped, invalid_value
from shared import clock, events, headers, ids, sealing, signing, urls
from shared.ids import EndpointId, SessionId
from shared.logs import fields
from shared.store import sessions
from shared.store import webhooks as store
from shared.store.recoveries import begin_resume
from shared.store.tenants import Making
from shared.tenant import Scope
from shared.webhook import (
    ENDPOINTS_PER_TENANT,
    Endpoint,
    EndpointStatus,
    matches,
    moved,
    resumed,
    turned,
)

T = TypeVar("T")

log = logging.getLogger(__name__)

BY_YOU: Final = "disabled by you"


@post(PATH, needs=Scope.WEBHOOKS_WRITE)
async def create_endpoint(data: JSONBody[EndpointIn], request: Call) -> Response[EndpointCreated]:
    """Make an endpoint. Its signing secret is shown in this answer only.

    With an `Idempotency-Key`, a repeat of this request shows it again within a day; such answers
    are kept sealed. Once this is answered, no event it wants is missed.
    """
    patterns = _checked_patterns(data.events)
    _check_headers(data.headers)
    url = await _checked_url(request, data.url)

    def work() -> Answer[EndpointCreated]:
        plane = request.plane
        wanted = _found_sessions(request, data.sessions)
        endpoint_id = EndpointId(clock.mint(ids.ENDPOINT))
        secret = signing.webhook_secret(secrets.token_bytes(signing.SECRET_BYTES))
        now = plane.now()
        row = Endpoint(
            id=endpoint_id,
            tenant_id=request.tenant_id,
            url=url,
            events=patterns,
            sealed_secret=b"",
            status=EndpointStatus.ENABLED,
            created_at=now,
            updated_at=now,
            description=data.description,
            sessions=wanted,
        )
        sealed = sealing.seal(
            plane.keyring.seals, row.owner, secret, secrets.token_bytes(sealing.NONCE_BYTES)
        )
        row = msgspec.structs.replace(row, sealed_secret=sealed)
        row = _with_headers(request, row, data.headers)
        making = plane.aws.run(store.create_endpoint(request.tenant_id, row, ENDPOINTS_PER_TENANT))
        if making is Making.FULL:
            raise Problem(
                "limit_reached", f"A tenant has at most {ENDPOINTS_PER_TENANT} endpoints."
            )
        if making is Making.CLOSED:
            # It was suspended or deleted, and this process had not heard.
            plane.keys.forget(request.tenant_id)
            raise unauthorized()
        body = EndpointCreated(secret=secret, **msgspec.structs.asdict(shown(row, now)))
        return Answer(201, body, f"{PATH}/{endpoint_id}")

    return await noticed(request, (await once(request, work, secret=True)).response)


@get(PATH, needs=Scope.WEBHOOKS_READ)
async def list_endpoints(
    request: Call, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
) -> Response[PageOut[EndpointOut]]:
    """List your endpoints, newest first."""
    op = store.every_endpoint(request.tenant_id, paging.page(request, "webhooks", limit, cursor))
    page = await request.run(lambda: request.plane.aws.run(op))
    now = request.plane.now()
    return paging.answer(request, "webhooks", page, lambda row: shown(row, now))


@get(ITEM, needs=Scope.WEBHOOKS_READ)
async def read_endpoint(endpoint_id: FromPath[str], request: Call) -> Response[EndpointOut]:
    """Read an endpoint."""
    row = await request.run(lambda: found(request, endpoint_id))
    return reply(200, msgspec.json.encode(shown(row, request.plane.now())))


@patch(ITEM, needs=Scope.WEBHOOKS_WRITE)
async def change_endpoint(
    endpoint_id: FromPath[str], data: JSONBody[EndpointPatch], request: Call
) -> Response[EndpointOut]:
    """Change an endpoint; what is not given stays as it is.

    Enabling one that was paused or disabled, or giving it another URL, forgets how it has been
    answering, and sends what was waiting. Headers are for the server they were given for: with a
    `url` on another, give `headers` too.
    """
    url = data.url
    patterns = UNSET if data.events is UNSET else _checked_patterns(data.events)
    if data.headers is not UNSET:
        _check_headers(data.headers)
    if url is not UNSET:
        url = await _checked_url(request, url)

    def work() -> Answer[EndpointOut]:
        wanted = UNSET if data.sessions is UNSET else _found_sessions(request, data.sessions)

        def change(row: Endpoint) -> Endpoint:
            after = msgspec.structs.replace(
                row,
                events=row.events if patterns is UNSET else patterns,
                sessions=row.sessions if wanted is UNSET else wanted,
                description=(row.description if data.description is UNSET else data.description),
            )
            if data.headers is not UNSET:
                after = _with_headers(request, after, data.headers)
            if url is not UNSET:
                _check_follow(row, url, given=data.headers is not UNSET)
                after = moved(after, url)
            return after if data.status is UNSET else turned(after, data.status, BY_YOU)

        before, after = changed(request, endpoint_id, change)
        enabling = data.status is EndpointStatus.ENABLED
        if after.receives and (enabling or not before.receives):
            released(request, after)
        return Answer(200, shown(after, request.plane.now()))

    return await noticed(request, (await once(request, work)).response)


@post(f"{ITEM}/pause", needs=Scope.WEBHOOKS_WRITE, status_code=200)
async def pause_endpoint(endpoint_id: FromPath[str], request: Call) -> Response[EndpointOut]:
    """Pause an endpoint. Events are recorded for it and wait until you resume it.

    Those of a disabled one are recorded again from now on. A repeat changes nothing.
    """

    def work() -> Answer[EndpointOut]:
        _, after = changed(request, endpoint_id, lambda row: turned(row, EndpointStatus.PAUSED))
        return Answer(200, shown(after, request.plane.now()))

    return await noticed(request, (await once(request, work)).response)


@post(f"{ITEM}/resume", needs=Scope.WEBHOOKS_WRITE, status_code=200)
async def resume_endpoint(endpoint_id: FromPath[str], request: Call) -> Response[EndpointOut]:
    """Resume an endpoint that was paused or disabled, or that rests because it failed.

    How it has been answering is forgotten, and what was waiting is sent. What was given up while it
    was disabled stays so until you recover it. A repeat changes nothing.
    """

    def work() -> Answer[EndpointOut]:
        _, after = changed(request, endpoint_id, resumed)
        # Also where nothing was changed: the first request may have failed between the two.
        released(request, after)
        return Answer(200, shown(after, request.plane.now()))

    return await noticed(request, (await once(request, work)).response)


@delete(ITEM, needs=Scope.WEBHOOKS_WRITE, status_code=204)
async def delete_endpoint(endpoint_id: FromPath[str], request: Call) -> Response[None]:
    """Delete an endpoint. What was on its way to it is not sent any more."""

    def work() -> Answer[None]:
        plane = request.plane
        row = found(request, endpoint_id)
        plane.aws.run(store.delete_endpoint(request.tenant_id, row.id, plane.now()))
        return Answer(204, None)

    return (await once(request, work)).response


def released(call: Call, endpoint: Endpoint) -> None:
    """Let go what was held for an endpoint, now that attempts are made again.

    Called after that was written; once more for an endpoint of which nothing is held does nothing.
    """
    call.plane.aws.run(begin_resume(call.tenant_id, endpoint.id, call.plane.now()))
    log.info("endpoint.released", extra=fields(tenant_id=call.tenant_id, endpoint_id=endpoint.id))


def _checked_patterns(patterns: Sequence[str]) -> tuple[str, ...]:
    """The patterns, each once. Raises Problem for one that matches nothing."""
    for index, pattern in enumerate(patterns):
        if not any(matches(pattern, name) for name in events.TYPES):
            raise invalid_value(
                f"/events/{index}",
                "unknown_event_type",
                "No event type fits it; GET /v1/event-types lists them.",
            )
    return tuple(dict.fromkeys(patterns))


def _check_headers(given: Mapping[str, str]) -> None:
    faults = [
        Fault(
            code=wrong.code,
            detail=wrong.detail,
            pointer="/headers" if wrong.name is None else f"/headers/{escaped(wrong.name)}",
        )
        for wrong in headers.judge(given)
    ]
    if faults:
        raise Problem("invalid_value", faults[0].detail, errors=faults)


def _check_follow(row: Endpoint, url: str, *, given: bool) -> None:
    """Headers are shown to nobody, so nobody may have them sent to a server of their choice."""
    if row.header_names and not given and not headers.may_follow(row.url, url):
        raise invalid_value(
            "/headers",
            "headers_needed",
            "Its headers were given for another server; give them again, or {} to send none.",
        )


def _with_headers(call: Call, row: Endpoint, given: Mapping[str, str]) -> Endpoint:
    nonce = secrets.token_bytes(sealing.NONCE_BYTES)
    return headers.with_headers(call.plane.keyring.seals, row, given, nonce)


def _found_sessions(call: Call, session_ids: Sequence[str]) -> tuple[SessionId, ...]:
    wanted = tuple(dict.fromkeys(SessionId(each) for each in session_ids))
    for index, session_id in enumerate(wanted):
        if not ids.is_id(ids.SESSION, session_id) or not call.plane.aws.run(
            sessions.read(call.tenant_id, session_id)
        ):
            raise invalid_value(
                f"/sessions/{index}", "unknown_session", "There is no such session."
            )
    return wanted


async def noticed(call: Call, response: Response[T]) -> Response[T]:
    """Answer when no gateway can still remember the endpoints as they were."""
    await asyncio.sleep(call.plane.settings.endpoint_memory)
    return response


async def _checked_url(call: Call, url: str) -> str:
    """The URL, if it may be an endpoint as far as can be told now. Raises Problem."""
    targets, denied = call.plane.settings.webhook_targets, call.plane.settings.denied()
    judged = urls.judge(url, targets, denied)
    if isinstance(judged, urls.Refused):
        raise invalid_value("/url", judged.code, judged.detail)
    if judged.address is None and not await is_public(call, judged.host):
        raise invalid_value("/url", "url_not_public", "The host is not at a public address.")
    return judged.url


ROUTES: Final = [
    create_endpoint,
    list_endpoints,
    read_endpoint,
    change_endpoint,
    pause_endpoint,
    resume_endpoint,
    delete_endpoint,
]
