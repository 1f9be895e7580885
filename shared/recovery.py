"""Jobs that move many of an endpoint's deliveries, and the rules of their next step.

A recovery sends again what was given up, or whatever else its tenant asked for; a resumption
releases what was held. Both work in steps, each of which is one transaction: some deliveries and
the job's own row, which says how far it came. So its counts are exact, and whoever goes on after a
crash repeats nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, assert_never

import msgspec

from shared import clock, ids
from shared.delivery import Delivery, DeliveryState, Trigger
from shared.ids import EndpointId, RecoveryId, SessionId, TenantId
from shared.webhook import Endpoint, EndpointStatus

MOST_FOUND: Final = 10_000
"""Deliveries of one recovery: at the usual rate, some eight minutes of them."""
USUAL_RATE: Final = 20
"""Deliveries a second, where nothing else is asked for."""
HIGHEST_RATE: Final = 50
"""What is released for ten seconds at this rate just fits what a gateway keeps for an endpoint."""
STEP: Final = 50
"""Deliveries moved in one transaction: half of what DynamoDB takes."""
AHEAD: Final = 10 * clock.SECOND
"""How far ahead of their time deliveries are moved: so soon a cancellation or a pause acts."""
CLAIM: Final = 30 * clock.SECOND
"""How long a job belongs to the gateway that took a step of it."""
LOOK_AGAIN: Final = clock.MINUTE
"""How often a job looks whether an endpoint that is paused or resting takes deliveries again: a few
requests each time, for days where it must be."""
PROBING: Final = 5 * clock.SECOND
"""Pause between deliveries to an endpoint whose breaker is open and its rest over: one of them is
the probe, the others would only be held."""
SETTLING: Final = 15 * clock.SECOND
"""How long after a release something may still be held by a gateway that had not heard of it: its
memory of endpoints, the repeated writes of a result, and the index's lag."""


class RecoveryKind(StrEnum):
    RECOVER = "recover"
    """Asked for by the tenant: deliveries in certain states, sent again with a fresh schedule."""
    RESUME = "resume"
    """What was held for an endpoint is released, in order, on the schedule it had."""


class RecoveryState(StrEnum):
    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"
    STOPPED = "stopped"
    """It ended before its end; `reason` says why."""


_DENSE: Final = ((DeliveryState.GAVE_UP,), (DeliveryState.HELD,), (DeliveryState.DELIVERED,))
"""States that have an index of their own, or that nearly all deliveries are in."""


class Recovery(msgspec.Struct, frozen=True, kw_only=True):
    """A job."""

    id: RecoveryId
    tenant_id: TenantId
    endpoint_id: EndpointId
    kind: RecoveryKind
    state: RecoveryState
    created_at: int
    updated_at: int
    states: tuple[DeliveryState, ...]
    low: str
    """It looks at deliveries of events whose ids lie between this and `high`."""
    high: str
    types: tuple[str, ...] = ()
    session_id: SessionId | None = None
    per_second: int = HIGHEST_RATE
    found: int | None = None
    """How many there were when it was ordered; None where nobody counted."""
    moved: int = 0
    skipped: int = 0
    """Deliveries that something else had moved between being seen and their turn."""
    cursor: str | None = None
    """The last event looked at in this pass."""
    paced_to: int = 0
    """When the next delivery may be due (ms)."""
    passes_from: int = 0
    """When this pass over the deliveries began (ms)."""
    asked_at: int = 0
    """When it was last asked for (ms)."""
    version: int = 0
    """Counts the writes of this row: whoever replaces it says which it saw."""
    due_at: int | None = None
    """When a gateway looks at it, or when its claim lapses; None once it is over."""
    waits_for: str | None = None
    """`endpoint_paused` or `endpoint_resting`, while it moves nothing because of that."""
    reason: str | None = None
    """Why it was stopped."""
    finished_at: int | None = None

    @property
    def sparse(self) -> bool:
        """Whether most of what it reads may be passed over."""
        return bool(self.types) or self.session_id is not None or self.states not in _DENSE


@dataclass(frozen=True, slots=True)
class Move:
    """Move up to `most` deliveries, `gap` ms apart."""

    most: int
    gap: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Look again at `until` (ms); `why` where the endpoint is the matter."""

    until: int
    why: str | None = None


@dataclass(frozen=True, slots=True)
class Stop:
    """It can do no more."""

    reason: str


@dataclass(frozen=True, slots=True)
class Forget:
    """The endpoint is gone, and the job goes with it."""


Next = Move | Wait | Stop | Forget


def resumption(
    tenant_id: TenantId, endpoint_id: EndpointId, job_id: RecoveryId, now: int
) -> Recovery:
    """A job that releases everything held for an endpoint, due at once."""
    return Recovery(
        id=job_id,
        tenant_id=tenant_id,
        endpoint_id=endpoint_id,
        kind=RecoveryKind.RESUME,
        state=RecoveryState.RUNNING,
        created_at=now,
        updated_at=now,
        states=(DeliveryState.HELD,),
        low=f"{ids.EVENT}_",
        high=f"{ids.EVENT}_~",
        passes_from=now,
        asked_at=now,
        due_at=now,
    )


def next_step(job: Recovery, endpoint: Endpoint | None, now: int) -> Next:
    """What a running job does next, its endpoint being as it is."""
    if endpoint is None:
        return Forget()
    match endpoint.status:
        case EndpointStatus.DISABLED:
            return Stop("endpoint_disabled")
        case EndpointStatus.PAUSED if job.kind is RecoveryKind.RESUME:
            return Stop("endpoint_paused")
        case EndpointStatus.PAUSED:
            return Wait(now + LOOK_AGAIN, "endpoint_paused")
        case EndpointStatus.ENABLED:
            pass
        case _:
            assert_never(endpoint.status)
    gap = -(-clock.SECOND // job.per_second)
    rests_until = endpoint.health.open_until
    if rests_until is not None:
        if now < rests_until:
            return Wait(min(rests_until, now + LOOK_AGAIN), "endpoint_resting")
        gap = PROBING
    ahead = now + AHEAD - max(job.paced_to, now)
    if ahead < 0:
        return Wait(job.paced_to - AHEAD // 2)
    return Move(min(STEP, ahead // gap + 1), gap)


def claimed(job: Recovery, now: int) -> Recovery:
    """The job taken by a gateway, until its claim lapses."""
    return msgspec.structs.replace(job, due_at=now + CLAIM, updated_at=now)


def waiting(job: Recovery, wait: Wait, now: int) -> Recovery:
    """The job given back until it is to be looked at again."""
    return msgspec.structs.replace(job, due_at=wait.until, waits_for=wait.why, updated_at=now)


def over(job: Recovery, state: RecoveryState, now: int, reason: str | None = None) -> Recovery:
    """The job at its end. What was moved stays moved."""
    return msgspec.structs.replace(
        job,
        state=state,
        reason=reason,
        due_at=None,
        waits_for=None,
        finished_at=now,
        updated_at=now,
    )


def passed(job: Recovery, now: int) -> Recovery:
    """The job after it has seen every delivery: over, or to begin another pass.

    A release ends with a pass that began when nothing more could be held by mistake.
    """
    settled = job.asked_at + SETTLING
    if job.kind is RecoveryKind.RECOVER or job.passes_from >= settled:
        return over(job, RecoveryState.DONE, now)
    begins = max(now, settled)
    return msgspec.structs.replace(
        job, cursor=None, passes_from=begins, due_at=begins, waits_for=None, updated_at=now
    )


def spread(
    job: Recovery, seen: Sequence[Delivery], gap: int, now: int
) -> tuple[tuple[Delivery, Delivery], ...]:
    """Each delivery as it was and as the job moves it, the next `gap` ms after the one before."""
    start = max(job.paced_to, now)
    return tuple(
        (delivery, _moved(job, delivery, start + n * gap, now)) for n, delivery in enumerate(seen)
    )


def stepped(
    job: Recovery, *, moved: int, skipped: int, cursor: str, gap: int, now: int
) -> Recovery:
    """The job after a step, claimed on."""
    return msgspec.structs.replace(
        claimed(job, now),
        moved=job.moved + moved,
        skipped=job.skipped + skipped,
        cursor=cursor,
        paced_to=max(job.paced_to, now) + moved * gap,
        waits_for=None,
    )


def redelivered(delivery: Delivery, trigger: Trigger, due_at: int, now: int) -> Delivery:
    """A delivery to be sent again, on a fresh schedule; a retry that was due later is replaced."""
    return msgspec.structs.replace(
        delivery,
        state=DeliveryState.WAITING,
        trigger=trigger,
        scheduled_from=delivery.attempt,
        held_by=None,
        due_at=due_at,
        updated_at=now,
    )


def progress(job: Recovery) -> float | None:
    """The share (0 to 1) of what was found that is dealt with; None where nobody counted."""
    if job.found is None:
        return None
    if job.state is RecoveryState.DONE:
        return 1.0
    if not job.found:
        return 0.0
    return round(min((job.moved + job.skipped) / job.found, 1.0), 4)


def after(event_id: str) -> str:
    """The least sort key beyond an event's: ids have one length."""
    return event_id + "0"


def _moved(job: Recovery, delivery: Delivery, due_at: int, now: int) -> Delivery:
    if job.kind is RecoveryKind.RECOVER:
        return redelivered(delivery, Trigger.RECOVERY, due_at, now)
    return msgspec.structs.replace(
        delivery, state=DeliveryState.WAITING, held_by=None, due_at=due_at, updated_at=now
    )
