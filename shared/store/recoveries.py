"""Jobs that move deliveries: rows and requests.

A running job stands in the due-index under a shard of its own, so that any gateway finds it. At
most one recovery of an endpoint runs: its id stands in a row of its own while it does. There is one
resumption to an endpoint, begun anew whenever it is asked for.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from shared import clock, ids
from shared.aws import Op, Refusal
from shared.delivery import Delivery
from shared.env import Places
from shared.ids import EndpointId, RecoveryId, TenantId
from shared.recovery import Recovery, RecoveryKind, after, resumption
from shared.store import deliveries, keys
from shared.store.deliveries import Choice
from shared.store.dynamo import (
    ABSENT,
    PRESENT,
    Expression,
    Item,
    Page,
    Range,
    Write,
    attribute,
    check,
    delete,
    from_item,
    get,
    named,
    place,
    plain,
    put,
    query,
    setting,
    to_item,
    transact,
)
from shared.store.events import KEEP
from shared.webhook import EndpointStatus

SHARD: Final = "DUE#recoveries"
"""Partition of the due-index that lists running jobs."""


@dataclass(frozen=True, slots=True)
class Counted:
    """What was found in some rows, and where the next begin (None at the end)."""

    found: int
    next: Mapping[str, str] | None


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """Which recovery of an endpoint runs."""

    recovery_id: RecoveryId


def begin_recovery(tenant_id: TenantId, job: Recovery) -> Op[RecoveryId | None]:
    """Store a new recovery. The id of the one that runs now: this one or another.

    None where the endpoint is not enabled any more.
    """
    slot = to_item(
        Running(recovery_id=job.id),
        keys.recovering(tenant_id, job.endpoint_id),
        ttl=_ttl(job.created_at),
    )
    enabled = Expression("#status = :enabled", {"enabled": EndpointStatus.ENABLED.value})
    writes = [
        put(slot, ABSENT, old=True),
        put(_item(tenant_id, job), ABSENT),
        check(keys.endpoint(tenant_id, job.endpoint_id), enabled),
    ]

    def refused(why: Refusal) -> RecoveryId | None:
        there = why.item(0)
        return None if there is None else RecoveryId(plain(there["recovery_id"]))

    op = transact(writes)
    return Op(op.service, op.action, op.params, lambda _: job.id, refused)


def begin_resume(tenant_id: TenantId, endpoint_id: EndpointId, now: int) -> Op[bool]:
    """Release everything that is held for an endpoint, in order. False where it is gone.

    One that runs begins anew and counts anew: what it released is not held any more, so nothing is
    released twice, and nothing that was held behind its back is left.
    """
    job = resumption(tenant_id, endpoint_id, ids.resuming(endpoint_id), now)
    fields = msgspec.to_builtins(job)
    del fields["version"]
    anew = setting({**fields, "ttl": _ttl(now), "due_shard": SHARD})
    counted = Expression(f"{anew.text} ADD #version :one", {**anew.values, "one": 1})
    key = named(keys.recovery(tenant_id, endpoint_id, job.id))
    return transact(
        [
            check(keys.endpoint(tenant_id, endpoint_id), PRESENT),
            Write("Update", {"Key": key, **counted.into("UpdateExpression")}),
        ]
    )


def replacing(tenant_id: TenantId, seen: Recovery, changed: Recovery) -> Write:
    """Store a job's next state, unless another has written it since it was `seen`."""
    later = msgspec.structs.replace(changed, version=seen.version + 1)
    unchanged = Expression("#version = :seen", {"seen": seen.version})
    return put(_item(tenant_id, later), unchanged)


def replace(tenant_id: TenantId, seen: Recovery, changed: Recovery) -> Op[bool]:
    """`replacing`, alone. False where another has written it."""
    return replacing(tenant_id, seen, changed).alone()


def finish(tenant_id: TenantId, seen: Recovery, ended: Recovery) -> Op[bool]:
    """Store a job's end, and make room for the next. False where another has written it."""
    last = replacing(tenant_id, seen, ended)
    if seen.kind is RecoveryKind.RESUME:
        return last.alone()
    return transact([last, delete(keys.recovering(tenant_id, seen.endpoint_id))])


def forget(tenant_id: TenantId, job: Recovery) -> Op[bool]:
    """Erase a job whose endpoint is gone."""
    return transact(
        [
            delete(keys.recovery(tenant_id, job.endpoint_id, job.id)),
            delete(keys.recovering(tenant_id, job.endpoint_id)),
        ]
    )


def read(
    tenant_id: TenantId, endpoint_id: EndpointId, recovery_id: RecoveryId
) -> Op[Recovery | None]:
    return get(keys.recovery(tenant_id, endpoint_id, recovery_id), Recovery)


def every(tenant_id: TenantId, endpoint_id: EndpointId, rows: Range) -> Op[Page[Recovery]]:
    """An endpoint's jobs, by age; its resumption has the endpoint's age."""
    partition = keys.tenant_partition(tenant_id)
    return query(partition, Recovery, rows, prefix=keys.recoveries_prefix(endpoint_id))


def due(now: int, limit: int) -> Op[tuple[Recovery, ...]]:
    """Jobs of every tenant that are due, oldest first, for gateways."""

    def params(at: Places) -> dict[str, object]:
        return {
            "TableName": at.table,
            "IndexName": "Due",
            "Limit": limit,
            "KeyConditionExpression": "due_shard = :shard AND due_at <= :now",
            "ExpressionAttributeValues": {":shard": attribute(SHARD), ":now": attribute(now)},
        }

    return Op(
        "dynamodb",
        "query",
        params,
        lambda response: tuple(from_item(item, Recovery) for item in response["Items"]),
    )


def page(tenant_id: TenantId, job: Recovery, limit: int) -> Op[Page[Delivery]]:
    """The deliveries behind a job's cursor, oldest first; with a filter a page may be short."""
    low = job.low if job.cursor is None else after(job.cursor)
    return deliveries.chosen(
        tenant_id,
        job.endpoint_id,
        _choice(job),
        Range(limit, newest_first=False),
        between=(low, max(low, job.high)),
    )


def count(
    tenant_id: TenantId, job: Recovery, limit: int, start: Mapping[str, str] | None
) -> Op[Counted]:
    """How many deliveries a job would find among the next `limit` rows."""
    op = deliveries.chosen(
        tenant_id,
        job.endpoint_id,
        _choice(job),
        Range(limit, start, newest_first=False),
        between=(job.low, job.high),
    )
    return Op(
        op.service,
        op.action,
        lambda at: {**op.params(at), "Select": "COUNT"},
        lambda response: Counted(response["Count"], place(response)),
    )


def _choice(job: Recovery) -> Choice:
    # Its tenant was there when a test failed, and has no use for it afterwards.
    return Choice(job.states, job.types, job.session_id, tests=False)


def _item(tenant_id: TenantId, job: Recovery) -> Item:
    return to_item(
        job,
        keys.recovery(tenant_id, job.endpoint_id, job.id),
        ttl=_ttl(job.updated_at),
        due_shard=None if job.due_at is None else SHARD,
    )


def _ttl(moment: int) -> int:
    return (moment + KEEP) // clock.SECOND
