"""Moves of deliveries from state to state, written together.

A move is conditional on the row being as it was seen, and takes what belongs to it along: the
attempt that was made, the event that says it was the last. What many decide while one request is
under way goes into the next, so a burst of deliveries is few requests.
"""

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Final, Self

import msgspec

from gateway.aws import Aws
from gateway.gather import Gather, Outcomes
from gateway.notices import Notice
from gateway.stamps import Stamps
from shared.delivery import Attempt, Delivery
from shared.errors import Contended, Unavailable
from shared.ids import TenantId
from shared.store import deliveries
from shared.store.dynamo import LARGEST_TRANSACTION, Write

LARGEST_MOVES: Final = 24
"""Moves in one request: more would make each wait longer than it saves."""


class Move(msgspec.Struct, frozen=True):
    """A delivery as it was seen and as it is to be, and what is written with it."""

    before: Delivery
    after: Delivery
    attempt: Attempt | None = None
    told: Notice | None = None

    @property
    def key(self) -> tuple[str, str]:
        return self.before.endpoint_id, self.before.event_id

    @property
    def actions(self) -> int:
        """How many writes of a transaction it takes."""
        return (
            1 + (self.attempt is not None) + (0 if self.told is None else 1 + len(self.told.owed))
        )

    @property
    def writes(self) -> tuple[Write, ...]:
        """The move comes first: its condition decides."""
        tenant_id = self.before.tenant_id
        writes = [deliveries.moving(tenant_id, self.before, self.after)]
        if self.attempt is not None:
            writes.append(deliveries.record_attempt(tenant_id, self.attempt))
        if self.told is not None:
            writes += self.told.writes
        return tuple(writes)


class SupersededError(Exception):
    """Another had moved the delivery before."""


class Moves:
    """Makes moves. Open between `async with` and its end."""

    def __init__(self, aws: Aws, now: Callable[[], int]) -> None:
        # What is told beside a move is an event, and has its place in the log.
        self._stamps = Stamps(aws, now)
        self._gather = Gather(self._flush, _Room, _turn)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._gather)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def make(self, move: Move) -> bool:
        """Write a move. False where another had moved the delivery.

        Raises:
            Unavailable: AWS did not answer. It may have been written.
            Contended: because of other writers.
        """
        try:
            await self._gather.add(move)
        except SupersededError:
            return False
        return True

    async def _flush(self, moves: Sequence[Move]) -> Outcomes:
        try:
            superseded = await self._write(moves)
        except Unavailable:
            raise
        except Exception as error:  # noqa: BLE001 - it is theirs who handed the move in
            if len(moves) == 1:
                return [error]
            # One of them is at fault, and the others must not suffer for it.
            return [each for move in moves for each in await self._alone(move)]
        return [SupersededError() if move.key in superseded else None for move in moves]

    async def _alone(self, move: Move) -> Outcomes:
        try:
            return await self._flush([move])
        except (Unavailable, Contended) as error:
            return [error]

    async def _write(self, moves: Sequence[Move]) -> set[tuple[str, str]]:
        """Write those that can be; the keys of the others."""
        left, superseded = list(moves), set[tuple[str, str]]()
        while left:
            refusal = await self._stamps.run([write for move in left for write in move.writes])
            if refusal is None:
                break
            place, still = 0, list[Move]()
            for move in left:
                end = place + move.actions
                if any(refusal.failed(n) for n in range(place, end)):
                    superseded.add(move.key)
                else:
                    still.append(move)
                place = end
            left = still
        return superseded


class _Room:
    """Of a request: so many moves and writes, and each delivery once."""

    def __init__(self) -> None:
        self._actions = 0
        self._keys = set[tuple[str, str]]()

    def fits(self, move: Move) -> bool:
        # A transaction names no row twice: a second move of one delivery waits for the next.
        return (
            len(self._keys) < LARGEST_MOVES
            and self._actions + move.actions <= LARGEST_TRANSACTION
            and move.key not in self._keys
        )

    def take(self, move: Move) -> None:
        self._actions += move.actions
        self._keys.add(move.key)


def _turn(move: Move) -> tuple[TenantId, None]:
    return move.before.tenant_id, None
