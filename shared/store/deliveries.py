"""Deliveries and their attempts: rows and requests.

A delivery that is due stands in the due-index, one that is held or was given up in an index of its
endpoint, so that all of them are found without reading what was delivered.
"""

import zlib
from dataclasses import dataclass
from typing import Final

from shared import clock
from shared.aws import Op, Response
from shared.delivery import Attempt, Delivery, DeliveryState, Trigger
from shared.env import Places
from shared.ids import EndpointId, EventId, SessionId, TenantId, WorkerId
from shared.store import keys
from shared.store.dynamo import (
    ABSENT,
    Expression,
    Item,
    Page,
    Range,
    Write,
    attribute,
    from_item,
    get,
    put,
    query,
    to_item,
)
from shared.store.events import KEEP, StoredEvent

DUE_SHARDS: Final = 8
"""Partitions of the due-index, so that its writes spread."""
INDEXED: Final = frozenset({DeliveryState.HELD, DeliveryState.GAVE_UP})
"""States whose deliveries are listed by `deliveries_in`."""


def _item(tenant_id: TenantId, delivery: Delivery) -> Item:
    found_by = (
        keys.deliveries_in(tenant_id, delivery.endpoint_id, delivery.state)
        if delivery.state in INDEXED
        else None
    )
    return to_item(
        delivery,
        keys.delivery(tenant_id, delivery.endpoint_id, delivery.event_id),
        ttl=(delivery.created_at + KEEP) // clock.SECOND,
        due_shard=None if delivery.due_at is None else due_shard(delivery.event_id),
        GSI1PK=found_by,
        GSI1SK=None if found_by is None else delivery.event_id,
    )


def due_shard(event_id: EventId) -> str:
    return f"DUE#{zlib.crc32(event_id.encode()) % DUE_SHARDS}"


def owing(
    event: StoredEvent, endpoint_id: EndpointId, now: int, trigger: Trigger = Trigger.EVENT
) -> Delivery:
    """A new delivery of an event, due at once."""
    return Delivery(
        tenant_id=event.tenant_id,
        endpoint_id=endpoint_id,
        event_id=event.id,
        event_type=event.type,
        session_id=event.session_id,
        state=DeliveryState.WAITING,
        trigger=trigger,
        attempt=0,
        created_at=now,
        updated_at=now,
        due_at=now,
    )


def record_delivery(tenant_id: TenantId, delivery: Delivery) -> Write:
    """Write a new delivery, once."""
    return put(_item(tenant_id, delivery), ABSENT)


def read_delivery(
    tenant_id: TenantId, endpoint_id: EndpointId, event_id: EventId
) -> Op[Delivery | None]:
    return get(keys.delivery(tenant_id, endpoint_id, event_id), Delivery)


def moving(tenant_id: TenantId, before: Delivery, after: Delivery) -> Write:
    """Replace a delivery by its next state, unless another has moved it meanwhile."""
    as_seen = Expression(
        "#state = :seen_state AND #attempt = :seen_attempt AND #updated_at = :seen_at",
        {
            "seen_state": before.state.value,
            "seen_attempt": before.attempt,
            "seen_at": before.updated_at,
        },
    )
    return put(_item(tenant_id, after), as_seen)


def move_delivery(tenant_id: TenantId, before: Delivery, after: Delivery) -> Op[bool]:
    """`moving`, alone. False where another has moved it meanwhile."""
    return moving(tenant_id, before, after).alone()


def due_deliveries(shard: int, now: int, limit: int) -> Op[tuple[Delivery, ...]]:
    """Deliveries of every tenant that are due, oldest first, for the sweeper."""

    def params(at: Places) -> dict[str, object]:
        return {
            "TableName": at.table,
            "IndexName": "Due",
            "Limit": limit,
            "KeyConditionExpression": "due_shard = :shard AND due_at <= :now",
            "ExpressionAttributeValues": {
                ":shard": attribute(f"DUE#{shard}"),
                ":now": attribute(now),
            },
        }

    return Op(
        "dynamodb",
        "query",
        params,
        lambda response: tuple(from_item(item, Delivery) for item in response["Items"]),
    )


def claims(
    shard: int, owner: WorkerId, now: int, until: int, start: Response | None = None
) -> Op[tuple[tuple[Delivery, ...], Response | None]]:
    """What a gateway has claimed until some time between `now` and `until`, oldest first.

    A page of it, and where the next begins, if there is one.
    """

    def params(at: Places) -> dict[str, object]:
        request: dict[str, object] = {
            "TableName": at.table,
            "IndexName": "Due",
            "KeyConditionExpression": "due_shard = :shard AND due_at BETWEEN :now AND :until",
            "FilterExpression": "claimed_by = :owner",
            "ExpressionAttributeValues": {
                ":shard": attribute(f"DUE#{shard}"),
                ":now": attribute(now),
                ":until": attribute(until),
                ":owner": attribute(owner),
            },
        }
        return request if start is None else {**request, "ExclusiveStartKey": start}

    def decode(response: Response) -> tuple[tuple[Delivery, ...], Response | None]:
        found = tuple(from_item(item, Delivery) for item in response["Items"])
        return found, response.get("LastEvaluatedKey")

    return Op("dynamodb", "query", params, decode)


def every_delivery(
    tenant_id: TenantId,
    endpoint_id: EndpointId,
    rows: Range,
    *,
    between: tuple[str, str] | None = None,
    only: Expression | None = None,
) -> Op[Page[Delivery]]:
    """An endpoint's deliveries whose events' ids lie between two; `only` filters after reading."""
    partition = keys.deliveries_partition(tenant_id, endpoint_id)
    return query(partition, Delivery, rows, between=between, only=only)


def deliveries_in(
    tenant_id: TenantId,
    endpoint_id: EndpointId,
    state: DeliveryState,
    rows: Range,
    *,
    between: tuple[str, str] | None = None,
    only: Expression | None = None,
) -> Op[Page[Delivery]]:
    """An endpoint's deliveries in one of the `INDEXED` states. An index: about a second behind."""
    partition = keys.deliveries_in(tenant_id, endpoint_id, state)
    return query(partition, Delivery, rows, between=between, only=only, index=True)


@dataclass(frozen=True, slots=True)
class Choice:
    """Which of an endpoint's deliveries are meant; what is empty means any."""

    states: tuple[DeliveryState, ...] = ()
    types: tuple[str, ...] = ()
    """Event types, or families such as `message.*`."""
    session_id: SessionId | None = None
    tests: bool = True

    @property
    def index(self) -> DeliveryState | None:
        """The state whose index lists them, if it does."""
        return self.states[0] if len(self.states) == 1 and self.states[0] in INDEXED else None

    @property
    def only(self) -> Expression | None:
        """What the rows that are read must be."""
        parts: list[str] = []
        values: dict[str, object] = {}
        if self.states and self.index is None:
            tests = " OR ".join(f"#state = :state{n}" for n in range(len(self.states)))
            parts.append(f"({tests})")
            values |= {f"state{n}": state.value for n, state in enumerate(self.states)}
        families = [kind[:-1] for kind in self.types if kind.endswith("*")]
        names = [kind for kind in self.types if not kind.endswith("*")]
        if "" not in families and self.types:
            fits = [
                *(f"begins_with(#event_type, :family{n})" for n in range(len(families))),
                *(f"#event_type = :type{n}" for n in range(len(names))),
            ]
            parts.append(f"({' OR '.join(fits)})")
            values |= {f"family{n}": family for n, family in enumerate(families)}
            values |= {f"type{n}": name for n, name in enumerate(names)}
        if self.session_id is not None:
            parts.append("#session_id = :session_id")
            values["session_id"] = self.session_id
        if not self.tests:
            parts.append("#trigger <> :test")
            values["test"] = Trigger.TEST.value
        return Expression(" AND ".join(parts), values) if parts else None


def chosen(
    tenant_id: TenantId,
    endpoint_id: EndpointId,
    choice: Choice,
    rows: Range,
    *,
    between: tuple[str, str],
) -> Op[Page[Delivery]]:
    """The deliveries meant, from the index that lists them or from among all.

    What is passed over counts for the range's limit: a page may be short with more to come.
    """
    state, only = choice.index, choice.only
    if state is None:
        return every_delivery(tenant_id, endpoint_id, rows, between=between, only=only)
    return deliveries_in(tenant_id, endpoint_id, state, rows, between=between, only=only)


def record_attempt(tenant_id: TenantId, attempt: Attempt) -> Write:
    """Log an attempt. Written twice it is the same row."""
    key = keys.attempt(tenant_id, attempt.endpoint_id, attempt.event_id, attempt.number)
    return put(to_item(attempt, key, ttl=(attempt.began_at + KEEP) // clock.SECOND))


def every_attempt(
    tenant_id: TenantId, endpoint_id: EndpointId, event_id: EventId, rows: Range
) -> Op[Page[Attempt]]:
    """A delivery's attempts, by number."""
    partition = keys.attempts_partition(tenant_id, endpoint_id)
    return query(partition, Attempt, rows, prefix=f"{event_id}#")
