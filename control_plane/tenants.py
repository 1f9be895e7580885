"""The operator's routes: tenants, and the first key of each."""

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Final

import msgspec
from litestar import Response, delete, get, post
from litestar.params import FromPath, JSONBody
from msgspec import Meta

from control_plane import keys, orders, paging
from control_plane.call import Call
from control_plane.fields import Name
from control_plane.idempotency import Answer, once, reply
from control_plane.keys import KeyCreated, Seconds
from control_plane.paging import DEFAULT_LIMIT, LARGEST_LIMIT, Cursor, Limit, PageOut
from control_plane.plane import Plane
from control_plane.problems import Problem, not_found
from shared import clock, ids
from shared.ids import TenantId
from shared.store import recoveries, webhooks
from shared.store import tenants as store
from shared.store.dynamo import Range
from shared.tenant import ALL_SCOPES, ApiKey, Scope, Tenant, TenantStatus
from shared.webhook import ENDPOINTS_PER_TENANT

PATH: Final = "/v1/tenants"

RateLimit = Annotated[int, Meta(ge=1, le=1_000_000, description="Requests a minute.")]


class TenantIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A tenant to make."""

    name: Name
    rate_limit: RateLimit | None = None
    """None takes the installation's default."""


class FirstKeyIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key for a tenant, made by the operator."""

    name: Name = "first"
    scopes: Annotated[tuple[Scope, ...], Meta(min_length=1)] = ALL_SCOPES
    expires_in: Seconds | None = None


class TenantOut(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant."""

    id: str
    name: str
    status: TenantStatus
    rate_limit: int | None
    created_at: datetime


def shown(row: Tenant) -> TenantOut:
    return TenantOut(
        id=row.id,
        name=row.name,
        status=row.status,
        rate_limit=row.rate_limit,
        created_at=clock.instant(row.created_at),
    )


@post(PATH)
async def create_tenant(data: JSONBody[TenantIn], request: Call) -> Response[TenantOut]:
    """Make a tenant: whoever owns sessions, keys, endpoints and events."""

    def work() -> Answer[TenantOut]:
        row = Tenant(
            id=TenantId(clock.mint(ids.TENANT)),
            name=data.name,
            status=TenantStatus.ACTIVE,
            created_at=request.plane.now(),
            rate_limit=data.rate_limit,
        )
        # A fresh id is never taken: False is our own write, sent again.
        request.plane.aws.run(store.create(row.id, row))
        return Answer(201, shown(row), f"{PATH}/{row.id}")

    return (await once(request, work)).response


@get(PATH)
async def list_tenants(
    request: Call, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
) -> Response[PageOut[TenantOut]]:
    """List all tenants, newest first. The list may be a second behind."""
    op = store.every(paging.page(request, "tenants", limit, cursor))
    return paging.answer(
        request, "tenants", await request.run(lambda: request.plane.aws.run(op)), shown
    )


@get(f"{PATH}/{{tenant_id:str}}")
async def read_tenant(tenant_id: FromPath[str], request: Call) -> Response[TenantOut]:
    """Read a tenant."""
    row = await request.run(lambda: _found(request, tenant_id))
    return reply(200, msgspec.json.encode(shown(row)))


@post(f"{PATH}/{{tenant_id:str}}/suspend", status_code=200)
async def suspend_tenant(tenant_id: FromPath[str], request: Call) -> Response[TenantOut]:
    """Refuse all of a tenant's keys, within ten seconds everywhere.

    Its sessions stay connected, so that no number has to be paired again, and messages that were
    accepted are sent. What happens is recorded, but its webhooks wait, without using up attempts;
    they go on within an hour of its resumption. Events older than thirty days are gone by then.
    """
    return await _move(request, tenant_id, TenantStatus.SUSPENDED)


@post(f"{PATH}/{{tenant_id:str}}/resume", status_code=200)
async def resume_tenant(tenant_id: FromPath[str], request: Call) -> Response[TenantOut]:
    """Accept a suspended tenant's keys again, and send the webhooks that waited."""
    return await _move(request, tenant_id, TenantStatus.ACTIVE)


@post(f"{PATH}/{{tenant_id:str}}/keys")
async def create_first_key(
    tenant_id: FromPath[str], data: JSONBody[FirstKeyIn], request: Call
) -> Response[KeyCreated]:
    """Make a key for a tenant. It is shown in this answer and not kept in clear.

    With an `Idempotency-Key`, a repeat of this request shows the same key again within a day; such
    answers are kept sealed.
    """

    def work() -> Answer[KeyCreated]:
        plane = request.plane
        tenant = _found(request, tenant_id)
        now = plane.now()
        created = keys.add(
            plane,
            tenant.id,
            name=data.name,
            scopes=data.scopes,
            rate_limit=tenant.rate_limit,
            expires_at=None if data.expires_in is None else now + data.expires_in * clock.SECOND,
        )
        if created is None:
            raise Problem("conflict", f"The tenant is not active but {tenant.status.value}.")
        return Answer(201, created)

    return (await once(request, work, secret=True)).response


@delete(f"{PATH}/{{tenant_id:str}}", status_code=202)
async def delete_tenant(tenant_id: FromPath[str], request: Call) -> Response[TenantOut]:
    """Delete a tenant with everything that is theirs.

    Its keys stop at once; its sessions are logged out and erased one after the other, and then
    every row goes, events too. Deleting it again orders again what is left.
    """

    def work() -> Answer[TenantOut]:
        plane = request.plane
        tenant = _found(request, tenant_id)
        plane.aws.run(store.set_status(tenant.id, TenantStatus.DELETING))
        for key in _keys(plane, tenant.id):
            plane.aws.run(store.forget_key(key))
        plane.keys.forget(tenant.id)
        orders.purge(plane, tenant.id)
        return Answer(202, shown(msgspec.structs.replace(tenant, status=TenantStatus.DELETING)))

    return (await once(request, work)).response


async def _move(call: Call, tenant_id: str, status: TenantStatus) -> Response[TenantOut]:
    def work() -> Answer[TenantOut]:
        plane = call.plane
        tenant = _found(call, tenant_id)
        if not plane.aws.run(store.set_status(tenant.id, status)):
            raise Problem("conflict", "The tenant is being deleted.")
        # The status first: no key can then be added that this loop does not see.
        for key in _keys(plane, tenant.id):
            plane.aws.run(store.suspend_key(key, suspended=status is TenantStatus.SUSPENDED))
        if status is TenantStatus.ACTIVE:
            _release(plane, tenant.id)
        plane.keys.forget(tenant.id)
        return Answer(200, shown(msgspec.structs.replace(tenant, status=status)))

    return (await once(call, work)).response


def _found(call: Call, tenant_id: str) -> Tenant:
    row: Tenant | None = None
    if ids.is_id(ids.TENANT, tenant_id):
        row = call.plane.aws.run(store.read(TenantId(tenant_id)))
    if row is None:
        raise not_found("tenant")
    return row


def _release(plane: Plane, tenant_id: TenantId) -> None:
    """Let go what waited for the tenant's endpoints. All of them fit a page."""
    rows = Range(2 * ENDPOINTS_PER_TENANT)
    for endpoint in plane.aws.run(webhooks.every_endpoint(tenant_id, rows)).rows:
        plane.aws.run(recoveries.begin_resume(tenant_id, endpoint.id, plane.now()))


def _keys(plane: Plane, tenant_id: TenantId) -> Iterator[ApiKey]:
    """All of a tenant's keys; there are not many."""
    rows = Range(LARGEST_LIMIT)
    while True:
        page = plane.aws.run(store.every_key(tenant_id, rows))
        yield from page.rows
        if page.next is None:
            return
        rows = Range(LARGEST_LIMIT, page.next)


ROUTES: Final = [
    create_tenant,
    list_tenants,
    read_tenant,
    suspend_tenant,
    resume_tenant,
    create_first_key,
    delete_tenant,
]
