"""Requests that record events: stamped as they are sent, and over in time.

The event log is ordered by these stamps, and is read on the understanding that none appears later
than `shared.store.events.WITHIN` after its stamp.
"""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from gateway.aws import Aws
from shared import clock
from shared.aws import Op
from shared.errors import Unavailable
from shared.store.events import WITHIN

T = TypeVar("T")


class Stamps:
    """Runs such requests. No two have the same stamp, and none an earlier one than the last."""

    def __init__(self, aws: Aws, now: Callable[[], int]) -> None:
        self._aws = aws
        self._now = now
        self._last = 0

    async def run(self, stamped: Callable[[int], Op[T]]) -> T:
        """Send the request that records at the moment given.

        Raises Unavailable if it takes too long: it may be carried out all the same. Then it must
        not be sent again as it was, but with a new stamp.
        """
        self._last = max(self._now(), self._last + 1)
        op = stamped(self._last)
        try:
            async with asyncio.timeout(WITHIN / clock.SECOND):
                return await self._aws.run(op)
        except TimeoutError:
            raise Unavailable(op.service, op.action, "it took too long") from None
