"""Tenants and API keys: rows and requests.

What a tenant may have only so many of is counted on its own row, in the transaction that makes it.
"""

from enum import StrEnum
from typing import Literal

import msgspec

from shared.aws import Op, Refusal
from shared.ids import KeyId, TenantId
from shared.store import keys
from shared.store.dynamo import (
    ABSENT,
    PRESENT,
    Expression,
    Page,
    Range,
    Write,
    delete,
    get,
    plain,
    put,
    query,
    setting,
    to_item,
    transact,
    update,
)
from shared.tenant import KEYS_PER_TENANT, ApiKey, Tenant, TenantStatus


class Digest(msgspec.Struct, frozen=True, kw_only=True):
    """What a request's key is found by: one read says whose it is and what it may do."""

    key: ApiKey
    rate_limit: int | None = None
    suspended: bool = False


Counted = Literal["keys", "endpoints"]
"""Attributes of a tenant's row that say how many it has."""


class Making(StrEnum):
    """What came of making one more of what is counted."""

    MADE = "made"
    FULL = "full"
    """The tenant has as many as it may."""
    CLOSED = "closed"
    """The tenant is not active."""


def make_counted(
    tenant_id: TenantId, what: Counted, most: int, writes: tuple[Write, ...]
) -> Op[Making]:
    """Write the rows of one more, of which an active tenant may have `most`."""
    room = Expression(
        f"#status = :active AND (attribute_not_exists(#{what}) OR #{what} < :most)",
        {"active": TenantStatus.ACTIVE.value, "most": most},
    )
    count = update(
        keys.tenant(tenant_id), Expression(f"ADD #{what} :one", {"one": 1}), room, old=True
    )

    def refused(why: Refusal) -> Making:
        if not why.failed(0):
            # A fresh id is never taken: it is our own write, sent again.
            return Making.MADE
        row = why.item(0) or {}
        active = "status" in row and plain(row["status"]) == TenantStatus.ACTIVE
        return Making.FULL if active else Making.CLOSED

    op = transact([count, *writes])
    return Op(op.service, op.action, op.params, lambda _: Making.MADE, refused)


def erase_counted(tenant_id: TenantId, what: Counted, writes: tuple[Write, ...]) -> Op[bool]:
    """Make one less. False where one of the writes was refused: then none is made."""
    less = update(keys.tenant(tenant_id), Expression(f"ADD #{what} :less", {"less": -1}))
    return transact([*writes, less])


def create(tenant_id: TenantId, tenant: Tenant) -> Op[bool]:
    """False where the id exists."""
    item = to_item(tenant, keys.tenant(tenant_id), GSI1PK=keys.TENANTS, GSI1SK=tenant_id)
    return put(item, ABSENT).alone()


def read(tenant_id: TenantId) -> Op[Tenant | None]:
    return get(keys.tenant(tenant_id), Tenant)


def every(rows: Range) -> Op[Page[Tenant]]:
    """All tenants by age, for the operator. From an index: about a second behind."""
    return query(keys.TENANTS, Tenant, rows, index=True)


def set_status(tenant_id: TenantId, status: TenantStatus) -> Op[bool]:
    """False where there is no such tenant, or it is being deleted."""
    alive = Expression("#status <> :gone", {"gone": TenantStatus.DELETING.value})
    whole = Expression(f"{PRESENT.text} AND {alive.text}", alive.values)
    return update(keys.tenant(tenant_id), setting({"status": status.value}), whole).alone()


def add_key(
    tenant_id: TenantId, key: ApiKey, rate_limit: int | None = None, most: int = KEYS_PER_TENANT
) -> Op[Making]:
    """Store a key beside its tenant and under its digest."""
    found_by = Digest(key=key, rate_limit=rate_limit)
    rows = (
        put(to_item(key, keys.api_key(tenant_id, key.id)), ABSENT),
        put(to_item(found_by, keys.digest(key.digest)), ABSENT),
    )
    return make_counted(tenant_id, "keys", most, rows)


def erase_key(tenant_id: TenantId, key: ApiKey) -> Op[bool]:
    """Erase a key and what it is found by. False where it is gone."""
    rows = (delete(keys.api_key(tenant_id, key.id), PRESENT), delete(keys.digest(key.digest)))
    return erase_counted(tenant_id, "keys", rows)


def every_key(tenant_id: TenantId, rows: Range) -> Op[Page[ApiKey]]:
    return query(keys.tenant_partition(tenant_id), ApiKey, rows, prefix="KEY#")


def read_key(tenant_id: TenantId, key_id: KeyId) -> Op[ApiKey | None]:
    return get(keys.api_key(tenant_id, key_id), ApiKey)


def change_key(tenant_id: TenantId, key: ApiKey) -> Op[bool]:
    """Store a key's new expiry or revocation, in both its rows.

    False where it is gone, or was revoked: that is for good.
    """
    live = Expression(f"{PRESENT.text} AND attribute_not_exists(#revoked_at)")
    return transact(
        [
            put(to_item(key, keys.api_key(tenant_id, key.id)), live),
            update(keys.digest(key.digest), setting({"key": msgspec.to_builtins(key)})),
        ]
    )


def suspend_key(key: ApiKey, *, suspended: bool) -> Op[bool]:
    """Carry a tenant's suspension to what its key is found by."""
    return update(keys.digest(key.digest), setting({"suspended": suspended})).alone()


def forget_key(key: ApiKey) -> Op[bool]:
    """Erase what a deleted tenant's key is found by."""
    return delete(keys.digest(key.digest)).alone()


def by_digest(digest: str) -> Op[Digest | None]:
    """Whose key this is: the one read of authentication."""
    return get(keys.digest(digest), Digest)


def remove(tenant_id: TenantId) -> Op[bool]:
    """Erase the tenant's own row: the last of its rows."""
    return delete(keys.tenant(tenant_id)).alone()
