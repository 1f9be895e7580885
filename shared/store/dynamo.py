"""How values become items, and conditions become requests: DynamoDB's low-level form, once.

Rows are msgspec Structs; an item carries their fields and the keys. None is an absent attribute.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Generic, Literal, TypeVar, cast

import msgspec

from shared.aws import Op, Refusal, Response
from shared.env import Places
from shared.store.keys import Key

T = TypeVar("T")
S = TypeVar("S", bound=msgspec.Struct)

Item = dict[str, Any]
"""Attribute names to DynamoDB's tagged values: `{"name": {"S": "…"}}`."""

LARGEST_TRANSACTION: Final = 100
"""Actions in one TransactWriteItems (AWS limit)."""


def attribute(value: object) -> dict[str, Any]:
    """A builtin value in DynamoDB's tagged form."""
    # Nearly every value is one of these two, and every write makes dozens.
    if type(value) is str:
        return {"S": value}
    if type(value) is int:
        return {"N": str(value)}
    match value:
        case bool():
            return {"BOOL": value}
        case str():
            return {"S": value}
        case int() | float():
            return {"N": str(value)}
        case bytes():
            return {"B": value}
        case None:
            return {"NULL": True}
        case list() | tuple():
            return {"L": [attribute(each) for each in cast("list[object]", value)]}
        case dict():
            members = cast("dict[str, object]", value)
            return {"M": {key: attribute(each) for key, each in members.items()}}
        case _:
            raise TypeError(f"no DynamoDB form for {type(value).__name__}")


def plain(tagged: Mapping[str, Any]) -> Any:
    """The builtin value of a tagged one. Numbers are ints where they are whole."""
    ((tag, value),) = tagged.items()
    match tag:
        case "S" | "B" | "BOOL":
            return value
        case "N":
            return int(value) if value.lstrip("-").isdigit() else float(value)
        case "NULL":
            return None
        case "L":
            return [plain(each) for each in value]
        case "M":
            return {key: plain(each) for key, each in value.items()}
        case _:
            raise TypeError(f"no builtin form for DynamoDB's {tag}")


def to_item(row: msgspec.Struct, key: Key, **extra: object) -> Item:
    """A row as an item: its fields that are set, its key, and index or TTL attributes."""
    fields: dict[str, object] = msgspec.to_builtins(row, builtin_types=(bytes,))
    fields.update(extra, PK=key[0], SK=key[1])
    # Most values are text: they are spared the call.
    return {
        name: {"S": value} if type(value) is str else attribute(value)
        for name, value in fields.items()
        if value is not None
    }


def from_item(item: Mapping[str, Any], kind: type[S]) -> S:
    """The row in an item; attributes the Struct does not name are passed over."""
    values = {name: plain(tagged) for name, tagged in item.items()}
    return msgspec.convert(values, kind, builtin_types=(bytes,))


def named(key: Key) -> Item:
    return {"PK": {"S": key[0]}, "SK": {"S": key[1]}}


class Write(msgspec.Struct, frozen=True):
    """One conditional write: a request alone, or part of a transaction."""

    kind: Literal["Put", "Update", "Delete", "ConditionCheck"]
    body: Mapping[str, Any]

    def alone(self, refused: Callable[[Refusal], bool] | None = None) -> Op[bool]:
        """A request of its own. True when it was written; a failed condition is False."""
        action = {"Put": "put_item", "Update": "update_item", "Delete": "delete_item"}[self.kind]
        return Op(
            "dynamodb",
            action,
            lambda at: {"TableName": at.table, **self.body},
            lambda _: True,
            refused or (lambda _: False),
        )


_NAME: Final = re.compile(r"#\w+")


@lru_cache
def _names(*texts: str) -> Mapping[str, str]:
    """The names in a request's expressions, of which there are few, each used for ever."""
    names = {name for text in texts for name in _NAME.findall(text)}
    return {name: name[1:] for name in sorted(names)}


class Expression(msgspec.Struct, frozen=True):
    """A condition or an update, with the values it names. Every name is escaped as `#name`."""

    text: str
    values: Mapping[str, object] = {}

    def into(self, parameter: str, extra: "Expression | None" = None) -> dict[str, Any]:
        """Parameters of a request: the text under `parameter`, names and values beside it."""
        request: dict[str, Any] = {parameter: self.text}
        names, values = _names(self.text), self.values
        if extra is not None:
            request["ConditionExpression"] = extra.text
            names, values = _names(self.text, extra.text), {**values, **extra.values}
        if names:
            request["ExpressionAttributeNames"] = names
        if values:
            request["ExpressionAttributeValues"] = {
                f":{name}": attribute(value) for name, value in values.items()
            }
        return request


ABSENT: Final = Expression("attribute_not_exists(#PK)")
PRESENT: Final = Expression("attribute_exists(#PK)")


def put(item: Item, condition: Expression | None = None, *, old: bool = False) -> Write:
    """Write the whole item, if the condition holds; `old` asks for the item that was in the way."""
    body: dict[str, Any] = {"Item": item}
    if condition is not None:
        body |= condition.into("ConditionExpression")
        if old:
            body["ReturnValuesOnConditionCheckFailure"] = "ALL_OLD"
    return Write("Put", body)


def update(
    key: Key, change: Expression, condition: Expression = PRESENT, *, old: bool = False
) -> Write:
    """Change some attributes; `old` asks for the item as it was if the condition fails."""
    body = {"Key": named(key), **change.into("UpdateExpression", condition)}
    if old:
        body["ReturnValuesOnConditionCheckFailure"] = "ALL_OLD"
    return Write("Update", body)


def delete(key: Key, condition: Expression | None = None) -> Write:
    body: dict[str, Any] = {"Key": named(key)}
    if condition is not None:
        body |= condition.into("ConditionExpression")
    return Write("Delete", body)


def check(key: Key, condition: Expression) -> Write:
    return Write("ConditionCheck", {"Key": named(key), **condition.into("ConditionExpression")})


def setting(values: Mapping[str, object]) -> Expression:
    """`SET` of each value, `REMOVE` of each None."""
    sets = {name: value for name, value in values.items() if value is not None}
    removes = [f"#{name}" for name, value in values.items() if value is None]
    text = "SET " + ", ".join(f"#{name} = :{name}" for name in sets) if sets else ""
    if removes:
        text = f"{text} REMOVE {', '.join(removes)}".strip()
    return Expression(text, sets)


def get(key: Key, kind: type[S], *, consistent: bool = True) -> Op[S | None]:
    return Op(
        "dynamodb",
        "get_item",
        lambda at: {"TableName": at.table, "Key": named(key), "ConsistentRead": consistent},
        lambda response: from_item(response["Item"], kind) if "Item" in response else None,
    )


def transact(writes: Sequence[Write], refused: Callable[[Refusal], bool] | None = None) -> Op[bool]:
    """All of the writes or none. True when written; a failed condition is False."""
    if len(writes) > LARGEST_TRANSACTION:
        raise ValueError(f"a transaction takes {LARGEST_TRANSACTION} writes, not {len(writes)}")

    def params(at: Places) -> dict[str, Any]:
        return {
            "TransactItems": [{each.kind: {"TableName": at.table, **each.body}} for each in writes]
        }

    return Op(
        "dynamodb", "transact_write_items", params, lambda _: True, refused or (lambda _: False)
    )


def together(writes: Sequence[Write]) -> Op[Refusal | None]:
    """All of the writes or none, in the cheapest request: None when written, or why not."""
    op = writes[0].alone() if len(writes) == 1 else transact(writes)
    return Op(op.service, op.action, op.params, lambda _: None, lambda refusal: refusal)


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Rows of a list, and where the next page begins (None at the end)."""

    rows: tuple[T, ...]
    next: Mapping[str, str] | None


@dataclass(frozen=True, slots=True)
class Range:
    """Which rows of a partition: newest or oldest first, from a place, at most so many."""

    limit: int
    start: Mapping[str, str] | None = None
    newest_first: bool = True


def query(
    partition: str,
    kind: type[S],
    rows: Range,
    *,
    prefix: str = "",
    between: tuple[str, str] | None = None,
    index: bool = False,
    only: Expression | None = None,
) -> Op[Page[S]]:
    """A page of a partition, in the order of its sort key; `index` asks GSI1 instead."""
    pk, sk = ("GSI1PK", "GSI1SK") if index else ("PK", "SK")
    text, values = f"#{pk} = :pk", {"pk": partition}
    if between is not None:
        text += f" AND #{sk} BETWEEN :low AND :high"
        values |= {"low": between[0], "high": between[1]}
    elif prefix:
        text += f" AND begins_with(#{sk}, :prefix)"
        values |= {"prefix": prefix}
    condition = Expression(text, values).into("KeyConditionExpression")
    if only is not None:
        extra = only.into("FilterExpression")
        for name in ("ExpressionAttributeNames", "ExpressionAttributeValues"):
            extra[name] = {**condition.get(name, {}), **extra.get(name, {})}
        condition |= extra

    def params(at: Places) -> dict[str, Any]:
        request: dict[str, Any] = {
            "TableName": at.table,
            "Limit": rows.limit,
            "ScanIndexForward": not rows.newest_first,
            "ConsistentRead": not index,
            **condition,
        }
        if index:
            request["IndexName"] = "GSI1"
        if rows.start is not None:
            request["ExclusiveStartKey"] = {
                name: attribute(value) for name, value in rows.start.items()
            }
        return request

    def decode(response: Response) -> Page[S]:
        return Page(tuple(from_item(item, kind) for item in response["Items"]), place(response))

    return Op("dynamodb", "query", params, decode)


def place(response: Response) -> Mapping[str, str] | None:
    """Where the rows begin that a query has not read; None at the end."""
    last = response.get("LastEvaluatedKey")
    return None if last is None else {name: plain(value) for name, value in last.items()}


class KeyRow(msgspec.Struct, frozen=True):
    """Only a row's own key: what erasing needs."""

    PK: str
    SK: str

    @property
    def key(self) -> Key:
        return self.PK, self.SK


LARGEST_BATCH: Final = 25
"""Requests in one BatchWriteItem (AWS limit)."""


def erase(keys: Sequence[Key]) -> Op[tuple[Key, ...]]:
    """Delete up to 25 rows without conditions; the keys AWS left undone are returned."""

    def params(at: Places) -> dict[str, Any]:
        return {
            "RequestItems": {at.table: [{"DeleteRequest": {"Key": named(key)}} for key in keys]}
        }

    def decode(response: Response) -> tuple[Key, ...]:
        left = [
            request for table in response.get("UnprocessedItems", {}).values() for request in table
        ]
        return tuple(
            (request["DeleteRequest"]["Key"]["PK"]["S"], request["DeleteRequest"]["Key"]["SK"]["S"])
            for request in left
        )

    return Op("dynamodb", "batch_write_item", params, decode)
