"""The gate before a host's start: a few pass at a time, and who is next.

A gateway that wins shards has hundreds of sessions to start, each taking most of a second of a
core. What a tenant ordered passes first; then come devices that were connected, then numbers that
wait to be linked. In each of these, tenants take turns, and of one tenant's, those connected last
go first.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from shared.ids import TenantId


@dataclass(slots=True, eq=False)
class Claim:
    """Somebody who wants to pass, or will. It may become more urgent while it waits."""

    tenant_id: TenantId
    connected_at: int | None = None
    """When the session was last connected; None where no device is linked."""
    ordered: bool = False
    """A tenant waits for it."""


def first(waiting: Iterable[Claim], turns: Mapping[TenantId, int]) -> Claim:
    """Who passes next of those that wait, in the order they came. There must be one.

    `turns` numbers the last passage of each tenant that passed lately.
    """

    def rank(claim: Claim) -> tuple[bool, bool, int, int]:
        recency = 0 if claim.ordered else claim.connected_at or 0
        turn = turns.get(claim.tenant_id, -1)
        unlinked = not claim.ordered and claim.connected_at is None
        return not claim.ordered, unlinked, turn, -recency

    return min(waiting, key=rank)


class Gate:
    """Lets as many through at a time as it is wide."""

    def __init__(self, width: int) -> None:
        self._free = width
        self._waiting: dict[Claim, asyncio.Future[None]] = {}
        self._turns: dict[TenantId, int] = {}
        self._passed = 0

    @asynccontextmanager
    async def passage(self, claim: Claim) -> AsyncGenerator[None]:
        """Wait for one's turn, and hold a place until the end of the context."""
        await self._enter(claim)
        try:
            yield
        finally:
            self._leave()

    async def _enter(self, claim: Claim) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[claim] = turn
        self._admit()
        try:
            await turn
        except asyncio.CancelledError:
            if self._waiting.pop(claim, None) is None:
                self._leave()  # its turn came in the same moment
            raise

    def _leave(self) -> None:
        self._free += 1
        self._admit()

    def _admit(self) -> None:
        while self._free and self._waiting:
            claim = first(self._waiting, self._turns)
            turn = self._waiting.pop(claim)
            self._free -= 1
            self._passed += 1
            self._turns[claim.tenant_id] = self._passed
            turn.set_result(None)
        if not self._waiting:
            self._turns.clear()
