"""Which delivery is next: turns between tenants, and between the endpoints of a tenant.

A slow endpoint may keep a few slots, a tenant a share of them, and what may wait in memory is
bounded for each and in all. What finds no room is not lost: its row waits in the table.
"""

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from shared.ids import EndpointId, TenantId

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Limits:
    """Slots are attempts in hand, room is what waits for a slot."""

    slots: int = 256
    tenant_slots: int = 64
    """So that it takes four tenants with nothing but dead endpoints to slow the others down."""
    endpoint_slots: int = 8
    room: int = 5_000
    tenant_room: int = 1_000
    endpoint_room: int = 500


@dataclass
class _Endpoint(Generic[T]):
    waiting: deque[T] = field(default_factory=deque[T])
    sending: int = 0


@dataclass
class _Tenant(Generic[T]):
    endpoints: OrderedDict[EndpointId, _Endpoint[T]] = field(
        default_factory=OrderedDict[EndpointId, _Endpoint[T]]
    )
    waiting: int = 0
    sending: int = 0


class Turns(Generic[T]):
    """Waiting deliveries in order of their turns, and how many are being sent."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._tenants: OrderedDict[TenantId, _Tenant[T]] = OrderedDict()
        self.waiting = 0
        self.sending = 0

    def room(self, tenant_id: TenantId, endpoint_id: EndpointId) -> bool:
        """Whether one more may wait for this endpoint."""
        if self.waiting >= self._limits.room:
            return False
        tenant = self._tenants.get(tenant_id)
        if tenant is None:
            return True
        endpoint = tenant.endpoints.get(endpoint_id)
        return tenant.waiting < self._limits.tenant_room and (
            endpoint is None or len(endpoint.waiting) < self._limits.endpoint_room
        )

    def add(self, tenant_id: TenantId, endpoint_id: EndpointId, job: T) -> None:
        """Let it wait for its turn.

        Whether there is room was asked before and may have changed: a few more are borne.
        """
        tenant = self._tenants.setdefault(tenant_id, _Tenant())
        tenant.endpoints.setdefault(endpoint_id, _Endpoint()).waiting.append(job)
        tenant.waiting += 1
        self.waiting += 1

    def take(self) -> T | None:
        """The next one, now being sent; None where nothing waits that has a free slot."""
        if self.sending >= self._limits.slots:
            return None
        for tenant_id, tenant in self._tenants.items():
            if not tenant.waiting or tenant.sending >= self._limits.tenant_slots:
                continue
            for endpoint_id, endpoint in tenant.endpoints.items():
                if not endpoint.waiting or endpoint.sending >= self._limits.endpoint_slots:
                    continue
                job = endpoint.waiting.popleft()
                endpoint.sending += 1
                tenant.waiting -= 1
                tenant.sending += 1
                self.waiting -= 1
                self.sending += 1
                # Both have had their turn.
                tenant.endpoints.move_to_end(endpoint_id)
                self._tenants.move_to_end(tenant_id)
                return job
        return None

    def done(self, tenant_id: TenantId, endpoint_id: EndpointId) -> None:
        """One that was taken is over: its slot is free."""
        tenant = self._tenants[tenant_id]
        endpoint = tenant.endpoints[endpoint_id]
        endpoint.sending -= 1
        tenant.sending -= 1
        self.sending -= 1
        if not endpoint.sending and not endpoint.waiting:
            del tenant.endpoints[endpoint_id]
        if not tenant.endpoints:
            del self._tenants[tenant_id]

    def withdraw(self, late: Callable[[T], bool] = lambda _: True) -> list[T]:
        """What waits and is `late`, taken off; by default everything.

        An endpoint's are as old as their order: behind one that is not late, none is.
        """
        jobs: list[T] = []
        for tenant_id, tenant in list(self._tenants.items()):
            for endpoint_id, endpoint in list(tenant.endpoints.items()):
                while endpoint.waiting and late(endpoint.waiting[0]):
                    jobs.append(endpoint.waiting.popleft())
                    tenant.waiting -= 1
                    self.waiting -= 1
                if not endpoint.sending and not endpoint.waiting:
                    del tenant.endpoints[endpoint_id]
            if not tenant.endpoints:
                del self._tenants[tenant_id]
        return jobs
