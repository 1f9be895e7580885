"""Erasing what a deleted session or tenant leaves in the table.

Everything can be repeated: the row that names the rest goes last, so an interrupted erasure is
found again and goes on.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from gateway.aws import Aws
from shared.aws import Op
from shared.ids import SessionId, TenantId
from shared.store import keys, sessions, tenants, webhooks
from shared.store.dynamo import LARGEST_BATCH, KeyRow, Page, Range, erase, query
from shared.store.keys import Key
from shared.store.webhooks import FormerEndpoint
from shared.webhook import Endpoint

E = TypeVar("E", Endpoint, FormerEndpoint)

PAGE: Final = 8 * LARGEST_BATCH
"""Rows read at once: eight requests of deletions, sent side by side."""
BUSY_PAUSE: Final = 0.2
"""Seconds before asking again for what AWS left undone."""


async def erase_session(aws: Aws, tenant_id: TenantId, session_id: SessionId) -> None:
    """Erase a session's messages, then its pairing and itself."""
    await _erase_partition(aws, keys.messages_partition(tenant_id, session_id))
    await aws.run(sessions.remove(tenant_id, session_id))


async def erase_tenant(aws: Aws, tenant_id: TenantId) -> None:
    """Erase what a tenant without sessions still has, then itself."""
    await _erase_deliveries(aws, tenant_id, webhooks.every_endpoint)
    await _erase_deliveries(aws, tenant_id, webhooks.every_former_endpoint)
    for partition in (
        keys.events_partition(tenant_id),
        keys.idempotency_partition(tenant_id),
        keys.rate_partition(tenant_id),
    ):
        await _erase_partition(aws, partition)
    await _forget_keys(aws, tenant_id)
    await _erase_partition(aws, keys.tenant_partition(tenant_id), keep=keys.tenant(tenant_id))
    await aws.run(tenants.remove(tenant_id))


async def _erase_deliveries(
    aws: Aws,
    tenant_id: TenantId,
    endpoints: Callable[[TenantId, Range], Op[Page[E]]],
) -> None:
    start = None
    while True:
        page = await aws.run(endpoints(tenant_id, Range(limit=100, start=start)))
        for endpoint in page.rows:
            await _erase_partition(aws, keys.deliveries_partition(tenant_id, endpoint.id))
            await _erase_partition(aws, keys.attempts_partition(tenant_id, endpoint.id))
        start = page.next
        if start is None:
            return


async def _forget_keys(aws: Aws, tenant_id: TenantId) -> None:
    start = None
    while True:
        page = await aws.run(tenants.every_key(tenant_id, Range(limit=100, start=start)))
        await asyncio.gather(*(aws.run(tenants.forget_key(key)) for key in page.rows))
        start = page.next
        if start is None:
            return


async def _erase_partition(aws: Aws, partition: str, keep: Key | None = None) -> None:
    while True:
        page = await aws.run(query(partition, KeyRow, Range(limit=PAGE)))
        found = [row.key for row in page.rows if row.key != keep]
        chunks = [found[n : n + LARGEST_BATCH] for n in range(0, len(found), LARGEST_BATCH)]
        await asyncio.gather(*(_erase(aws, chunk) for chunk in chunks))
        if page.next is None:
            return


async def _erase(aws: Aws, rows: Sequence[Key]) -> None:
    while rows:
        rows = await aws.run(erase(rows))
        if rows:
            await asyncio.sleep(BUSY_PAUSE)
