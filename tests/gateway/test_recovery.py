"""Recovery jobs on a real table, with a clock that is told the time."""

import contextlib
import copy
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec
import pytest

from gateway.aws import Aws
from gateway.erasure import erase_tenant
from gateway.metrics import Metrics
from gateway.recovery import Recoveries
from shared import clock, ids
from shared.aws import Op
from shared.delivery import Delivery, DeliveryState, HeldBy, Trigger
from shared.errors import Unavailable
from shared.ids import EventId, RecoveryId, SessionId, TenantId
from shared.recovery import (
    AHEAD,
    CLAIM,
    LOOK_AGAIN,
    SETTLING,
    Recovery,
    RecoveryKind,
    RecoveryState,
    over,
)
from shared.store import deliveries, keys, recoveries, webhooks
from shared.store.dynamo import KeyRow, Range, query, transact
from shared.webhook import Endpoint, EndpointStatus, Health
from tests.gateway.conftest import World
from tests.gateway.receivers import Receiver, served
from tests.gateway.test_dispatcher import opened, owed
from tests.gateway.waiting import until

T = TypeVar("T")

START = 1_800_000_000_000
URL = "https://hooks.example.com/"


class Stage:
    """An endpoint with deliveries, and the gateways that work on its jobs."""

    def __init__(self, world: World, endpoint: Endpoint) -> None:
        self.world = world
        self.endpoint = endpoint
        self.now = START
        self.told: list[Delivery] = []
        """What gateways told of as moved."""

    @property
    def tenant_id(self) -> TenantId:
        return self.endpoint.tenant_id

    def gateway(self, aws: Aws | None = None) -> Recoveries:
        return Recoveries(
            aws=aws or self.world.aws,
            metrics=Metrics(),
            now=lambda: self.now,
            moved=self.told.extend,
        )

    async def run(self, op: Op[T]) -> T:
        return await self.world.aws.run(op)

    async def owe(self, number: int, state: DeliveryState, **more: Any) -> list[Delivery]:
        """So many deliveries in a state."""
        given: dict[str, Any] = {
            "event_type": "message.sent",
            "attempt": 11 if state is DeliveryState.GAVE_UP else 0,
            "held_by": HeldBy.ENDPOINT_PAUSED if state is DeliveryState.HELD else None,
            "due_at": START + 6 * clock.HOUR if state is DeliveryState.HELD else None,
            **more,
        }
        rows = [
            Delivery(
                tenant_id=self.tenant_id,
                endpoint_id=self.endpoint.id,
                event_id=EventId(ids.mint(ids.EVENT, START - clock.HOUR + n, bytes(10))),
                state=state,
                created_at=START,
                updated_at=START,
                **given,
            )
            for n in _numbers(number)
        ]
        for some in range(0, len(rows), 100):
            writes = [
                deliveries.record_delivery(self.tenant_id, row) for row in rows[some : some + 100]
            ]
            assert await self.run(transact(writes))
        return rows

    async def order(self, **more: Any) -> Recovery:
        """A recovery of what was given up."""
        given: dict[str, Any] = {
            "states": (DeliveryState.GAVE_UP,),
            "per_second": 50,
            "found": 12,
            "low": ids.floor(ids.EVENT, START - clock.DAY),
            "high": ids.floor(ids.EVENT, START),
            **more,
        }
        job = Recovery(
            id=RecoveryId(clock.mint(ids.RECOVERY)),
            tenant_id=self.tenant_id,
            endpoint_id=self.endpoint.id,
            kind=RecoveryKind.RECOVER,
            state=RecoveryState.RUNNING,
            created_at=self.now,
            updated_at=self.now,
            passes_from=self.now,
            asked_at=self.now,
            due_at=self.now,
            **given,
        )
        assert await self.run(recoveries.begin_recovery(self.tenant_id, job)) == job.id
        return job

    async def resume(self) -> RecoveryId:
        assert await self.run(recoveries.begin_resume(self.tenant_id, self.endpoint.id, self.now))
        return ids.resuming(self.endpoint.id)

    async def job(self, recovery_id: RecoveryId) -> Recovery:
        row = await self.run(recoveries.read(self.tenant_id, self.endpoint.id, recovery_id))
        assert row is not None
        return row

    async def row(self, delivery: Delivery) -> Delivery:
        op = deliveries.read_delivery(self.tenant_id, delivery.endpoint_id, delivery.event_id)
        found = await self.run(op)
        assert found is not None
        return found

    async def rows(self, some: Sequence[Delivery]) -> list[Delivery]:
        return [await self.row(delivery) for delivery in some]

    async def change(self, **fields: Any) -> None:
        """What a control plane or a breaker writes of the endpoint."""
        seen = await self.run(webhooks.read_endpoint(self.tenant_id, self.endpoint.id))
        assert seen is not None
        changed = msgspec.structs.replace(seen, **fields)
        assert await self.run(webhooks.replace_endpoint(self.tenant_id, seen, changed))

    async def finish(self, recovery_id: RecoveryId) -> Recovery:
        """Let gateways look until the job is over."""
        for _ in range(100):
            job = await self.job(recovery_id)
            if job.finished_at is not None:
                return job
            self.now = max(self.now, job.due_at or 0)
            await self.gateway().look()
        raise AssertionError("the job does not end")


_made = 0


def _numbers(count: int) -> range:
    global _made  # noqa: PLW0603 - every delivery of a test run has a moment of its own
    _made += count
    return range(_made - count, _made)


class Mortal(Aws):
    """A gateway's AWS that is there for a number of requests; then the gateway is dead."""

    def __init__(self, aws: Aws, requests: int, *, hears: bool) -> None:
        """Whether it `hears` the answer of the last one."""
        self.__dict__ = copy.copy(aws.__dict__)
        self.left = requests
        self.hears = hears

    async def run(self, op: Op[T]) -> T:
        self.left -= 1
        if self.left < 0:
            raise Unavailable(op.service, op.action, "dead")
        answer = await super().run(op)
        if self.left == 0 and not self.hears:
            raise Unavailable(op.service, op.action, "dead")
        return answer


@pytest.fixture
async def stage(world: World) -> Stage:
    return Stage(world, await world.endpoint(await world.tenant(), URL))


async def test_what_was_given_up_is_due_again_at_the_rate_asked_for(stage: Stage) -> None:
    """In order, a fresh schedule each, no faster; and the job says what it did."""
    owed = await stage.owe(60, DeliveryState.GAVE_UP, last_error="timeout")
    job = await stage.order(found=60, per_second=20)
    await stage.gateway().look()
    done = await stage.job(job.id)
    assert (done.state, done.moved, done.skipped) == (RecoveryState.DONE, 60, 0)
    assert (done.due_at, done.finished_at) == (None, START)
    for n, moved in enumerate(await stage.rows(owed)):
        assert (moved.state, moved.due_at) == (DeliveryState.WAITING, START + 50 * n)
        assert (moved.trigger, moved.attempt, moved.scheduled_from) == (Trigger.RECOVERY, 11, 11)
        assert moved.last_error == "timeout"


async def test_only_so_much_is_moved_ahead(stage: Stage) -> None:
    """So cancelling acts within seconds; the rest stays given up and can be recovered again."""
    owed = await stage.owe(25, DeliveryState.GAVE_UP)
    job = await stage.order(found=25, per_second=1)
    await stage.gateway().look()
    some = await stage.job(job.id)
    assert (some.state, some.moved) == (RecoveryState.RUNNING, 11)
    await stage.gateway().look()
    assert (await stage.job(job.id)).moved == 11
    stage.now = some.due_at or 0
    assert START < stage.now < START + AHEAD
    await stage.gateway().look()
    seen = await stage.job(job.id)
    assert 11 < seen.moved < 25
    assert await stage.run(
        recoveries.finish(stage.tenant_id, seen, over(seen, RecoveryState.CANCELLED, stage.now))
    )
    stage.now += clock.HOUR
    await stage.gateway().look()
    states = [row.state for row in await stage.rows(owed)]
    assert states.count(DeliveryState.WAITING) == seen.moved
    again = await stage.order(found=25 - seen.moved)
    assert (await stage.finish(again.id)).moved == 25 - seen.moved


@pytest.mark.parametrize("hears", [True, False])
async def test_a_gateway_that_dies_at_any_request_repeats_and_loses_nothing(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, *, hears: bool
) -> None:
    """Whoever goes on when the claim lapses moves the rest, and the count is exact."""
    monkeypatch.setattr("shared.recovery.STEP", 4)
    lived = 0
    for requests in range(1, 20):
        owed = await stage.owe(6, DeliveryState.GAVE_UP)
        job = await stage.order(found=6)
        mortal = Mortal(stage.world.aws, requests, hears=hears)
        with contextlib.suppress(Unavailable):
            await stage.gateway(mortal).look()
        if mortal.left > 0:
            lived = requests
        stage.now += CLAIM
        done = await stage.finish(job.id)
        assert (done.state, done.moved, done.skipped) == (RecoveryState.DONE, 6, 0), requests
        for row in await stage.rows(owed):
            assert (row.state, row.trigger) == (DeliveryState.WAITING, Trigger.RECOVERY)
        if lived:
            break
    assert lived > 8


async def test_two_gateways_share_a_job(stage: Stage) -> None:
    """One claims it; the other finds nothing to do, and nothing is counted twice."""
    await stage.owe(30, DeliveryState.GAVE_UP)
    job = await stage.order(found=30)
    one, other = stage.gateway(), stage.gateway()
    due = await stage.run(recoveries.due(START, 10))
    await one.take(due[0])
    await other.take(due[0])
    done = await stage.job(job.id)
    assert (done.moved, done.skipped) == (30, 0)


async def test_what_has_moved_meanwhile_is_left_out_and_counted(stage: Stage) -> None:
    """A delivery that was redelivered between being seen and its turn is not moved back."""
    owed = await stage.owe(5, DeliveryState.GAVE_UP)
    job = await stage.order(found=5)
    before = owed[2]
    sent = msgspec.structs.replace(before, state=DeliveryState.DELIVERED, attempt=12)

    class Late(Mortal):
        async def run(self, op: Op[T]) -> T:
            if op.action == "transact_write_items":
                await stage.run(deliveries.move_delivery(stage.tenant_id, before, sent))
            return await super().run(op)

    await stage.gateway(Late(stage.world.aws, 1_000, hears=True)).look()
    done = await stage.job(job.id)
    assert (done.state, done.moved, done.skipped) == (RecoveryState.DONE, 4, 1)
    assert (await stage.row(before)).state is DeliveryState.DELIVERED
    due = [row.due_at for row in await stage.rows(owed) if row.due_at]
    assert due == [START, START + 20, START + 40, START + 60]


async def test_a_cancellation_between_reading_and_moving_moves_nothing(stage: Stage) -> None:
    """The step and the job's row are one transaction: the job is not as it was, so nothing is."""
    owed = await stage.owe(5, DeliveryState.GAVE_UP)
    job = await stage.order(found=5)

    class Late(Mortal):
        async def run(self, op: Op[T]) -> T:
            if op.action == "transact_write_items":
                seen = await stage.job(job.id)
                if seen.finished_at is None:
                    ended = over(seen, RecoveryState.CANCELLED, stage.now)
                    await stage.run(recoveries.finish(stage.tenant_id, seen, ended))
            return await super().run(op)

    await stage.gateway(Late(stage.world.aws, 1_000, hears=True)).look()
    seen = await stage.job(job.id)
    assert (seen.state, seen.moved) == (RecoveryState.CANCELLED, 0)
    assert await stage.rows(owed) == owed


async def test_deliveries_that_keep_moving_are_left_for_the_next_look(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing of a step is done until all of it is, and then each is counted once."""
    owed = await stage.owe(8, DeliveryState.GAVE_UP)
    job = await stage.order(found=8)
    moving = iter(owed)

    class Late(Mortal):
        async def run(self, op: Op[T]) -> T:
            if op.action == "transact_write_items":
                before = next(moving)
                sent = msgspec.structs.replace(before, state=DeliveryState.DELIVERED)
                await stage.run(deliveries.move_delivery(stage.tenant_id, before, sent))
            return await super().run(op)

    await stage.gateway(Late(stage.world.aws, 1_000, hears=True)).look()
    assert "recovery.interrupted" in [record.message for record in caplog.records]
    seen = await stage.job(job.id)
    assert (seen.moved, seen.skipped, seen.due_at) == (0, 0, START + CLAIM)
    stage.now += CLAIM
    done = await stage.finish(job.id)
    assert (done.state, done.moved) == (RecoveryState.DONE, 4)


async def test_a_long_job_gives_way_to_the_others(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After so many steps it is due again at once, behind those that wait."""
    monkeypatch.setattr("gateway.recovery.STEPS", 1)
    monkeypatch.setattr("gateway.recovery.JOBS", 1)
    monkeypatch.setattr("shared.recovery.STEP", 4)
    await stage.owe(10, DeliveryState.GAVE_UP)
    job = await stage.order(found=10)
    await stage.gateway().look()
    done = await stage.job(job.id)
    assert (done.state, done.moved, done.due_at) == (RecoveryState.DONE, 10, None)


async def test_a_recovery_takes_only_what_was_asked_for(stage: Stage) -> None:
    """By type, session and state, within its time; and never a test that failed."""
    session = SessionId(clock.mint(ids.SESSION))
    wanted = [
        *await stage.owe(3, DeliveryState.GAVE_UP, session_id=session, event_type="message.read"),
        *await stage.owe(
            2, DeliveryState.WAITING, session_id=session, attempt=4, due_at=START + clock.HOUR
        ),
    ]
    others = [
        *await stage.owe(2, DeliveryState.GAVE_UP),
        *await stage.owe(
            2, DeliveryState.GAVE_UP, session_id=session, event_type="session.stopped"
        ),
        *await stage.owe(2, DeliveryState.DELIVERED, session_id=session),
        *await stage.owe(2, DeliveryState.GAVE_UP, session_id=session, trigger=Trigger.TEST),
    ]
    job = await stage.order(
        states=(DeliveryState.GAVE_UP, DeliveryState.WAITING),
        types=("message.*",),
        session_id=session,
    )
    done = await stage.finish(job.id)
    assert (done.moved, done.skipped) == (5, 0)
    for row in await stage.rows(wanted):
        assert (row.trigger, row.due_at is not None and row.due_at < START + 1000) == (
            Trigger.RECOVERY,
            True,
        )
    assert await stage.rows(others) == others


async def test_a_rare_type_costs_few_writes(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is passed over is read on in one step, and a long stretch of it is recorded."""
    monkeypatch.setattr("gateway.recovery.SPARSE_ROWS", 5)
    monkeypatch.setattr("gateway.recovery.SPARSE_READS", 3)
    await stage.owe(30, DeliveryState.GAVE_UP)
    rare = await stage.owe(7, DeliveryState.GAVE_UP, event_type="message.read")
    job = await stage.order(types=("message.read",))
    done = await stage.finish(job.id)
    assert (done.state, done.moved) == (RecoveryState.DONE, 7)
    assert {row.state for row in await stage.rows(rare)} == {DeliveryState.WAITING}
    assert done.version < 10


async def test_a_pause_stays_the_recovery_and_disabling_ends_it(stage: Stage) -> None:
    """While it waits it says for what; what it has not moved stays given up."""
    owed = await stage.owe(2, DeliveryState.GAVE_UP)
    await stage.owe(30, DeliveryState.GAVE_UP)
    job = await stage.order(per_second=1)
    await stage.gateway().look()
    await stage.change(status=EndpointStatus.PAUSED)
    stage.now = (await stage.job(job.id)).due_at or 0
    await stage.gateway().look()
    stayed = await stage.job(job.id)
    assert (stayed.moved, stayed.waits_for) == (11, "endpoint_paused")
    assert stayed.due_at == stage.now + LOOK_AGAIN
    await stage.change(status=EndpointStatus.ENABLED)
    stage.now += LOOK_AGAIN
    await stage.gateway().look()
    goes_on = await stage.job(job.id)
    assert goes_on.moved > 11
    assert goes_on.waits_for is None
    await stage.change(status=EndpointStatus.DISABLED)
    ended = await stage.finish(job.id)
    assert (ended.state, ended.reason) == (RecoveryState.STOPPED, "endpoint_disabled")
    assert ended.moved == goes_on.moved
    assert (await stage.row(owed[0])).state is DeliveryState.WAITING
    await stage.change(status=EndpointStatus.ENABLED)
    await stage.order()


async def test_a_resting_endpoint_is_left_alone_then_probed(stage: Stage) -> None:
    """Until its rest is over nothing is moved; then only what its probe may need."""
    await stage.owe(30, DeliveryState.GAVE_UP)
    job = await stage.order(found=30)
    await stage.change(health=Health(opened=1, open_until=START + clock.SECOND))
    await stage.gateway().look()
    rests = await stage.job(job.id)
    assert (rests.moved, rests.waits_for) == (0, "endpoint_resting")
    assert rests.due_at == START + clock.SECOND
    stage.now += clock.SECOND
    await stage.gateway().look()
    assert (await stage.job(job.id)).moved == 3
    await stage.change(health=Health())
    assert (await stage.finish(job.id)).moved == 30


async def test_a_release_frees_all_that_is_held_in_order(stage: Stage) -> None:
    """Also what a gateway held that had not heard yet; trigger and schedule stay."""
    held = await stage.owe(70, DeliveryState.HELD, trigger=Trigger.REDELIVERY)
    resuming = await stage.resume()
    await stage.gateway().look()
    between = await stage.job(resuming)
    assert (between.state, between.moved) == (RecoveryState.RUNNING, 70)
    late = await stage.owe(2, DeliveryState.HELD)
    for n, row in enumerate(await stage.rows(held)):
        assert (row.state, row.held_by, row.due_at) == (DeliveryState.WAITING, None, START + 20 * n)
        assert (row.trigger, row.scheduled_from) == (Trigger.REDELIVERY, 0)
    await stage.gateway().look()
    assert (await stage.row(late[0])).state is DeliveryState.HELD
    stage.now = START + SETTLING
    await stage.gateway().look()
    done = await stage.job(resuming)
    assert (done.state, done.moved, done.kind) == (RecoveryState.DONE, 72, RecoveryKind.RESUME)
    assert (await stage.row(late[1])).state is DeliveryState.WAITING


async def test_a_release_that_runs_begins_anew_when_it_is_asked_for_again(stage: Stage) -> None:
    """Whoever asks may have held something behind its back; nothing is released twice."""
    await stage.owe(3, DeliveryState.HELD)
    resuming = await stage.resume()
    (seen,) = await stage.run(recoveries.due(START, 10))
    await stage.gateway().look()
    stage.now += SETTLING - 1
    assert await stage.resume() == resuming
    behind = await stage.owe(1, DeliveryState.HELD)
    await stage.gateway().take(seen)  # a gateway that saw it before
    await stage.gateway().look()
    assert (await stage.row(behind[0])).state is DeliveryState.WAITING
    stage.now += 1
    await stage.gateway().look()
    assert (await stage.job(resuming)).state is RecoveryState.RUNNING
    done = await stage.finish(resuming)
    assert (done.state, done.moved) == (RecoveryState.DONE, 1)
    assert done.finished_at == START + 2 * SETTLING - 1


async def test_a_paused_endpoints_release_ends(stage: Stage) -> None:
    """It was paused again: what is held stays, and resuming it begins a release."""
    held = await stage.owe(2, DeliveryState.HELD)
    resuming = await stage.resume()
    await stage.change(status=EndpointStatus.PAUSED)
    done = await stage.finish(resuming)
    assert (done.state, done.reason) == (RecoveryState.STOPPED, "endpoint_paused")
    assert await stage.rows(held) == held


async def test_one_recovery_of_an_endpoint_runs_at_a_time(stage: Stage) -> None:
    """The second is told of the first; a release runs beside it."""
    job = await stage.order()
    other = msgspec.structs.replace(job, id=RecoveryId(clock.mint(ids.RECOVERY)))
    assert await stage.run(recoveries.begin_recovery(stage.tenant_id, other)) == job.id
    await stage.resume()
    assert (await stage.finish(job.id)).state is RecoveryState.DONE
    assert await stage.run(recoveries.begin_recovery(stage.tenant_id, other)) == other.id
    await stage.change(status=EndpointStatus.PAUSED)
    await stage.finish(ids.resuming(stage.endpoint.id))
    third = msgspec.structs.replace(job, id=RecoveryId(clock.mint(ids.RECOVERY)))
    seen = await stage.job(other.id)
    ended = over(seen, RecoveryState.CANCELLED, stage.now)
    assert await stage.run(recoveries.finish(stage.tenant_id, seen, ended))
    assert await stage.run(recoveries.begin_recovery(stage.tenant_id, third)) is None


async def test_a_job_goes_with_its_endpoint(stage: Stage) -> None:
    """A deleted endpoint's jobs are erased, and none is begun."""
    job = await stage.order()
    resuming = await stage.resume()
    assert await stage.run(webhooks.delete_endpoint(stage.tenant_id, stage.endpoint.id, stage.now))
    await stage.gateway().look()
    for each in (job.id, resuming):
        assert await stage.run(recoveries.read(stage.tenant_id, stage.endpoint.id, each)) is None
    assert not await stage.run(
        recoveries.begin_resume(stage.tenant_id, stage.endpoint.id, stage.now)
    )
    assert await stage.run(recoveries.due(stage.now + clock.HOUR, 10)) == ()


async def test_erasing_a_tenant_leaves_no_job(stage: Stage) -> None:
    """Nor does a gateway that was in the middle of one write it back."""
    await stage.owe(3, DeliveryState.GAVE_UP)
    await stage.order()
    (seen,) = await stage.run(recoveries.due(START, 10))
    await erase_tenant(stage.world.aws, stage.tenant_id)
    await stage.gateway().take(seen)
    left = await stage.run(query(keys.tenant_partition(stage.tenant_id), KeyRow, Range(10)))
    assert left.rows == ()
    assert await stage.run(recoveries.due(stage.now + clock.HOUR, 10)) == ()


async def test_one_job_that_fails_does_not_keep_the_others(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """A defect in one is logged with its id; the others are done."""
    await stage.owe(2, DeliveryState.GAVE_UP)
    job = await stage.order(found=2)
    broken = await stage.world.endpoint(stage.tenant_id, URL)
    await stage.run(recoveries.begin_resume(stage.tenant_id, broken.id, stage.now))

    class Broken(Mortal):
        async def run(self, op: Op[T]) -> T:
            if f"#D#{broken.id}#held" in str(op.params(self.places)):
                raise ValueError("broken")
            return await super().run(op)

    await stage.gateway(Broken(stage.world.aws, 1_000, hears=True)).look()
    assert (await stage.job(job.id)).state is RecoveryState.DONE
    (told,) = [record for record in caplog.records if record.message == "recovery.failed"]
    assert vars(told)["zapgate"]["endpoint_id"] == broken.id


async def test_a_receiver_that_was_down_gets_what_it_missed(world: World) -> None:
    """Given up or held meanwhile: all of it arrives, signed, under the ids it always had."""
    receiver = Receiver()
    async with served(receiver) as url, opened(world):
        endpoint = await world.endpoint(await world.tenant(), url)
        missed = [(await owed(world, endpoint, claim=False))[0] for _ in range(6)]
        for n, delivery in enumerate(missed):
            state = DeliveryState.HELD if n % 2 else DeliveryState.GAVE_UP
            after = msgspec.structs.replace(
                delivery, state=state, due_at=None, attempt=0 if n % 2 else 11
            )
            assert await world.aws.run(
                deliveries.move_delivery(endpoint.tenant_id, delivery, after)
            )
        stage = Stage(world, endpoint)
        stage.now = clock.millis()
        await stage.order(low=ids.floor(ids.EVENT, 0), high=ids.floor(ids.EVENT, stage.now + 1))
        await stage.resume()
        await stage.gateway().look()

        async def arrived() -> bool:
            rows = await stage.rows(missed)
            return all(row.state is DeliveryState.DELIVERED for row in rows)

        await until(arrived, 30)
    sent = {request.headers["webhook-id"] for request in receiver.requests}
    assert sent == {delivery.event_id for delivery in missed}
    for n, row in enumerate(await stage.rows(missed)):
        expected = (1, Trigger.EVENT) if n % 2 else (12, Trigger.RECOVERY)
        assert (row.attempt, row.trigger) == expected
