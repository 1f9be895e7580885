"""Every key of the one table, made here and nowhere else.

A tenant's rows lie under partition keys that begin with its id, so no key built for one tenant can
name another's row: ids hold no `#`.

| PK                      | SK               | row                                   |
|-------------------------|------------------|---------------------------------------|
| `T#<tenant>`            | `TENANT`         | the tenant                            |
| `T#<tenant>`            | `KEY#<key>`      | an API key                            |
| `T#<tenant>`            | `SESSION#<ses>`  | a session                             |
| `T#<tenant>`            | `PAIRING#<ses>`  | its running pairing attempt           |
| `T#<tenant>`            | `ENDPOINT#<ep>`  | a webhook endpoint                    |
| `T#<tenant>`            | `FORMER#<ep>`    | one that was deleted: it had deliveries |
| `T#<tenant>`            | `RECOVERY#<ep>#<rec>` | a job that moves an endpoint's deliveries |
| `T#<tenant>`            | `RECOVERING#<ep>` | which recovery of an endpoint runs    |
| `T#<tenant>#S#<ses>`    | `<msg>`          | a message of a session                |
| `T#<tenant>#E`          | `<evt>`          | an event                              |
| `T#<tenant>#D#<ep>`     | `<evt>`          | the delivery of an event to an endpoint |
| `T#<tenant>#A#<ep>`     | `<evt>#<number>` | an attempt of a delivery              |
| `T#<tenant>#I`          | `<scope>#<hash>` | an idempotency record                 |
| `T#<tenant>#R`          | `<window>`       | requests counted in a window          |
| `K#<digest>`            | `KEY`            | which tenant and key a digest belongs to |
| `LEASES#<n>`            | `<shard>`        | who holds a shard                     |
| `BEATS#<n>`             | `<worker>`       | a gateway that is there               |
"""

import zlib
from typing import Final

from shared.ids import (
    EndpointId,
    EventId,
    KeyId,
    MessageId,
    RecoveryId,
    SessionId,
    TenantId,
    WorkerId,
)

TENANTS: Final = "TENANTS"
"""GSI1 partition that lists all tenants, for the operator."""
LEASES_TOGETHER: Final = 128
"""Shards whose leases share a partition: at some 110 bytes each, four units to read them all."""
BEATS: Final = 4
"""Partitions of the gateways' own rows, which each of them reads several times a lease time: at a
thousand gateways, half of what DynamoDB lets a partition be read. All gateways have to agree on the
number, whatever their settings: who is not found where others look is taken for dead."""

Key = tuple[str, str]
"""A partition key and a sort key."""


def tenant_partition(tenant_id: TenantId) -> str:
    return f"T#{tenant_id}"


def tenant(tenant_id: TenantId) -> Key:
    return tenant_partition(tenant_id), "TENANT"


def api_key(tenant_id: TenantId, key_id: KeyId) -> Key:
    return tenant_partition(tenant_id), f"KEY#{key_id}"


def digest(digest: str) -> Key:
    return f"K#{digest}", "KEY"


def session(tenant_id: TenantId, session_id: SessionId) -> Key:
    return tenant_partition(tenant_id), f"SESSION#{session_id}"


def pairing(tenant_id: TenantId, session_id: SessionId) -> Key:
    return tenant_partition(tenant_id), f"PAIRING#{session_id}"


def endpoint(tenant_id: TenantId, endpoint_id: EndpointId) -> Key:
    return tenant_partition(tenant_id), f"ENDPOINT#{endpoint_id}"


def former_endpoint(tenant_id: TenantId, endpoint_id: EndpointId) -> Key:
    return tenant_partition(tenant_id), f"FORMER#{endpoint_id}"


def recoveries_prefix(endpoint_id: EndpointId) -> str:
    """What the sort keys of an endpoint's jobs begin with, in its tenant's partition."""
    return f"RECOVERY#{endpoint_id}#"


def recovery(tenant_id: TenantId, endpoint_id: EndpointId, recovery_id: RecoveryId) -> Key:
    return tenant_partition(tenant_id), f"{recoveries_prefix(endpoint_id)}{recovery_id}"


def recovering(tenant_id: TenantId, endpoint_id: EndpointId) -> Key:
    return tenant_partition(tenant_id), f"RECOVERING#{endpoint_id}"


def messages_partition(tenant_id: TenantId, session_id: SessionId) -> str:
    return f"T#{tenant_id}#S#{session_id}"


def message(tenant_id: TenantId, session_id: SessionId, message_id: MessageId) -> Key:
    return messages_partition(tenant_id, session_id), message_id


def events_partition(tenant_id: TenantId) -> str:
    return f"T#{tenant_id}#E"


def event(tenant_id: TenantId, event_id: EventId) -> Key:
    return events_partition(tenant_id), event_id


def log_partition(tenant_id: TenantId) -> str:
    """GSI1 partition that lists a tenant's events in the order they were recorded."""
    return f"T#{tenant_id}#L"


def deliveries_partition(tenant_id: TenantId, endpoint_id: EndpointId) -> str:
    return f"T#{tenant_id}#D#{endpoint_id}"


def delivery(tenant_id: TenantId, endpoint_id: EndpointId, event_id: EventId) -> Key:
    return deliveries_partition(tenant_id, endpoint_id), event_id


def deliveries_in(tenant_id: TenantId, endpoint_id: EndpointId, state: str) -> str:
    """GSI1 partition that lists an endpoint's deliveries in one state, by event."""
    return f"T#{tenant_id}#D#{endpoint_id}#{state}"


def attempts_partition(tenant_id: TenantId, endpoint_id: EndpointId) -> str:
    return f"T#{tenant_id}#A#{endpoint_id}"


def attempt(tenant_id: TenantId, endpoint_id: EndpointId, event_id: EventId, number: int) -> Key:
    return attempts_partition(tenant_id, endpoint_id), f"{event_id}#{number:04}"


def idempotency_partition(tenant_id: TenantId) -> str:
    return f"T#{tenant_id}#I"


def idempotency(tenant_id: TenantId, scope: str, key_hash: str) -> Key:
    return idempotency_partition(tenant_id), f"{scope}#{key_hash}"


def rate_partition(tenant_id: TenantId) -> str:
    return f"T#{tenant_id}#R"


def rate_window(tenant_id: TenantId, window: int) -> Key:
    return rate_partition(tenant_id), str(window)


def leases_partition(shard: int) -> str:
    return f"LEASES#{shard // LEASES_TOGETHER}"


def leases_partitions(shards: int) -> tuple[str, ...]:
    """Where the leases of that many shards are."""
    return tuple(leases_partition(first) for first in range(0, shards, LEASES_TOGETHER))


def lease(shard: int) -> Key:
    return leases_partition(shard), str(shard)


def beats_partitions() -> tuple[str, ...]:
    """Where the gateways' rows are."""
    return tuple(f"BEATS#{n}" for n in range(BEATS))


def worker(worker_id: WorkerId) -> Key:
    return f"BEATS#{zlib.crc32(worker_id.encode()) % BEATS}", worker_id


def shard_index(shard: int) -> str:
    """GSI1 partition that lists the sessions of a shard, for the gateway that holds it."""
    return f"SHARD#{shard}"
