"""A tenant's API keys: made, shown once, rolled with an overlap, revoked."""

import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Final

import msgspec
from litestar import Response, delete, get, post
from litestar.params import FromPath, JSONBody
from msgspec import Meta

from control_plane import paging
from control_plane.auth import unauthorized
from control_plane.call import Call
from control_plane.fields import Name, instant
from control_plane.idempotency import Answer, once, reply
from control_plane.paging import DEFAULT_LIMIT, Cursor, Limit, PageOut
from control_plane.plane import Plane
from control_plane.problems import Fault, Problem, not_found
from shared import apikey, clock, ids
from shared.errors import Contended
from shared.ids import KeyId, TenantId
from shared.store import tenants as store
from shared.store.dynamo import Range
from shared.store.tenants import Making
from shared.tenant import ALL_SCOPES, KEYS_PER_TENANT, ApiKey, Scope

PATH: Final = "/v1/keys"

ROOM_ATTEMPTS: Final = 4
"""Times room is made for a key that others take at the same time."""
LONGEST_LIFE: Final = 10 * 366 * clock.DAY // clock.SECOND
LONGEST_OVERLAP: Final = 7 * clock.DAY // clock.SECOND

Seconds = Annotated[int, Meta(ge=60, le=LONGEST_LIFE, description="Seconds until it expires.")]


class KeyIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key to make."""

    name: Name
    scopes: Annotated[tuple[Scope, ...], Meta(min_length=1)] | None = None
    """What it may do, out of what the calling key may do. All of that where it is not given."""
    expires_in: Seconds | None = None


class RollIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to roll a key."""

    overlap: Annotated[
        int, Meta(ge=0, le=LONGEST_OVERLAP, description="Seconds the old key goes on to work.")
    ] = 0


class KeyOut(msgspec.Struct, frozen=True, kw_only=True):
    """A key, without what makes it one."""

    id: str
    name: str
    hint: str
    """Its beginning and end."""
    scopes: tuple[Scope, ...]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


class KeyCreated(KeyOut, frozen=True, kw_only=True):
    """A new key, shown this once."""

    key: str


def shown(row: ApiKey) -> KeyOut:
    return KeyOut(
        id=row.id,
        name=row.name,
        hint=row.hint,
        scopes=row.scopes,
        created_at=clock.instant(row.created_at),
        expires_at=instant(row.expires_at),
        revoked_at=instant(row.revoked_at),
    )


def add(
    plane: Plane,
    tenant_id: TenantId,
    *,
    name: str,
    scopes: Sequence[Scope],
    rate_limit: int | None,
    expires_at: int | None = None,
) -> KeyCreated | None:
    """Make and store a key. None unless the tenant is active. Raises Problem at the limit."""
    key = apikey.mint(secrets.token_bytes(apikey.RANDOM_BYTES))
    row = ApiKey(
        id=KeyId(clock.mint(ids.KEY)),
        tenant_id=tenant_id,
        name=name,
        hint=apikey.hint(key),
        digest=plane.keys.digest(key),
        scopes=tuple(dict.fromkeys(scopes)),
        created_at=plane.now(),
        expires_at=expires_at,
    )
    for _ in range(ROOM_ATTEMPTS):
        match plane.aws.run(store.add_key(tenant_id, row, rate_limit, KEYS_PER_TENANT)):
            case Making.MADE:
                return KeyCreated(key=key, **msgspec.structs.asdict(shown(row)))
            case Making.CLOSED:
                return None
            case Making.FULL:
                _make_room(plane, tenant_id)
    raise Contended("key.add")


def _make_room(plane: Plane, tenant_id: TenantId) -> None:
    """Erase the oldest key that works no more. Raises Problem where every key works."""
    rows = Range(KEYS_PER_TENANT, newest_first=False)
    now = plane.now()
    for key in plane.aws.run(store.every_key(tenant_id, rows)).rows:
        if not key.usable(now):
            # False: another request made room meanwhile, and perhaps took it.
            plane.aws.run(store.erase_key(tenant_id, key))
            return
    raise Problem("limit_reached", f"A tenant has at most {KEYS_PER_TENANT} keys.")


@post(PATH, needs=Scope.KEYS_WRITE)
async def create_key(data: JSONBody[KeyIn], request: Call) -> Response[KeyCreated]:
    """Make a key. It is shown in this answer and not kept in clear.

    With an `Idempotency-Key`, a repeat of this request shows the same key again within a day; such
    answers are kept sealed.
    """
    mine = request.auth.scopes
    scopes = mine if data.scopes is None else data.scopes
    _check_scopes(scopes, mine, "/scopes")

    def work() -> Answer[KeyCreated]:
        now = request.plane.now()
        return _added(
            request,
            name=data.name,
            scopes=scopes,
            expires_at=None if data.expires_in is None else now + data.expires_in * clock.SECOND,
        )

    return (await once(request, work, secret=True)).response


@get(PATH, needs=Scope.KEYS_READ)
async def list_keys(
    request: Call, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
) -> Response[PageOut[KeyOut]]:
    """List your keys, newest first; revoked and expired ones too, while there is room for them."""
    rows = paging.page(request, "keys", limit, cursor)
    op = store.every_key(request.tenant_id, rows)
    return paging.answer(
        request, "keys", await request.run(lambda: request.plane.aws.run(op)), shown
    )


@get(f"{PATH}/{{key_id:str}}", needs=Scope.KEYS_READ)
async def read_key(key_id: FromPath[str], request: Call) -> Response[KeyOut]:
    """Read a key's row: the key itself is not kept."""
    row = await request.run(lambda: _found(request, key_id))
    return reply(200, msgspec.json.encode(shown(row)))


@post(f"{PATH}/{{key_id:str}}/roll", needs=Scope.KEYS_WRITE)
async def roll_key(
    key_id: FromPath[str], data: JSONBody[RollIn], request: Call
) -> Response[KeyCreated]:
    """Replace a key by a new one with the same name and scopes.

    The old one goes on to work for `overlap` seconds, so that both can be in use for a while. The
    new one is shown in this answer, and again to a repeat with the same `Idempotency-Key` within a
    day.
    """

    def work() -> Answer[KeyCreated]:
        plane = request.plane
        old = _found(request, key_id)
        now = plane.now()
        if not old.usable(now):
            raise Problem("conflict", "The key is revoked or has expired; make a new one.")
        _check_scopes(old.scopes, request.auth.scopes, None)
        answer = _added(request, name=old.name, scopes=old.scopes, expires_at=None)
        ends = now + data.overlap * clock.SECOND
        if old.expires_at is not None:
            ends = min(ends, old.expires_at)
        ended = msgspec.structs.replace(old, expires_at=ends)
        # False: it was revoked meanwhile, which ends it sooner still.
        plane.aws.run(store.change_key(request.tenant_id, ended))
        plane.keys.forget(request.tenant_id)
        return answer

    return (await once(request, work, secret=True)).response


@delete(f"{PATH}/{{key_id:str}}", needs=Scope.KEYS_WRITE, status_code=200)
async def revoke_key(key_id: FromPath[str], request: Call) -> Response[KeyOut]:
    """Revoke a key, for good. It stops within ten seconds everywhere.

    A key with `keys:write` may revoke any key of its tenant, also one that may do more than itself:
    revoking only takes away.
    """

    def work() -> Answer[KeyOut]:
        plane = request.plane
        row = _found(request, key_id)
        if row.revoked_at is None:
            row = msgspec.structs.replace(row, revoked_at=plane.now())
            if not plane.aws.run(store.change_key(request.tenant_id, row)):
                row = _found(request, key_id)
                if row.revoked_at is None:
                    raise Contended("key.revoke")
            plane.keys.forget(request.tenant_id)
        return Answer(200, shown(row))

    return (await once(request, work)).response


def _added(
    call: Call, *, name: str, scopes: Sequence[Scope], expires_at: int | None
) -> Answer[KeyCreated]:
    created = add(
        call.plane,
        call.tenant_id,
        name=name,
        scopes=scopes,
        rate_limit=call.auth.rate_limit,
        expires_at=expires_at,
    )
    if created is None:
        call.plane.keys.forget(call.tenant_id)
        raise unauthorized()
    return Answer(201, created, f"{PATH}/{created.id}")


def _found(call: Call, key_id: str) -> ApiKey:
    row: ApiKey | None = None
    if ids.is_id(ids.KEY, key_id):
        row = call.plane.aws.run(store.read_key(call.tenant_id, KeyId(key_id)))
    if row is None:
        raise not_found("key")
    return row


def _check_scopes(wanted: Sequence[Scope], held: Sequence[Scope], pointer: str | None) -> None:
    """A key cannot make one that may do more than itself."""
    beyond = [scope.value for scope in ALL_SCOPES if scope in wanted and scope not in held]
    if beyond:
        detail = f"The calling key lacks {', '.join(beyond)}."
        errors = [] if pointer is None else [Fault(code="scope", detail=detail, pointer=pointer)]
        raise Problem("missing_scope", detail, errors=errors)


ROUTES: Final = [create_key, list_keys, read_key, roll_key, revoke_key]
