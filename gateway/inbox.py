"""The inbox: the queues of all the shards we hold, from the moment each is won until it is lost."""

import asyncio
from collections.abc import Callable
from typing import Self

from gateway.loops import Loop
from gateway.orders import Orders
from gateway.shard import ShardInbox


class Inbox:
    """The inboxes of all held shards."""

    def __init__(self, make: Callable[[int], ShardInbox], orders: Orders) -> None:
        self._make = make
        self._orders = orders
        self._shards: dict[int, tuple[ShardInbox, asyncio.Task[None]]] = {}
        self._tasks = asyncio.TaskGroup()

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Read no more, finish what is in hand, give back the rest."""
        await asyncio.gather(*(inbox.close() for inbox, _ in self._shards.values()))
        await self._tasks.__aexit__(None, None, None)

    def won(self, shard: int) -> None:
        """Begin to serve a shard."""
        inbox = self._make(shard)
        self._shards[shard] = inbox, self._tasks.create_task(inbox.run(), name=f"shard {shard}")

    async def left(self, shard: int) -> None:
        """Stop serving a shard in order: what is in hand is finished first, or given back."""
        inbox, task = self._shards[shard]
        await inbox.close()
        await asyncio.wait([task])
        await self._orders.leave(shard)
        del self._shards[shard]

    async def lost(self, shard: int) -> None:
        """Stop serving a shard at once; its sockets are closed when this returns."""
        served = self._shards.pop(shard, None)
        if served is None:
            return  # left in order a moment ago
        _, task = served
        task.cancel()
        await self._orders.leave(shard)
        await asyncio.wait([task])
        # A start that was under way when we began to leave.
        await self._orders.leave(shard)

    def loops(self) -> list[Loop]:
        """The loops that read the held shards' queues."""
        return [inbox.loop for inbox, _ in self._shards.values()]

    def served(self) -> list[ShardInbox]:
        """The inboxes of the shards that are served now."""
        return [inbox for inbox, _ in self._shards.values()]

    @property
    def in_hand(self) -> int:
        return sum(inbox.in_hand for inbox, _ in self._shards.values())
