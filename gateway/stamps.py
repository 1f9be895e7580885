"""Writes that record events: stamped as they are sent, and over in time.

The event log is ordered by these stamps, and is read on the understanding that none appears later
than `shared.store.events.WITHIN` after its stamp.
"""

import asyncio
from collections.abc import Callable, Sequence

from gateway.aws import Aws
from shared import clock
from shared.aws import Refusal
from shared.errors import Unavailable
from shared.store.dynamo import Write, together
from shared.store.events import WITHIN, stamped


class Stamps:
    """Makes such writes. No two requests have the same stamp, none an earlier one than the last."""

    def __init__(self, aws: Aws, now: Callable[[], int]) -> None:
        self._aws = aws
        self._now = now
        self._last = 0

    async def run(self, writes: Sequence[Write]) -> Refusal | None:
        """Make all of the writes or none, the events among them recorded now; or why not.

        Raises:
            Unavailable: AWS did not answer, or not in time. It may be done all the same.
            Contended: other writers were at the same rows.
        """
        self._last = max(self._now(), self._last + 1)
        op = together(stamped(writes, self._last))
        try:
            async with asyncio.timeout(WITHIN / clock.SECOND):
                return await self._aws.run(op)
        except TimeoutError:
            raise Unavailable(op.service, op.action, "it took too long") from None
