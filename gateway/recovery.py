"""Recovery jobs: many deliveries made due again, at a bounded rate, exactly once each.

Any gateway takes any job: it claims the row and goes step by step, each step one transaction that
moves some deliveries and says so in the row. A job whose gateway died goes on where it stood when
the claim lapses. Only what is due within seconds is moved, so cancelling, pausing and disabling
act soon; an agenda takes what was moved to the moment, and the sweeper what is left of it.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final, assert_never

import msgspec

from gateway.aws import Aws
from gateway.loops import Loop
from gateway.metrics import Metrics
from shared.delivery import Delivery
from shared.errors import Contended, Unavailable
from shared.logs import fields
from shared.recovery import (
    Forget,
    Move,
    Recovery,
    RecoveryState,
    Stop,
    Wait,
    claimed,
    next_step,
    over,
    passed,
    spread,
    stepped,
    waiting,
)
from shared.store import deliveries, recoveries, webhooks
from shared.store.dynamo import Page, together

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 2.0
JOBS: Final = 20
"""Jobs worked on at once, those first that have waited longest."""
ROUNDS: Final = 5
"""Of so many jobs in one look, before what failed is met again."""
SPARSE_ROWS: Final = 200
"""Rows read at a time where most may be passed over."""
SPARSE_READS: Final = 20
"""Reads of one step, which is recorded after them even where nothing was found."""
STEPS: Final = 100
"""Of one job before the others have their turn: more than can be due at the highest rate."""
TRIES: Final = 4
"""Each refusal leaves out what has moved; more of it keeps moving only by ill luck."""


class Recoveries:
    """Works on jobs that are due."""

    def __init__(
        self,
        *,
        aws: Aws,
        metrics: Metrics,
        now: Callable[[], int],
        moved: Callable[[Sequence[Delivery]], None],
    ) -> None:
        """`moved` is told of deliveries as they are now, in the order in which they are due."""
        self._moved = moved
        self._aws = aws
        self._metrics = metrics
        self._now = now
        self.loop = Loop("recoveries", self.look, pause=LOOK_SECONDS, allowance=120)

    async def look(self) -> None:
        """Take what is due as far as it may go now."""
        for _ in range(ROUNDS):
            due = await self._aws.run(recoveries.due(self._now(), JOBS))
            await self._take_each(due)
            if len(due) < JOBS:
                return

    async def _take_each(self, due: Sequence[Recovery]) -> None:
        outcomes = await asyncio.gather(*map(self.take, due), return_exceptions=True)
        for job, outcome in zip(due, outcomes, strict=True):
            if isinstance(outcome, Unavailable | Contended):
                log.warning("recovery.interrupted", extra=_ids(job, cause=str(outcome)))
            elif isinstance(outcome, Exception):
                log.error("recovery.failed", extra=_ids(job), exc_info=outcome)

    async def take(self, seen: Recovery) -> None:
        """Work on a job as far as it may go now, unless it is not as it was seen."""
        job = await self._replace(seen, claimed(seen, self._now()))
        for _ in range(STEPS):
            if job is None:
                return
            job = await self._step(job)
        if job is not None:
            now = self._now()
            await self._replace(job, waiting(job, Wait(now), now))

    async def _step(self, job: Recovery) -> Recovery | None:
        """The job after its next step; None where that was its last for now, or not ours."""
        endpoint = await self._aws.run(webhooks.read_endpoint(job.tenant_id, job.endpoint_id))
        now = self._now()
        step = next_step(job, endpoint, now)
        match step:
            case Move():
                return await self._move(job, step, now)
            case Wait():
                await self._replace(job, waiting(job, step, now))
            case Stop(reason):
                await self._finish(job, over(job, RecoveryState.STOPPED, now, reason))
            case Forget():
                await self._aws.run(recoveries.forget(job.tenant_id, job))
            case _:
                assert_never(step)
        return None

    async def _move(self, job: Recovery, step: Move, now: int) -> Recovery | None:
        page = await self._read(job, step.most)
        seen = page.rows[: step.most]
        cursor = _reached(page, seen)
        if cursor is None:
            await self._pass(job, now)
            return None
        found = len(seen)
        for _ in range(TRIES):
            moves = spread(job, seen, step.gap, now)
            skipped = found - len(seen)
            after = stepped(
                job, moved=len(seen), skipped=skipped, cursor=cursor, gap=step.gap, now=now
            )
            writes = [deliveries.moving(job.tenant_id, *each) for each in moves]
            refusal = await self._aws.run(
                together([*writes, recoveries.replacing(job.tenant_id, job, after)])
            )
            if refusal is None:
                self._metrics.recovered.labels(kind=job.kind.value).inc(len(seen))
                self._moved([moved for _, moved in moves])
                return _stored(after)
            if refusal.failed(len(writes)):
                return None  # cancelled, begun anew, or taken by another
            seen = tuple(each for n, each in enumerate(seen) if not refusal.failed(n))
        raise Contended(f"a step was refused {TRIES} times")

    async def _read(self, job: Recovery, most: int) -> Page[Delivery]:
        """The deliveries behind the cursor; several reads where most may be passed over."""
        limit = SPARSE_ROWS if job.sparse else most
        page = await self._aws.run(recoveries.page(job.tenant_id, job, limit))
        for _ in range(SPARSE_READS):
            if page.rows or page.next is None:
                break
            further = msgspec.structs.replace(job, cursor=page.next["SK"])
            page = await self._aws.run(recoveries.page(job.tenant_id, further, limit))
        return page

    async def _pass(self, job: Recovery, now: int) -> None:
        """Every delivery has been seen."""
        after = passed(job, now)
        if after.state is RecoveryState.RUNNING:
            await self._replace(job, after)
        else:
            await self._finish(job, after)

    async def _replace(self, seen: Recovery, changed: Recovery) -> Recovery | None:
        if await self._aws.run(recoveries.replace(seen.tenant_id, seen, changed)):
            return _stored(changed)
        return None

    async def _finish(self, seen: Recovery, ended: Recovery) -> None:
        if await self._aws.run(recoveries.finish(seen.tenant_id, seen, ended)):
            log.info(
                "recovery.ended",
                extra=_ids(
                    ended,
                    state=ended.state.value,
                    reason=ended.reason,
                    moved=ended.moved,
                    skipped=ended.skipped,
                ),
            )


def _reached(page: Page[Delivery], seen: Sequence[Delivery]) -> str | None:
    """The last event this step deals with; None where there was nothing more to see."""
    if len(seen) == len(page.rows) and page.next is not None:
        return page.next["SK"]
    return seen[-1].event_id if seen else None


def _stored(job: Recovery) -> Recovery:
    """The job as its row is now."""
    return msgspec.structs.replace(job, version=job.version + 1)


def _ids(job: Recovery, **more: object) -> dict[str, object]:
    return fields(
        tenant_id=job.tenant_id,
        endpoint_id=job.endpoint_id,
        recovery_id=job.id,
        kind=job.kind.value,
        **more,
    )
