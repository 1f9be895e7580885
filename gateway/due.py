"""What is due again, found in three ways.

The delivery queue wakes for what is due within minutes, to the second. What a gateway had claimed
that lost its leases is looked for by whoever takes them. And the sweeper finds in the due-index
whatever is overdue: long retries, what was held or found no room, lost wake-ups, and claims that
lapsed.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import msgspec

from gateway.aws import Aws
from gateway.delivery import CLAIM
from gateway.loops import Loop
from gateway.metrics import Metrics
from shared import clock, queue
from shared.delivery import Delivery, DeliveryState, Wake
from shared.env import Places
from shared.errors import Contended, Malformed, Unavailable
from shared.ids import EndpointId, WorkerId
from shared.logs import fields
from shared.store import deliveries
from shared.store.deliveries import DUE_SHARDS

log = logging.getLogger(__name__)

SWEEP_SECONDS: Final = 5.0
SWEEP_PAGE: Final = 100
SWEEP_PAGES: Final = 5
"""Of one shard in one sweep, so that no shard keeps the others waiting."""
SWEEP_LIMIT: Final = 60.0
"""Seconds after which no further shard is begun: a sweep that takes long must not seem to hang."""
GRACE: Final = 2 * clock.SECOND
"""How long the sweeper leaves a due delivery to its wake-up."""
EARLY: Final = 2 * clock.SECOND
"""How far ahead of its time a wake-up may come: SQS counts whole seconds."""
SIDELINED: Final = 30 * clock.SECOND
"""How long a due delivery is put off that finds no room, so that those behind it are seen."""

_random = random.SystemRandom().random


class Takes(Protocol):
    """Who attempts what is due."""

    async def take(self, delivery: Delivery) -> bool:
        """Claim it, or put it off. False where it has moved."""
        ...


class Due:
    """The two loops."""

    def __init__(
        self,
        *,
        places: Places,
        aws: Aws,
        takes: Takes,
        metrics: Metrics,
        now: Callable[[], int],
    ) -> None:
        self._places = places
        self._aws = aws
        self._takes = takes
        self._metrics = metrics
        self._now = now
        self._shard = 0
        self._stopping = False
        self.sweeper = Loop("sweeper", self.sweep, pause=SWEEP_SECONDS, allowance=120)
        self.wakes = Loop(
            "delivery_wakes",
            self._receive,
            pause=0,
            allowance=60,
            over=lambda: self._stopping or not places.delivery_queue_url,
        )

    def loops(self) -> list[Loop]:
        """Those that are to turn."""
        return [self.sweeper, self.wakes] if self._places.delivery_queue_url else [self.sweeper]

    def stop(self) -> None:
        """Take nothing more.

        The poll that is under way is to go on: cut off, it would take the next wake-up with it at
        the queue's side. What it brings is given back.
        """
        self._stopping = True

    async def sweep(self) -> None:
        """Take what is overdue, shard by shard of the due-index, as far as its time goes."""
        oldest, ends = self._now(), time.monotonic() + SWEEP_LIMIT
        for _ in range(DUE_SHARDS):
            shard, self._shard = self._shard, (self._shard + 1) % DUE_SHARDS
            oldest = min(oldest, await self._sweep(shard))
            if time.monotonic() > ends:
                break  # the next sweep begins with the shards that had no turn
        self._metrics.overdue.set((self._now() - oldest) / clock.SECOND)

    async def inherit(self, owner: WorkerId) -> int:
        """Take what a gateway that is gone had claimed, although its claims are good for a while.

        How many that were. Should it live, and end an attempt, the event may arrive twice.
        """
        now, taken = self._now(), 0
        for shard in range(DUE_SHARDS):
            start = None
            while True:
                found, start = await self._aws.run(
                    deliveries.claims(shard, owner, now, now + CLAIM, start)
                )
                # As if the claim had lapsed: that it was made counts, its end is not known.
                lapsed = [msgspec.structs.replace(each, due_at=now) for each in found]
                outcomes = await asyncio.gather(
                    *map(self._takes.take, lapsed), return_exceptions=True
                )
                for outcome in outcomes:
                    if isinstance(outcome, Exception):
                        # Its claim lapses, and the sweeper finds it.
                        log.warning("claim.not_inherited", extra=fields(cause=str(outcome)))
                taken += outcomes.count(True)
                if start is None:
                    break
        return taken

    async def _sweep(self, shard: int) -> int:
        """When (ms) the oldest that was found was due."""
        oldest = self._now()
        for _ in range(SWEEP_PAGES):
            due = await self._aws.run(
                deliveries.due_deliveries(shard, self._now() - GRACE, SWEEP_PAGE)
            )
            oldest = min([oldest, *(each.due_at for each in due[:1] if each.due_at)])
            by_endpoint: dict[EndpointId, list[Delivery]] = {}
            for delivery in due:
                by_endpoint.setdefault(delivery.endpoint_id, []).append(delivery)
            taken = await asyncio.gather(
                *map(self._take_each, by_endpoint.values()), return_exceptions=True
            )
            for outcome in taken:
                if isinstance(outcome, Unavailable):
                    raise outcome
                if isinstance(outcome, Exception):
                    # It is one endpoint's matter, and must not keep the others waiting.
                    log.error("sweep.failed", exc_info=outcome)
            if len(due) < SWEEP_PAGE or True not in taken:
                break
        return oldest

    async def _take_each(self, due: Sequence[Delivery]) -> bool:
        """One after another, so that each sees the room the last one took. True if any moved."""
        return any([await self._takes.take(delivery) for delivery in due])

    async def _receive(self) -> None:
        url = self._places.delivery_queue_url
        messages = await self._aws.run(queue.receive(url, queue.LONGEST_POLL))
        if not messages:
            return
        if self._stopping:
            handles = [message.handle for message in messages]
            await self._aws.run(queue.hold(url, handles, 0))
            return
        outcomes = await asyncio.gather(
            *(self._woken(message.body) for message in messages), return_exceptions=True
        )
        for outcome in outcomes:
            if isinstance(outcome, Exception) and not isinstance(outcome, Unavailable | Contended):
                log.error("wake.failed", exc_info=outcome)
        # Whatever came of them: from here on, the rows are enough.
        await self._aws.run(queue.settle(url, [message.handle for message in messages]))

    async def _woken(self, body: str) -> None:
        try:
            wake = Wake.decode(body)
        except Malformed:
            log.warning("wake.malformed")
            return
        delivery = await self._aws.run(
            deliveries.read_delivery(wake.tenant_id, wake.endpoint_id, wake.event_id)
        )
        if (
            delivery is not None
            and delivery.state is DeliveryState.WAITING
            and wake.attempt in {None, delivery.attempt}
            and delivery.due_at is not None
            and delivery.due_at <= self._now() + EARLY
        ):
            await self._takes.take(delivery)


def sideline() -> int:
    """How long (ms) what finds no room is put off."""
    return round(SIDELINED * (1 + _random()))
