"""Webhook endpoints: where a tenant receives events.

The secret is made here, shown once and kept sealed. What an endpoint may be is judged by its URL's
text and by what its host resolves to now; the gateway judges every address again when it dials.
"""

import asyncio
import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Final, TypeVar

import msgspec
from litestar import Response, delete, get, patch, post
from litestar.params import FromPath, JSONBody
from msgspec import UNSET, Meta, UnsetType

from control_plane import paging
from control_plane.auth import unauthorized
from control_plane.call import Call
from control_plane.idempotency import Answer, once, reply
from control_plane.paging import DEFAULT_LIMIT, Cursor, Limit, PageOut
from control_plane.problems import Problem, invalid_value, not_found
from shared import clock, events, ids, sealing, signing, urls
from shared.addresses import address_allowed
from shared.errors import Contended
from shared.ids import EndpointId, SessionId
from shared.store import sessions
from shared.store import webhooks as store
from shared.store.tenants import Making
from shared.tenant import Scope
from shared.webhook import ENDPOINTS_PER_TENANT, LONGEST_URL, Endpoint, EndpointStatus, matches

T = TypeVar("T")

PATH: Final = "/v1/webhooks"
ITEM: Final = f"{PATH}/{{endpoint_id:str}}"

RESOLVE_SECONDS: Final = 2.0
"""Longest a host name may take to resolve; one that takes longer is left to the gateway."""
LARGEST_FILTER: Final = 50
"""Sessions or event patterns of one endpoint: each event is matched against all of them."""
CHANGE_ATTEMPTS: Final = 4
"""Times a change is made again on top of another that came between."""

Patterns = Annotated[
    tuple[Annotated[str, Meta(max_length=100)], ...],
    Meta(
        min_length=1,
        max_length=LARGEST_FILTER,
        description="Event types, families such as `message.*`, or `*`.",
        examples=[["message.*", "session.connected"]],
    ),
]
Sessions = Annotated[
    tuple[str, ...],
    Meta(max_length=LARGEST_FILTER, description="Only these sessions' events; none means all."),
]
Url = Annotated[
    str,
    Meta(max_length=LONGEST_URL, examples=["https://example.com/zapgate"]),
]
Description = Annotated[str, Meta(max_length=500)]


class EndpointIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An endpoint to make."""

    url: Url
    """https, to a public host on port 443 or 8443."""
    events: Patterns = ("*",)
    sessions: Sessions = ()
    description: Description = ""


class EndpointPatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to change; what is not given stays."""

    url: Url | UnsetType = UNSET
    events: Patterns | UnsetType = UNSET
    sessions: Sessions | UnsetType = UNSET
    description: Description | UnsetType = UNSET
    status: EndpointStatus | UnsetType = UNSET


class EndpointOut(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint."""

    id: str
    url: str
    events: tuple[str, ...]
    sessions: tuple[str, ...]
    description: str
    status: EndpointStatus
    disabled_reason: str | None
    created_at: datetime
    updated_at: datetime


class EndpointCreated(EndpointOut, frozen=True, kw_only=True):
    """A new endpoint with its signing secret, shown this once."""

    secret: str
    """`whsec_…`: give it to any library of Standard Webhooks."""


def shown(row: Endpoint) -> EndpointOut:
    return EndpointOut(
        id=row.id,
        url=row.url,
        events=row.events,
        sessions=row.sessions,
        description=row.description,
        status=row.status,
        disabled_reason=row.disabled_reason,
        created_at=clock.instant(row.created_at),
        updated_at=clock.instant(row.updated_at),
    )


@post(PATH, needs=Scope.WEBHOOKS_WRITE)
async def create_endpoint(data: JSONBody[EndpointIn], request: Call) -> Response[EndpointCreated]:
    """Make an endpoint. Its signing secret is shown in this answer only.

    With an `Idempotency-Key`, a repeat of this request shows it again within a day; such answers
    are kept sealed. Once this is answered, no event it wants is missed.
    """
    _check_patterns(data.events)
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
            events=data.events,
            sealed_secret=b"",
            status=EndpointStatus.ENABLED,
            created_at=now,
            updated_at=now,
            description=data.description,
            sessions=wanted,
        )
        nonce = secrets.token_bytes(sealing.NONCE_BYTES)
        sealed = sealing.seal(plane.keyring.seals, row.owner, secret, nonce)
        row = msgspec.structs.replace(row, sealed_secret=sealed)
        making = plane.aws.run(store.create_endpoint(request.tenant_id, row, ENDPOINTS_PER_TENANT))
        if making is Making.FULL:
            raise Problem(
                "limit_reached", f"A tenant has at most {ENDPOINTS_PER_TENANT} endpoints."
            )
        if making is Making.CLOSED:
            # It was suspended or deleted, and this process had not heard.
            plane.keys.forget(request.tenant_id)
            raise unauthorized()
        body = EndpointCreated(secret=secret, **msgspec.structs.asdict(shown(row)))
        return Answer(201, body, f"{PATH}/{endpoint_id}")

    return await _noticed(request, (await once(request, work, secret=True)).response)


@get(PATH, needs=Scope.WEBHOOKS_READ)
async def list_endpoints(
    request: Call, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
) -> Response[PageOut[EndpointOut]]:
    """List your endpoints, newest first."""
    op = store.every_endpoint(request.tenant_id, paging.page(request, "webhooks", limit, cursor))
    return paging.answer(
        request, "webhooks", await request.run(lambda: request.plane.aws.run(op)), shown
    )


@get(ITEM, needs=Scope.WEBHOOKS_READ)
async def read_endpoint(endpoint_id: FromPath[str], request: Call) -> Response[EndpointOut]:
    """Read an endpoint."""
    row = await request.run(lambda: found(request, endpoint_id))
    return reply(200, msgspec.json.encode(shown(row)))


@patch(ITEM, needs=Scope.WEBHOOKS_WRITE)
async def change_endpoint(
    endpoint_id: FromPath[str], data: JSONBody[EndpointPatch], request: Call
) -> Response[EndpointOut]:
    """Change an endpoint. Enabling one that was disabled forgets why it was."""
    url = data.url
    if data.events is not UNSET:
        _check_patterns(data.events)
    if url is not UNSET:
        url = await _checked_url(request, url)

    def work() -> Answer[EndpointOut]:
        plane = request.plane
        wanted = UNSET if data.sessions is UNSET else _found_sessions(request, data.sessions)
        for _ in range(CHANGE_ATTEMPTS):
            row = found(request, endpoint_id)
            changed = msgspec.structs.replace(
                row,
                url=row.url if url is UNSET else url,
                events=row.events if data.events is UNSET else data.events,
                sessions=row.sessions if wanted is UNSET else wanted,
                description=(row.description if data.description is UNSET else data.description),
                updated_at=plane.now(),
            )
            if data.status is not UNSET:
                reason = "disabled by you" if data.status is EndpointStatus.DISABLED else None
                changed = msgspec.structs.replace(
                    changed, status=data.status, disabled_reason=reason
                )
            if plane.aws.run(store.replace_endpoint(request.tenant_id, row, changed)):
                return Answer(200, shown(changed))
        raise Contended("endpoint.change")

    return await _noticed(request, (await once(request, work)).response)


@delete(ITEM, needs=Scope.WEBHOOKS_WRITE, status_code=204)
async def delete_endpoint(endpoint_id: FromPath[str], request: Call) -> Response[None]:
    """Delete an endpoint. What was on its way to it is not sent any more."""

    def work() -> Answer[None]:
        plane = request.plane
        row = found(request, endpoint_id)
        plane.aws.run(store.delete_endpoint(request.tenant_id, row.id, plane.now()))
        return Answer(204, None)

    return (await once(request, work)).response


def found(call: Call, endpoint_id: str) -> Endpoint:
    """The tenant's endpoint. Raises Problem, the same whoever else's it may be."""
    row: Endpoint | None = None
    if ids.is_id(ids.ENDPOINT, endpoint_id):
        row = call.plane.aws.run(store.read_endpoint(call.tenant_id, EndpointId(endpoint_id)))
    if row is None:
        raise not_found("webhook endpoint")
    return row


def _check_patterns(patterns: Sequence[str]) -> None:
    for index, pattern in enumerate(patterns):
        if not any(matches(pattern, name) for name in events.TYPES):
            raise invalid_value(
                f"/events/{index}",
                "unknown_event_type",
                "No event type fits it; GET /v1/event-types lists them.",
            )


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


async def _noticed(call: Call, response: Response[T]) -> Response[T]:
    """Answer when no gateway can still remember the endpoints as they were."""
    await asyncio.sleep(call.plane.settings.endpoint_memory)
    return response


async def _checked_url(call: Call, url: str) -> str:
    """The URL, if it may be an endpoint as far as can be told now. Raises Problem."""
    targets, denied = call.plane.settings.webhook_targets, call.plane.settings.denied()
    judged = urls.judge(url, targets, denied)
    if isinstance(judged, urls.Refused):
        raise invalid_value("/url", judged.code, judged.detail)
    if judged.address is None:
        host = judged.host
        loop = asyncio.get_running_loop()
        try:
            addresses = await asyncio.wait_for(
                loop.run_in_executor(call.plane.threads, call.plane.resolve, host),
                RESOLVE_SECONDS,
            )
        except TimeoutError:
            addresses = ()
        if not all(address_allowed(address, targets, denied) for address in addresses):
            raise invalid_value("/url", "url_not_public", "The host is not at a public address.")
    return judged.url


ROUTES: Final = [
    create_endpoint,
    list_endpoints,
    read_endpoint,
    change_endpoint,
    delete_endpoint,
]
