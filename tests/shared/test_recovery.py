"""The rules of recovery jobs."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import clock, ids
from shared.delivery import Delivery, DeliveryState, HeldBy, Trigger
from shared.ids import EndpointId, EventId, RecoveryId, TenantId
from shared.recovery import (
    AHEAD,
    CLAIM,
    HIGHEST_RATE,
    LOOK_AGAIN,
    PROBING,
    SETTLING,
    STEP,
    Forget,
    Move,
    Recovery,
    RecoveryKind,
    RecoveryState,
    Stop,
    Wait,
    after,
    claimed,
    next_step,
    over,
    passed,
    progress,
    resumption,
    spread,
    stepped,
    waiting,
)
from shared.webhook import Endpoint, EndpointStatus, Health

NOW = 1_800_000_000_000
TENANT = TenantId(ids.mint(ids.TENANT, NOW, bytes(10)))
ENDPOINT = Endpoint(
    id=EndpointId(ids.mint(ids.ENDPOINT, NOW, bytes(10))),
    tenant_id=TENANT,
    url="https://example.com/",
    events=("*",),
    sealed_secret=b"",
    status=EndpointStatus.ENABLED,
    created_at=0,
    updated_at=0,
)
RESUME = resumption(TENANT, ENDPOINT.id, ids.resuming(ENDPOINT.id), NOW)
RECOVER = msgspec.structs.replace(
    RESUME,
    id=RecoveryId(ids.mint(ids.RECOVERY, NOW, bytes(10))),
    kind=RecoveryKind.RECOVER,
    states=(DeliveryState.GAVE_UP,),
    per_second=20,
    found=10,
)


def delivery(number: int, state: DeliveryState, **more: Any) -> Delivery:
    return Delivery(
        tenant_id=TENANT,
        endpoint_id=ENDPOINT.id,
        event_id=EventId(ids.mint(ids.EVENT, NOW + number, bytes(10))),
        event_type="message.sent",
        state=state,
        attempt=3,
        created_at=NOW,
        updated_at=NOW,
        **more,
    )


def with_health(**fields: Any) -> Endpoint:
    return msgspec.structs.replace(ENDPOINT, health=Health(**fields))


def with_status(status: EndpointStatus) -> Endpoint:
    return msgspec.structs.replace(ENDPOINT, status=status)


@pytest.mark.parametrize(
    ("job", "endpoint", "then"),
    [
        (RECOVER, None, Forget()),
        (RESUME, None, Forget()),
        (RECOVER, with_status(EndpointStatus.DISABLED), Stop("endpoint_disabled")),
        (RESUME, with_status(EndpointStatus.DISABLED), Stop("endpoint_disabled")),
        (
            RECOVER,
            with_status(EndpointStatus.PAUSED),
            Wait(NOW + LOOK_AGAIN, "endpoint_paused"),
        ),
        (RESUME, with_status(EndpointStatus.PAUSED), Stop("endpoint_paused")),
        (RECOVER, ENDPOINT, Move(STEP, 50)),
        (RESUME, ENDPOINT, Move(STEP, clock.SECOND // HIGHEST_RATE)),
        (
            RESUME,
            with_health(opened=1, open_until=NOW + 1),
            Wait(NOW + 1, "endpoint_resting"),
        ),
        (
            RECOVER,
            with_health(opened=3, open_until=NOW + clock.HOUR),
            Wait(NOW + LOOK_AGAIN, "endpoint_resting"),
        ),
        (RECOVER, with_health(opened=3, open_until=NOW), Move(1 + AHEAD // PROBING, PROBING)),
        (RECOVER, with_health(failures=5, failing_since=NOW), Move(STEP, 50)),
    ],
)
def test_what_a_job_does_is_its_endpoints_matter(
    job: Recovery, endpoint: Endpoint | None, then: object
) -> None:
    """It goes with its endpoint, ends when that is disabled, waits while it takes nothing."""
    assert next_step(job, endpoint, NOW) == then


@given(
    st.integers(1, HIGHEST_RATE),
    st.lists(st.tuples(st.integers(0, 30_000), st.integers(1, STEP)), min_size=1, max_size=60),
)
def test_no_more_than_asked_for_are_due_in_a_second(
    rate: int, steps: list[tuple[int, int]]
) -> None:
    """However a job is stepped: neither faster than its rate, nor far ahead of the time."""
    job = msgspec.structs.replace(RECOVER, per_second=rate)
    now = NOW
    due: list[int] = []
    for passed_by, some in steps:
        now += passed_by
        step = next_step(job, ENDPOINT, now)
        if isinstance(step, Wait):
            assert now < step.until < now + AHEAD + clock.SECOND
            continue
        assert isinstance(step, Move)
        assert step.most >= 1
        seen = [delivery(n, DeliveryState.GAVE_UP) for n in range(min(some, step.most))]
        moves = spread(job, seen, step.gap, now)
        due += [moved.due_at or 0 for _, moved in moves]
        assert max(due) <= now + AHEAD
        job = stepped(job, moved=len(seen), skipped=0, cursor="x", gap=step.gap, now=now)
    assert due == sorted(due)
    for index, moment in enumerate(due[rate:]):
        assert moment - due[index] >= clock.SECOND


def test_a_recovered_delivery_begins_a_fresh_schedule() -> None:
    """Its attempts go on counting, its schedule begins at the present one."""
    before = delivery(1, DeliveryState.GAVE_UP, last_error="timeout")
    ((seen, moved),) = spread(RECOVER, [before], 50, NOW)
    assert seen is before
    assert moved == msgspec.structs.replace(
        before,
        state=DeliveryState.WAITING,
        trigger=Trigger.RECOVERY,
        scheduled_from=3,
        due_at=NOW,
    )


def test_a_released_delivery_goes_on_where_it_was() -> None:
    """Neither its trigger nor its schedule is touched: nothing of it was its own fault."""
    before = delivery(
        1,
        DeliveryState.HELD,
        held_by=HeldBy.ENDPOINT_PAUSED,
        trigger=Trigger.REDELIVERY,
        scheduled_from=1,
        due_at=NOW + clock.HOUR,
    )
    ((_, moved),) = spread(RESUME, [before], 50, NOW)
    assert moved == msgspec.structs.replace(
        before, state=DeliveryState.WAITING, held_by=None, due_at=NOW
    )


def test_a_step_adds_up() -> None:
    """The counts, the cursor, and the claim that goes on."""
    waited = waiting(RECOVER, Wait(NOW + 1, "endpoint_paused"), NOW)
    assert (waited.due_at, waited.waits_for) == (NOW + 1, "endpoint_paused")
    one = stepped(waited, moved=2, skipped=1, cursor="e", gap=50, now=NOW)
    two = stepped(one, moved=1, skipped=0, cursor="f", gap=50, now=NOW + 1)
    assert (two.moved, two.skipped, two.cursor) == (3, 1, "f")
    assert (two.paced_to, two.due_at, two.waits_for) == (NOW + 150, NOW + 1 + CLAIM, None)
    assert progress(two) == 0.4
    assert claimed(two, NOW).due_at == NOW + CLAIM


def test_a_recovery_ends_with_its_only_pass() -> None:
    """What is given up later is not its business."""
    ended = passed(RECOVER, NOW + 1)
    assert ended == over(RECOVER, RecoveryState.DONE, NOW + 1)
    assert (ended.due_at, ended.finished_at, progress(ended)) == (None, NOW + 1, 1.0)


def test_a_release_looks_again_once_nothing_is_held_by_mistake() -> None:
    """A pass that began too early is followed by another."""
    early = passed(msgspec.structs.replace(RESUME, cursor="e"), NOW + 1)
    assert early.state is RecoveryState.RUNNING
    assert (early.cursor, early.due_at) == (None, NOW + SETTLING)
    late = passed(msgspec.structs.replace(RESUME, cursor="e"), NOW + clock.HOUR)
    assert (late.state, late.due_at) == (RecoveryState.RUNNING, NOW + clock.HOUR)
    for again in (early, late):
        assert passed(again, NOW + 2 * clock.HOUR).state is RecoveryState.DONE


def test_progress_is_a_share() -> None:
    """Of what was counted, and never more than all of it; of nothing where nobody counted."""
    assert progress(msgspec.structs.replace(RECOVER, found=0)) == 0.0
    assert progress(msgspec.structs.replace(RESUME, moved=3)) is None
    assert progress(over(RESUME, RecoveryState.DONE, NOW)) is None
    assert progress(msgspec.structs.replace(RECOVER, moved=11)) == 1.0


def test_sparse_is_what_passes_over_most() -> None:
    """A type, a session, or states that no index lists together."""
    assert not RECOVER.sparse
    assert msgspec.structs.replace(RECOVER, types=("message.*",)).sparse
    assert msgspec.structs.replace(RECOVER, session_id="ses").sparse
    assert msgspec.structs.replace(
        RECOVER, states=(DeliveryState.GAVE_UP, DeliveryState.WAITING)
    ).sparse
    assert msgspec.structs.replace(RECOVER, states=(DeliveryState.WAITING,)).sparse
    assert not msgspec.structs.replace(RECOVER, states=(DeliveryState.DELIVERED,)).sparse


@given(st.integers(0, 2**43), st.integers(0, 2**43))
def test_what_is_after_an_event_is_before_the_next(one: int, other: int) -> None:
    """The bound lies between an event's id and every later one's."""
    first, second = (ids.mint(ids.EVENT, moment, bytes(10)) for moment in sorted((one, other)))
    assert first < after(first)
    assert first == second or after(first) < second
