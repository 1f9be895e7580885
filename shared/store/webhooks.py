"""Webhook endpoints: rows and requests."""

from typing import Final

import msgspec

from shared import clock
from shared.aws import Op
from shared.ids import EndpointId, TenantId
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
    put,
    query,
    to_item,
)
from shared.store.events import KEEP
from shared.store.tenants import Making, erase_counted, make_counted
from shared.webhook import ENDPOINTS_PER_TENANT, Endpoint

FORMER_KEPT: Final = KEEP + 7 * clock.DAY
"""How long a deleted endpoint's id is kept: longer than its deliveries, which DynamoDB may erase
some days after their time."""


def create_endpoint(
    tenant_id: TenantId, endpoint: Endpoint, most: int = ENDPOINTS_PER_TENANT
) -> Op[Making]:
    row = put(to_item(endpoint, keys.endpoint(tenant_id, endpoint.id)), ABSENT)
    return make_counted(tenant_id, "endpoints", most, (row,))


def read_endpoint(tenant_id: TenantId, endpoint_id: EndpointId) -> Op[Endpoint | None]:
    return get(keys.endpoint(tenant_id, endpoint_id), Endpoint)


def every_endpoint(tenant_id: TenantId, rows: Range) -> Op[Page[Endpoint]]:
    return query(keys.tenant_partition(tenant_id), Endpoint, rows, prefix="ENDPOINT#")


def replacing(tenant_id: TenantId, seen: Endpoint, changed: Endpoint) -> Write:
    """Store a changed endpoint, unless another change came since it was `seen`."""
    after = msgspec.structs.replace(changed, version=seen.version + 1)
    unchanged = Expression("#version = :seen", {"seen": seen.version})
    return put(to_item(after, keys.endpoint(tenant_id, seen.id)), unchanged)


def replace_endpoint(tenant_id: TenantId, seen: Endpoint, changed: Endpoint) -> Op[bool]:
    """`replacing`, alone. False where another change came between."""
    return replacing(tenant_id, seen, changed).alone()


class FormerEndpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A deleted endpoint, so that its deliveries are found when its tenant is erased."""

    id: EndpointId


def delete_endpoint(tenant_id: TenantId, endpoint_id: EndpointId, now: int) -> Op[bool]:
    """False where it is gone already. Its deliveries stay until their time is over."""
    former = to_item(
        FormerEndpoint(id=endpoint_id),
        keys.former_endpoint(tenant_id, endpoint_id),
        ttl=(now + FORMER_KEPT) // clock.SECOND,
    )
    rows = (delete(keys.endpoint(tenant_id, endpoint_id), PRESENT), put(former))
    return erase_counted(tenant_id, "endpoints", rows)


def every_former_endpoint(tenant_id: TenantId, rows: Range) -> Op[Page[FormerEndpoint]]:
    return query(keys.tenant_partition(tenant_id), FormerEndpoint, rows, prefix="FORMER#")
