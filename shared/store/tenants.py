"""Tenants and API keys: rows and requests."""

import msgspec

from shared.aws import Op
from shared.ids import KeyId, TenantId
from shared.store import keys
from shared.store.dynamo import (
    ABSENT,
    PRESENT,
    Expression,
    Page,
    Range,
    check,
    delete,
    get,
    put,
    query,
    setting,
    to_item,
    transact,
    update,
)
from shared.tenant import ApiKey, Tenant, TenantStatus


class Digest(msgspec.Struct, frozen=True, kw_only=True):
    """What a request's key is found by: one read says whose it is and what it may do."""

    key: ApiKey
    rate_limit: int | None = None
    suspended: bool = False


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


def add_key(tenant_id: TenantId, key: ApiKey, rate_limit: int | None = None) -> Op[bool]:
    """Store a key beside its tenant and under its digest. False unless the tenant is active."""
    active = Expression("#status = :active", {"active": TenantStatus.ACTIVE.value})
    return transact(
        [
            check(keys.tenant(tenant_id), active),
            put(to_item(key, keys.api_key(tenant_id, key.id)), ABSENT),
            put(to_item(Digest(key=key, rate_limit=rate_limit), keys.digest(key.digest)), ABSENT),
        ]
    )


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
