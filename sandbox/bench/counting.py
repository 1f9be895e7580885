"""What recorded requests were for, and which of them a message or an event paid."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final, cast

import msgspec

from sandbox.bench.script import Record

_PARTITIONS: Final = {
    "S": "message",
    "E": "event",
    "D": "delivery",
    "A": "attempt",
    "I": "idempotency",
    "R": "rate",
}


def row_kind(key: dict[str, Any]) -> str:
    """Which row a key names, as the table of `shared.store.keys` has it."""
    partition = str(key.get("PK", {}).get("S", ""))
    if partition.startswith("T#"):
        parts = partition.split("#")
        if len(parts) > 2:
            return _PARTITIONS.get(parts[2], "?")
        return str(key.get("SK", {}).get("S", "")).partition("#")[0].lower() or "tenant"
    return {"LEASES": "lease", "BEATS": "lease", "K": "key"}.get(partition.partition("#")[0], "?")


def purpose(record: Record) -> str:
    """A request in few words: `PutItem message`, `TransactWriteItems event+message`.

    However many rows of a kind there are: a transaction is one request.
    """
    try:
        body: dict[str, Any] = msgspec.json.decode(record.body)
    except msgspec.DecodeError:
        return record.action or record.target
    return purpose_of(record.service, record.action, body)


def purpose_of(service: str, action: str, body: dict[str, Any]) -> str:
    """The purpose of a request that was not recorded; `action` as the wire or botocore names it."""
    action = "".join(word[:1].upper() + word[1:] for word in action.split("_"))
    if service == "sqs":
        queue = "command" if ".fifo" in str(body.get("QueueUrl", "")) else "delivery"
        return f"{action} {queue}"
    return f"{action} {'+'.join(dict.fromkeys(_kinds(body))) or '?'}"


def _kinds(body: dict[str, Any]) -> list[str]:
    if "TransactItems" in body:
        return [row_kind(_key(next(iter(each.values())))) for each in body["TransactItems"]]
    if "RequestItems" in body:
        return [kind for each in body["RequestItems"].values() for kind in _batched(each)]
    if "Key" in body or "Item" in body:
        return [row_kind(_key(body))]
    values = cast("dict[str, dict[str, str]]", body.get("ExpressionAttributeValues", {}))
    index = f" {body['IndexName']}" if "IndexName" in body else ""
    # As `shared.store.dynamo.query` names a partition and the beginning of its sort keys.
    key = {"PK": values.get(":pk", {}), "SK": values.get(":prefix", {})}
    return [(row_kind(key) + index).strip("? ") or "?"]


def _batched(requests: object) -> list[str]:
    if isinstance(requests, dict):  # BatchGetItem
        keys = cast("dict[str, list[dict[str, Any]]]", requests).get("Keys", [])
        return [row_kind(key) for key in keys]
    each = cast("list[dict[str, dict[str, Any]]]", requests)
    return [row_kind(_key(next(iter(request.values())))) for request in each]


def _key(write: dict[str, Any]) -> dict[str, Any]:
    return write.get("Key") or write.get("Item") or {}


def is_idle(record: Record) -> bool:
    """A poll or a sweep that brought nothing, or a lease's upkeep: the price of being there."""
    found = {"ReceiveMessage command": "Messages", "ReceiveMessage delivery": "Messages"}
    name = purpose(record)
    if name.endswith(" lease"):
        return True
    member = found.get(name, "Items" if name == "Query Due" else "")
    try:
        return bool(member) and not msgspec.json.decode(record.answer).get(member)
    except msgspec.DecodeError:
        return False


def paid(records: Iterable[Record], background: frozenset[str] = frozenset()) -> list[Record]:
    """What was done for somebody: neither idle, nor seen while nobody wanted anything."""
    return [each for each in records if not is_idle(each) and purpose(each) not in background]


def tally(records: Sequence[Record], times: int) -> str:
    """Requests by purpose, for each of `times`: `1.0 PutItem message, …`, most first."""
    counted = Counter(purpose(each) for each in records)
    return ", ".join(f"{count / times:.2g} {name}" for name, count in counted.most_common())
