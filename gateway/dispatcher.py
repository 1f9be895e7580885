"""The dispatcher: deliveries on their way to tenants' servers.

They come from two sides: the outbox hands over what just happened, and `gateway/due.py` what is due
again. Every attempt is claimed in the row first, so the same delivery coming from two sides is sent
once; a claim that lapses can be taken by anybody, so a killed process loses nothing.
"""

import asyncio
import importlib.metadata
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from functools import lru_cache, partial
from typing import Final, Self, TypeVar

import msgspec

from gateway.attempts import interrupted, logged
from gateway.aws import Aws
from gateway.breaker import Leave
from gateway.delivery import (
    CLAIM,
    Delivered,
    Exchange,
    Fault,
    GaveUp,
    Held,
    Post,
    Result,
    RetryAt,
    Verdict,
    after,
    claimed,
    held,
    hindrance,
    hold_until,
    judge,
    prepare,
    released,
    unclaimed,
)
from gateway.directory import Directory
from gateway.due import Due, sideline
from gateway.egress import DEADLINE, Egress
from gateway.fairness import Lane, Limits, Load, Slot, Turns, lane_of, load_of
from gateway.loops import Loop
from gateway.metrics import Metrics
from gateway.moves import Move, Moves
from gateway.notices import Notice, exhausted
from gateway.standing import Standing, resting
from shared import clock, ids, queue
from shared.delivery import Attempt, Delivery, DeliveryState, HeldBy, Phases, Trigger, Wake
from shared.env import Places
from shared.errors import Contended, Forged, Unavailable
from shared.ids import EventId, TenantId, WorkerId
from shared.logs import fields
from shared.store import events, recoveries
from shared.webhook import Endpoint, EndpointStatus, Health

T = TypeVar("T")

log = logging.getLogger(__name__)

AGENT: Final = f"Zapgate/{importlib.metadata.version('zapgate')}"
CLAIM_MARGIN: Final = round((DEADLINE + 5) * clock.SECOND)
"""What must be left of a claim when an attempt begins."""
LARGEST_CARRIED: Final = 8 * 1024
"""Bytes of a body kept in memory while it waits for its turn; a larger one is read again. With the
room there is, that is 40 MB at the most."""
PUT_OFF_SECONDS: Final = 5.0
LATE: Final = CLAIM_MARGIN + 2 * round(PUT_OFF_SECONDS) * clock.SECOND
"""What must be left of a claim for it to go on waiting."""
OVERFLOW: Final = 2
"""Times the room after which a handed-over delivery is left to its claim's lapse."""
MOST_UNWRITTEN: Final = 1_000
"""Attempts that are over and not yet in the table: beyond it none begins, so that a table that
does not answer does not fill the memory."""
RESULT_TRIES: Final = 4
"""Of writing what became of an attempt or its endpoint: losing it would send the event again, or
keep what was held waiting."""
STOP_SECONDS: Final = DEADLINE + 1.0

DECISIONS: Final[Mapping[type[Verdict], str]] = {
    Delivered: "delivered",
    RetryAt: "retry",
    GaveUp: "gave_up",
}
"""What verdicts are called in the log and the metrics."""

_random = random.SystemRandom().random


class Job(msgspec.Struct, frozen=True):
    """A delivery claimed by us, waiting for its turn."""

    delivery: Delivery
    body: bytes | None


class Dispatcher:
    """Attempts deliveries, fairly. Open between `async with` and its end."""

    def __init__(
        self,
        *,
        places: Places,
        aws: Aws,
        directory: Directory,
        egress: Egress,
        metrics: Metrics,
        now: Callable[[], int],
        me: WorkerId | None = None,
        limits: Limits | None = None,
    ) -> None:
        """`me` is what claims are made by."""
        self._me = me
        self._limits = limits or Limits()
        self._places = places
        self._aws = aws
        self._directory = directory
        self._egress = egress
        self._metrics = metrics
        self._counter = lru_cache(maxsize=64)(metrics.deliveries.labels)
        self._now = now
        self._turns: Turns[Job] = Turns(self._limits)
        self._moves = Moves(aws, now)
        self._standing = Standing(aws, directory, self, now)
        self._due = Due(places=places, aws=aws, takes=self, metrics=metrics, now=now)
        self._stack = AsyncExitStack()
        self._tasks = asyncio.TaskGroup()
        self._intake: list[asyncio.Task[None]] = []
        self._wakes: asyncio.Task[None] | None = None
        self._in_hand: set[asyncio.Task[None]] = set()
        self._inheriting: set[WorkerId] = set()
        self._stopping = False
        self._stop_by = 0.0
        self._idle = asyncio.Event()
        self._idle.set()
        self._put_off = Loop("put_off", self.put_off, pause=PUT_OFF_SECONDS)

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._moves)
        await self._stack.enter_async_context(self._tasks)
        self._intake = [
            self._tasks.create_task(loop.run(), name=loop.name)
            for loop in (self._due.sweeper, self._put_off)
        ]
        self._wakes = self._tasks.create_task(self._due.wakes.run(), name=self._due.wakes.name)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Finish what is in hand, give back the rest."""
        self.stop_taking()
        try:
            async with asyncio.timeout_at(self._stop_by):
                await self._idle.wait()
        except TimeoutError:
            log.warning("dispatcher.cut_off", extra=fields(in_hand=self.sending))
            for task in self._in_hand:
                task.cancel()
        if self._wakes is not None:
            self._wakes.cancel()
        await self._stack.aclose()

    def loops(self) -> list[Loop]:
        """What must turn for deliveries to go out."""
        return [*self._due.loops(), self._put_off]

    def stop_taking(self) -> None:
        """Begin no further attempt: what is in hand ends while the rest of the gateway stops.

        What waits is given back at once, because that rest may take longer than a claim.
        """
        if self._stopping:
            return
        self._stopping = True
        self._stop_by = asyncio.get_running_loop().time() + STOP_SECONDS
        self._due.stop()
        for task in self._intake:
            task.cancel()
        for job in self._turns.withdraw():
            self._give_back(job)

    @property
    def waiting(self) -> int:
        return self._turns.waiting

    @property
    def sending(self) -> int:
        """Deliveries in hand: attempted, or about to be written."""
        return len(self._in_hand)

    async def sweep(self) -> None:
        """Take what is overdue now."""
        await self._due.sweep()

    def inherit(self, owner: WorkerId) -> None:
        """Take what a gateway had claimed that has lost its leases. Asked again, it begins anew."""
        if self._stopping or owner in self._inheriting:
            return
        self._inheriting.add(owner)
        self._tasks.create_task(self._inherit(owner), name="inherit")

    async def _inherit(self, owner: WorkerId) -> None:
        try:
            count = await self._due.inherit(owner)
            log.info("claims.inherited", extra=fields(owner=owner, count=count))
        except (Unavailable, Contended) as error:
            log.warning("claims.not_inherited", extra=fields(owner=owner, cause=str(error)))
        finally:
            self._inheriting.discard(owner)

    def born(self, delivery: Delivery, endpoint: Endpoint) -> Delivery:
        """A new delivery as it comes into the table: claimed by us where there is room for it."""
        now = self._now()
        if endpoint.status is EndpointStatus.PAUSED:
            return held(delivery, Held(HeldBy.ENDPOINT_PAUSED, hold_until(now, now, _random)), now)
        if (rest := self._standing.resting(endpoint)) is not None:
            return held(delivery, rest, now)
        if self._stopping or not self._turns.room(endpoint.tenant_id, endpoint.id, Lane.FIRST):
            return delivery
        return claimed(delivery, now, self._me)

    def hand_over(self, delivery: Delivery, body: bytes) -> None:
        """Attempt a delivery that was born claimed when it is its turn.

        What was born due while we stop is another's, who is told. Any other is found in its time.
        """
        if delivery.state is DeliveryState.SENDING:
            carried = body if len(body) <= LARGEST_CARRIED else None
            self._wait(Job(delivery, carried), lane_of(delivery, fresh=True))
        elif delivery.state is DeliveryState.WAITING and self._stopping:
            self._begin(self._apart(delivery, partial(self._wake, delivery, self._now())))

    async def take(self, delivery: Delivery) -> bool:
        """Claim a delivery that is due, or put it off. False where it has moved."""
        if self._stopping:
            return False
        now = self._now()
        lost = await self._lost(delivery)
        idle = unclaimed(delivery)
        _, hindered = await self._look(delivery)
        if isinstance(hindered, Held):
            return await self._move(delivery, held(idle, hindered, now), lost)
        if isinstance(hindered, GaveUp):
            ended = after(idle, hindered, None, now)
            log.info("delivery.given_up", extra=_ids(ended, error=hindered.error))
            return await self._end(delivery, ended, lost, last=hindered.exhausted)
        ours = claimed(idle, now, self._me)
        lane = lane_of(ours, fresh=False)
        if not self._turns.room(delivery.tenant_id, delivery.endpoint_id, lane):
            self._metrics.sidelined.inc()
            later = msgspec.structs.replace(idle, due_at=now + sideline(), updated_at=now)
            return await self._move(delivery, later, lost)
        if not await self._move(delivery, ours, lost):
            return False
        self._wait(Job(ours, None), lane)
        return True

    async def put_off(self) -> None:
        """Give back what waits so long that its claim would lapse: its receiver is slow.

        Otherwise the sweeper would claim it again and again, and count attempts nobody made.
        """
        now = self._now()
        late = self._turns.withdraw(lambda job: (job.delivery.due_at or 0) - now < LATE)
        self._metrics.sidelined.inc(len(late))
        await asyncio.gather(*(self._release(job, sideline()) for job in late))

    async def _lost(self, delivery: Delivery) -> Attempt | None:
        """What the log owes an attempt whose claim lapsed."""
        if delivery.state is not DeliveryState.SENDING:
            return None
        endpoint = await self._directory.endpoint(delivery.tenant_id, delivery.endpoint_id)
        self._metrics.deliveries.labels(decision="interrupted", error="").inc()
        log.warning("delivery.interrupted", extra=_ids(delivery, attempt=delivery.attempt))
        return interrupted(delivery, "" if endpoint is None else endpoint.url)

    async def _look(self, delivery: Delivery) -> tuple[Endpoint | None, GaveUp | Held | None]:
        """Its endpoint as it is now, and why no attempt is to be made there, if it is not."""
        endpoint = await self._directory.endpoint(delivery.tenant_id, delivery.endpoint_id)
        status = await self._directory.status(delivery.tenant_id)
        hindered = hindrance(endpoint, status, delivery, self._now(), _random)
        if hindered is not None or endpoint is None or delivery.trigger is Trigger.TEST:
            return endpoint, hindered
        return endpoint, self._standing.resting(endpoint)

    async def _release(self, job: Job, delay: int) -> None:
        now = self._now()
        moved = released(job.delivery, now + delay, now)
        if await self._move(job.delivery, moved) and self._stopping:
            # Others find it by themselves, but only after some seconds.
            await self._wake(moved, now)

    def _move(
        self,
        before: Delivery,
        moved: Delivery,
        attempt: Attempt | None = None,
        told: Notice | None = None,
    ) -> Awaitable[bool]:
        return self._moves.make(Move(before, moved, attempt, told))

    def _give_back(self, job: Job) -> None:
        self._begin(self._apart(job.delivery, partial(self._release, job, 0)))

    def _wait(self, job: Job, lane: Lane) -> None:
        if self._stopping:
            self._give_back(job)
            return
        if self._turns.waiting >= OVERFLOW * self._limits.room:
            return  # its claim lapses, and the sweeper of whoever is there finds it
        self._turns.add(job.delivery.tenant_id, job.delivery.endpoint_id, job, lane)
        self._pump()

    def _pump(self) -> None:
        while (
            not self._stopping
            and len(self._in_hand) - self._turns.sending < MOST_UNWRITTEN
            and (slot := self._turns.take()) is not None
        ):
            self._begin(self._turn(slot))

    def _begin(self, work: Coroutine[object, object, None]) -> None:
        self._idle.clear()
        task = self._tasks.create_task(work, name="delivery")
        self._in_hand.add(task)
        task.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[None]) -> None:
        self._in_hand.discard(task)
        if not self._in_hand:
            self._idle.set()
        self._pump()

    async def _turn(self, slot: Slot[Job]) -> None:
        done = partial(self._turns.done, slot)
        freed = False

        def free(exchange: Exchange) -> None:
            # The receiver has done its part: the next may go to it while this one is written.
            nonlocal freed
            freed = True
            done(load_of(exchange.result), exchange.phases.total / clock.SECOND)
            self._pump()

        try:
            await self._apart(slot.job.delivery, partial(self._attempt, slot.job, free))
        finally:
            if not freed:
                done(Load.NEUTRAL, None)

    async def _apart(self, delivery: Delivery, work: Callable[[], Awaitable[None]]) -> None:
        """Whatever goes wrong with a delivery is no other's matter: its claim lapses."""
        try:
            await work()
        except (Unavailable, Contended) as error:
            log.warning("delivery.unrecorded", extra=_ids(delivery, cause=str(error)))
        except Exception:
            log.exception("delivery.failed", extra=_ids(delivery))

    async def _attempt(self, job: Job, free: Callable[[Exchange], None]) -> None:
        delivery, now = job.delivery, self._now()
        if delivery.due_at is None or delivery.due_at - now < CLAIM_MARGIN:
            # It waited long for its turn.
            longer = msgspec.structs.replace(delivery, due_at=now + CLAIM, updated_at=now)
            if not await self._move(delivery, longer):
                return
            delivery = longer
        endpoint, hindered = await self._look(delivery)
        if isinstance(hindered, Held):
            await self._hold(delivery, hindered)
            return
        if hindered is not None or endpoint is None:
            await self._give_up(delivery, hindered or GaveUp("endpoint_deleted"))
            return
        body = job.body or await self._body(delivery.tenant_id, delivery.event_id)
        if body is None:
            await self._give_up(delivery, GaveUp("event_expired"))
            return
        leave = await self._standing.leave(endpoint, delivery)
        if isinstance(leave, Held):
            await self._hold(delivery, leave)
            return
        began_at = self._now()
        post, exchange = await self._post(endpoint, delivery, body)
        # First, so that no further attempt begins at an endpoint that is to be left alone.
        await self._answered(endpoint, leave, exchange.result)
        free(exchange)
        now = self._now()
        verdict = judge(delivery, exchange.result, now, _random)
        moved = after(delivery, verdict, exchange.result, now)
        attempt = logged(delivery, endpoint, post, exchange, verdict, began_at=began_at)
        self._tell(moved, verdict, exchange.phases.total / 1000, now)
        last = isinstance(verdict, GaveUp) and verdict.exhausted
        await self._conclude(delivery, moved, attempt, last=last)
        if isinstance(verdict, RetryAt):
            await self._wake(moved, verdict.at)

    async def _answered(self, endpoint: Endpoint, leave: Leave, result: Result) -> None:
        try:
            turn = await self._standing.answered(endpoint, leave, result)
        except (Unavailable, Contended) as error:
            # The next answer says it again; this attempt's own result must still be written.
            log.warning("endpoint.unrecorded", extra=_ours(endpoint, cause=str(error)))
            return
        if turn.opened is not None or turn.closed:
            # One attempt at a time: for the probe, and to find out again what it bears.
            self._turns.slow_start(endpoint.tenant_id, endpoint.id)
        if turn.opened is not None:
            self._hold_waiting(endpoint, turn.opened)
        if turn.closed:
            self._begin(self._let_go(endpoint))

    async def _let_go(self, endpoint: Endpoint) -> None:
        """Begin the release of what was held. Where that fails, each is looked at in its time."""
        try:
            op = recoveries.begin_resume(endpoint.tenant_id, endpoint.id, self._now())
            await _again(partial(self._aws.run, op))
        except (Unavailable, Contended) as error:
            log.warning("release.not_begun", extra=_ours(endpoint, cause=str(error)))
        except Exception:
            log.exception("release.failed", extra=_ours(endpoint))

    async def _post(
        self, endpoint: Endpoint, delivery: Delivery, body: bytes
    ) -> tuple[Post | None, Exchange]:
        now = self._now()
        try:
            secrets = self._directory.secrets(endpoint, now)
            theirs = self._directory.headers(endpoint)
        except Forged:
            # It follows the schedule like any failure, and ends: a key may be put back meanwhile.
            log.error("endpoint.secret_unreadable", extra=fields(endpoint_id=endpoint.id))  # noqa: TRY400 (the fact says all)
            return None, Exchange(Fault("secret_unreadable"), Phases(total=0))
        post = prepare(
            endpoint.url,
            secrets,
            delivery.event_id,
            body,
            now=now,
            agent=AGENT,
            headers=theirs,
            trigger=delivery.trigger,
        )
        return post, await self._egress.post(post)

    async def _body(self, tenant_id: TenantId, event_id: EventId) -> bytes | None:
        event = await self._aws.run(events.read_event(tenant_id, event_id))
        return None if event is None else event.body.encode()

    async def _give_up(self, delivery: Delivery, verdict: GaveUp) -> None:
        """No attempt can be made any more: the one that was begun was none."""
        now = self._now()
        moved = after(released(delivery, now, now), verdict, None, now)
        log.info("delivery.given_up", extra=_ids(moved, error=verdict.error))
        await self._conclude(delivery, moved)

    async def _hold(self, delivery: Delivery, hold: Held) -> None:
        log.info("delivery.held", extra=_ids(delivery, by=hold.by, at=hold.at))
        await self._conclude(delivery, held(delivery, hold, self._now()))

    def _hold_waiting(self, endpoint: Endpoint, health: Health) -> None:
        """Hold what waits in memory for an endpoint that is to be left alone."""
        now = self._now()
        for job in self._turns.withdraw_of(endpoint.tenant_id, endpoint.id):
            hold = partial(self._hold, job.delivery, resting(health, now))
            self._begin(self._apart(job.delivery, hold))

    async def _last_words(self, moved: Delivery) -> Notice | None:
        event = exhausted(moved, EventId(clock.mint(ids.EVENT)), self._now())
        return None if event is None else await self._standing.told(moved.tenant_id, event)

    async def _conclude(
        self,
        before: Delivery,
        moved: Delivery,
        attempt: Attempt | None = None,
        *,
        last: bool = False,
    ) -> None:
        """`_end`, again and again."""
        if not await _again(partial(self._end, before, moved, attempt, last=last)):
            log.warning("delivery.moved_by_another", extra=_ids(before))

    async def _end(
        self, before: Delivery, moved: Delivery, attempt: Attempt | None, *, last: bool
    ) -> bool:
        """Write what became of a delivery, and tell of its last attempt. False where it moved."""
        told = await self._last_words(moved) if last else None
        if not await self._move(before, moved, attempt, told):
            return False
        if told is not None:
            self._standing.stored(told)
        return True

    async def _wake(self, moved: Delivery, at: int) -> None:
        delay = max(0, -(-(at - self._now()) // clock.SECOND))
        if delay <= queue.LONGEST_DELAY and self._places.delivery_queue_url:
            wake = Wake.of(moved).encode()
            await self._aws.run(queue.send_delivery(moved.tenant_id, wake, delay))

    def _tell(self, moved: Delivery, verdict: Verdict, seconds: float, now: int) -> None:
        decision = DECISIONS[type(verdict)]
        self._counter(decision, moved.last_error or "").inc()
        self._metrics.attempt_seconds.observe(seconds)
        if moved.attempt == 1:
            delay = now - ids.minted_at(moved.event_id)
            self._metrics.delivery_delay.observe(max(0, delay) / clock.SECOND)
        # What went well at once is nearly all, and told by its attempt's row and the metrics.
        plain = moved.attempt == 1 and isinstance(verdict, Delivered)
        level = logging.DEBUG if plain else logging.INFO
        if not log.isEnabledFor(level):
            return
        log.log(
            level,
            "delivery.attempted",
            extra=_ids(
                moved,
                type=moved.event_type,
                attempt=moved.attempt,
                status=moved.last_status,
                error=moved.last_error,
                seconds=round(seconds, 4),
                decision=decision,
                due_at=moved.due_at,
            ),
        )


def _ours(endpoint: Endpoint, **more: object) -> dict[str, object]:
    return fields(tenant_id=endpoint.tenant_id, endpoint_id=endpoint.id, **more)


def _ids(delivery: Delivery, **more: object) -> dict[str, object]:
    return fields(
        tenant_id=delivery.tenant_id,
        endpoint_id=delivery.endpoint_id,
        event_id=delivery.event_id,
        **more,
    )


async def _again(work: Callable[[], Awaitable[T]]) -> T:
    for n in range(1, RESULT_TRIES):
        try:
            return await work()
        except (Unavailable, Contended):
            await asyncio.sleep(n)
    return await work()
