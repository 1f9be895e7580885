"""What a delivery must know of its tenant, read seldom: endpoints, status, secrets.

Many ask for the same tenant at once; one request answers them all, and for a while after it.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from gateway.aws import Aws
from shared import headers
from shared.ids import EndpointId, TenantId
from shared.sealing import unseal
from shared.store import tenants, webhooks
from shared.store.dynamo import Range
from shared.tenant import Tenant, TenantStatus
from shared.webhook import ENDPOINTS_PER_TENANT, Endpoint, live_secrets

K = TypeVar("K")
V = TypeVar("V")

STATUS_SECONDS: Final = 10.0
"""How late a suspension is noticed by deliveries."""
KEPT: Final = 10_000
"""Tenants, or secrets, remembered at most."""


@dataclass(frozen=True, slots=True)
class _Entry(Generic[V]):
    value: asyncio.Future[V]
    until: float


class Cache(Generic[K, V]):
    """Answers of `fetch`, each good for `seconds` from when it was asked for."""

    def __init__(
        self,
        fetch: Callable[[K], Awaitable[V]],
        seconds: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fetch = fetch
        self._seconds = seconds
        self._monotonic = monotonic
        self._entries: OrderedDict[K, _Entry[V]] = OrderedDict()

    def forget(self, key: K) -> None:
        self._entries.pop(key, None)

    async def get(self, key: K) -> V:
        """The answer, new or remembered. A failure is not remembered."""
        while True:
            entry = self._entries.get(key)
            # Also one that is still awaited: it may have been read when it was asked for.
            if entry is None or entry.until <= self._monotonic():
                return await self._ask(key)
            if entry.value.done():
                # Of what is over, only answers are kept.
                return entry.value.result()
            try:
                return await asyncio.shield(entry.value)
            except asyncio.CancelledError:
                # We were cancelled, or whoever asked for all of us was; or both, as all are when a
                # gateway stops, and then nobody would cancel us again.
                task = asyncio.current_task()
                if not entry.value.cancelled() or (task is not None and task.cancelling()):
                    raise

    async def _ask(self, key: K) -> V:
        value: asyncio.Future[V] = asyncio.get_running_loop().create_future()
        entry = _Entry(value, self._monotonic() + self._seconds)
        self._entries[key] = entry
        self._entries.move_to_end(key)
        if len(self._entries) > KEPT:
            self._entries.popitem(last=False)
        try:
            fetched = await self._fetch(key)
        except BaseException as error:
            if self._entries.get(key) is entry:
                del self._entries[key]
            if isinstance(error, Exception):
                entry.value.set_exception(error)
                entry.value.exception()  # seen: it is raised here, whoever else waits or not
            else:
                entry.value.cancel()
            raise
        value.set_result(fetched)
        return fetched


class Directory:
    """Tenants' endpoints, status and secrets."""

    def __init__(self, aws: Aws, seals: Sequence[bytes], *, memory: float) -> None:
        """`memory` is how many seconds a list of endpoints is good for."""
        self._aws = aws
        self._seals = seals
        self._endpoints = Cache(self._read_endpoints, memory)
        self._status = Cache(self._read_status, STATUS_SECONDS)
        self._secrets: OrderedDict[tuple[str, bytes], str] = OrderedDict()

    async def endpoints(self, tenant_id: TenantId) -> tuple[Endpoint, ...]:
        """Every endpoint of the tenant, as old as the memory at most."""
        return await self._endpoints.get(tenant_id)

    async def endpoint(self, tenant_id: TenantId, endpoint_id: EndpointId) -> Endpoint | None:
        for endpoint in await self.endpoints(tenant_id):
            if endpoint.id == endpoint_id:
                return endpoint
        return None

    async def status(self, tenant_id: TenantId) -> TenantStatus | None:
        """None where the tenant is gone."""
        return await self._status.get(tenant_id)

    def secrets(self, endpoint: Endpoint, now: int) -> tuple[str, ...]:
        """The secrets that sign for the endpoint at `now` (ms), newest first. Raises Forged."""
        return tuple(self._opened(endpoint.owner, each) for each in live_secrets(endpoint, now))

    def headers(self, endpoint: Endpoint) -> dict[str, str]:
        """The tenant's own headers for the endpoint. Raises Forged."""
        return headers.opened(self._seals, endpoint)

    def _opened(self, owner: str, sealed: bytes) -> str:
        key = owner, sealed
        secret = self._secrets.get(key)
        if secret is None:
            secret = unseal(self._seals, owner, sealed)
            self._secrets[key] = secret
            if len(self._secrets) > KEPT:
                self._secrets.popitem(last=False)
        return secret

    def forget(self, tenant_id: TenantId) -> None:
        """Read the tenant's endpoints again: one was changed here."""
        self._endpoints.forget(tenant_id)

    async def _read_endpoints(self, tenant_id: TenantId) -> tuple[Endpoint, ...]:
        # All of them fit a page: the number is bounded, a row is a few KB.
        rows = Range(limit=2 * ENDPOINTS_PER_TENANT)
        return (await self._aws.run(webhooks.every_endpoint(tenant_id, rows))).rows

    async def _read_status(self, tenant_id: TenantId) -> TenantStatus | None:
        tenant: Tenant | None = await self._aws.run(tenants.read(tenant_id))
        return None if tenant is None else tenant.status
