"""The delivering alone: a dispatcher whose moves are gathered as ever, and then not written.

Turns, signatures, posts, verdicts, the breaker, attempts as the log has them and metrics are all
there; rows, requests and what answers them are not.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from gateway.dispatcher import Dispatcher
from gateway.moves import Move, Moves


class UnwrittenMoves(Moves):
    """Moves that go well and leave no row."""

    async def _write(self, moves: Sequence[Move]) -> set[tuple[str, str]]:
        del moves
        # A request lets others run, so that moves are gathered.
        await asyncio.sleep(0)
        return set()


class Unwritten(Dispatcher):
    """The dispatcher with such moves."""

    def __init__(self, **parts: Any) -> None:
        super().__init__(**parts)
        self._moves = UnwrittenMoves(self._aws, self._now)
