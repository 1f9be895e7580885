"""A table in memory that answers at once: what is left of a figure when the store costs nothing.

It keeps rows and believes every condition, so it is for work that meets no other writer. Requests
are still made as values and read back, because that is the gateway's own work; the client, the
wire and the database behind it are not.
"""

import asyncio
from typing import Any, Self, TypeVar

from gateway.aws import Aws
from shared.aws import Op
from shared.env import Places
from shared.queue import LONGEST_POLL

T = TypeVar("T")
Item = dict[str, Any]


class MemoryAws(Aws):
    """AWS as far as recording and delivering need it, in a dict."""

    def __init__(self, places: Places) -> None:
        super().__init__(places)
        self._partitions: dict[str, dict[str, Item]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def run(self, op: Op[T]) -> T:
        self.requests[op.service, op.action] += 1
        # A request lets others run: without that, nothing would ever be gathered.
        await asyncio.sleep(LONGEST_POLL if op.action == "receive_message" else 0)
        return op.decode(self._answer(op.action, op.params(self.places)))

    def _answer(self, action: str, params: dict[str, Any]) -> dict[str, Any]:
        match action:
            case "put_item":
                self._put(params["Item"])
            case "transact_write_items":
                for each in params["TransactItems"]:
                    if "Put" in each:
                        self._put(each["Put"]["Item"])
            case "get_item":
                key = params["Key"]
                row = self._partitions.get(key["PK"]["S"], {}).get(key["SK"]["S"])
                return {} if row is None else {"Item": row}
            case "query":
                return {"Items": [] if "IndexName" in params else self._query(params)}
            case _:
                pass
        return {}

    def _put(self, item: Item) -> None:
        self._partitions.setdefault(item["PK"]["S"], {})[item["SK"]["S"]] = item

    def _query(self, params: dict[str, Any]) -> list[Item]:
        values = params["ExpressionAttributeValues"]
        prefix = values.get(":prefix", {"S": ""})["S"]
        rows = self._partitions.get(values[":pk"]["S"], {})
        return [row for key, row in sorted(rows.items()) if key.startswith(prefix)]
