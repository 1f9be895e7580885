"""The dispatcher on a real table and queue, with receivers that behave as they like."""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
import standardwebhooks

from gateway import directory as directory_module
from gateway import dispatcher as dispatcher_module
from gateway import due as due_module
from gateway.aws import Aws
from gateway.delivery import CLAIM, claimed
from gateway.directory import Directory
from gateway.dispatcher import Dispatcher
from gateway.egress import Egress
from gateway.fairness import Limits
from gateway.metrics import Metrics
from gateway.redaction import MASK
from shared import clock, ids, queue
from shared.delivery import Attempt, Delivery, DeliveryState, HeldBy, Outcome, Trigger, Wake
from shared.errors import Unavailable
from shared.events import EndpointTest, Ping, encode
from shared.headers import with_headers
from shared.ids import EventId, WorkerId
from shared.sealing import NONCE_BYTES, seal
from shared.session import Session
from shared.signing import webhook_secret
from shared.store import deliveries, events, keys, recoveries, tenants, webhooks
from shared.store.dynamo import Op, Range, setting, update
from shared.store.events import StoredEvent
from shared.tenant import TenantStatus
from shared.webhook import Endpoint, EndpointStatus, Health, rotated
from tests.gateway.conftest import World
from tests.gateway.receivers import Receiver, response, served
from tests.gateway.waiting import until


class Clock:
    """The wall clock, and how far it was turned on."""

    def __init__(self) -> None:
        self.ahead = 0

    def __call__(self) -> int:
        return clock.millis() + self.ahead


@asynccontextmanager
async def opened(
    world: World,
    now: Callable[[], int] = clock.millis,
    limits: Limits | None = None,
    *,
    deadline: float = 2,
) -> AsyncGenerator[Dispatcher]:
    async with (
        Egress("loopback", deadline=deadline) as egress,
        Dispatcher(
            places=world.settings,
            aws=world.aws,
            directory=Directory(world.aws, world.keyring.seals, memory=1),
            egress=egress,
            metrics=Metrics(),
            now=now,
            limits=limits,
        ) as dispatcher,
    ):
        yield dispatcher


def nobody(_: Session) -> None:
    """No session is fenced here."""


def parts_of(world: World) -> dict[str, Any]:
    """What an outbox beside the dispatcher needs."""
    return {
        "aws": world.aws,
        "directory": Directory(world.aws, world.keyring.seals, memory=1),
        "fenced": nobody,
        "metrics": Metrics(),
    }


async def owed(
    world: World, endpoint: Endpoint, *, claim: bool = True, by: WorkerId | None = None
) -> tuple[Delivery, bytes]:
    """An event stored with its delivery, as the outbox would."""
    now = clock.millis()
    event_id = EventId(clock.mint(ids.EVENT))
    event = EndpointTest(id=event_id, timestamp=clock.instant(now), data=Ping(note="hällo"))
    body = encode(event)
    stored = StoredEvent(
        id=event_id,
        tenant_id=endpoint.tenant_id,
        type="endpoint.test",
        created_at=now,
        recorded_at=now,
        body=body.decode(),
    )
    delivery = Delivery(
        tenant_id=endpoint.tenant_id,
        endpoint_id=endpoint.id,
        event_id=event_id,
        event_type="endpoint.test",
        state=DeliveryState.WAITING,
        attempt=0,
        created_at=now,
        updated_at=now,
        due_at=now,
    )
    if claim:
        delivery = claimed(delivery, now, by)
    await world.aws.run(events.record_event(endpoint.tenant_id, stored).alone())
    await world.aws.run(deliveries.record_delivery(endpoint.tenant_id, delivery).alone())
    return delivery, body


async def row(world: World, delivery: Delivery) -> Delivery:
    found = await world.aws.run(
        deliveries.read_delivery(delivery.tenant_id, delivery.endpoint_id, delivery.event_id)
    )
    assert found is not None
    return found


async def log_of(world: World, delivery: Delivery) -> tuple[Attempt, ...]:
    rows = Range(limit=100, newest_first=False)
    op = deliveries.every_attempt(delivery.tenant_id, delivery.endpoint_id, delivery.event_id, rows)
    return (await world.aws.run(op)).rows


def came_to(world: World, delivery: Delivery, state: DeliveryState) -> Callable[[], Any]:
    async def so() -> bool:
        return (await row(world, delivery)).state is state

    return so


async def test_a_handed_over_delivery_arrives_signed(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """The stored bytes are posted at once, and an independent library accepts the signature."""
    caplog.set_level(logging.DEBUG)
    receiver = Receiver()
    async with served(receiver) as url, opened(world) as dispatcher:
        endpoint = await world.endpoint(await world.tenant(), url)
        delivery, body = await owed(world, endpoint)
        dispatcher.hand_over(delivery, body)
        await until(came_to(world, delivery, DeliveryState.DELIVERED))
    (request,) = receiver.requests
    assert request.body == body
    assert request.headers["webhook-id"] == delivery.event_id
    assert request.headers["user-agent"].startswith("Zapgate/")
    judge = standardwebhooks.Webhook(world.secrets[endpoint.id])
    assert judge.verify(request.body, request.headers) == json.loads(body)
    done = await row(world, delivery)
    assert (done.attempt, done.last_status, done.due_at) == (1, 204, None)
    (told,) = [record for record in caplog.records if record.message == "delivery.attempted"]
    assert told.levelno == logging.DEBUG
    facts: dict[str, Any] = vars(told)["zapgate"]
    assert facts["decision"] == "delivered"
    assert facts.keys() >= {"tenant_id", "endpoint_id", "event_id", "status", "seconds", "attempt"}


async def test_what_goes_wrong_is_logged_and_so_is_its_mending(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """A failed attempt has its line, and so has the success that follows it."""
    caplog.set_level(logging.INFO)
    turned, receiver = Clock(), Receiver([response(500), response(204)])
    async with served(receiver) as url, opened(world, turned) as dispatcher:
        endpoint = await world.endpoint(await world.tenant(), url)
        delivery, body = await owed(world, endpoint)
        dispatcher.hand_over(delivery, body)
        await until(came_to(world, delivery, DeliveryState.WAITING))
        turned.ahead = 2 * due_module.GRACE
        await dispatcher.sweep()
        await until(came_to(world, delivery, DeliveryState.DELIVERED))
    lines = [record for record in caplog.records if record.message == "delivery.attempted"]
    assert [vars(line)["zapgate"]["decision"] for line in lines] == ["retry", "delivered"]


async def test_a_rotation_reaches_the_wire_and_ends_there(world: World) -> None:
    """Both secrets verify what arrives during the overlap; after it, the new one alone."""
    turned, receiver = Clock(), Receiver()
    async with served(receiver) as url, opened(world, turned) as dispatcher:
        before = await world.endpoint(await world.tenant(), url)
        old, new = world.secrets[before.id], webhook_secret(b"n" * 32)
        sealed = seal(world.keyring.seals, before.owner, new, b"n" * NONCE_BYTES)
        endpoint = rotated(before, sealed, clock.millis(), clock.MINUTE)
        assert await world.aws.run(webhooks.replace_endpoint(endpoint.tenant_id, before, endpoint))
        for ahead in (0, clock.MINUTE):
            turned.ahead = ahead
            delivery, body = await owed(world, endpoint)
            dispatcher.hand_over(delivery, body)
            await until(came_to(world, delivery, DeliveryState.DELIVERED))
    during, after = receiver.requests
    for secret in (old, new):
        standardwebhooks.Webhook(secret).verify(during.body, during.headers)
    standardwebhooks.Webhook(new).verify(after.body, after.headers)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(old).verify(after.body, after.headers)


async def test_a_tenants_headers_reach_its_endpoint_and_no_log(world: World) -> None:
    """As they were given, beside ours; a stored one like ours would not take its place."""
    given = {"Authorization": "Bearer very-secret", "X-Odd~": "a\tb  c", "Webhook_Id": "forged"}
    receiver = Receiver()
    async with served(receiver) as url, opened(world) as dispatcher:
        bare = await world.endpoint(await world.tenant(), url)
        endpoint = with_headers(world.keyring.seals, bare, given, b"n" * NONCE_BYTES)
        assert await world.aws.run(webhooks.replace_endpoint(bare.tenant_id, bare, endpoint))
        delivery, body = await owed(world, endpoint)
        dispatcher.hand_over(delivery, body)
        await until(came_to(world, delivery, DeliveryState.DELIVERED))
    (request,) = receiver.requests
    assert request.headers["authorization"] == "Bearer very-secret"
    assert request.headers["x-odd~"] == "a\tb  c"
    assert request.headers["webhook-id"] == delivery.event_id
    assert "webhook_id" not in request.headers
    assert "very-secret" not in repr(await log_of(world, delivery))


async def test_a_delivery_alone_is_few_requests(world: World) -> None:
    """One write of its result, once the tenant is known: with the record, far below four."""
    receiver = Receiver()
    async with served(receiver) as url, opened(world) as dispatcher:
        endpoint = await world.endpoint(await world.tenant(), url)
        first, second = await owed(world, endpoint), await owed(world, endpoint)
        await asyncio.sleep(0.1)  # let the first sweep pass
        before = Counted(world.aws)
        dispatcher.hand_over(*first)
        await until(lambda: before.since("TransactWriteItems") == 1)
        assert before.since("GetItem") == 1
        dispatcher.hand_over(*second)
        await until(lambda: before.since("TransactWriteItems") == 2)
        assert before.since("GetItem") == 1


class Counted:
    """Requests by action since it was made."""

    def __init__(self, aws: Aws) -> None:
        self._requests = aws.requests
        self._before = aws.requests.copy()

    def since(self, action: str) -> int:
        key = "dynamodb", action
        return self._requests[key] - self._before[key]


async def test_a_failure_is_tried_again_by_the_queue(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next attempt comes by itself, with the same id and a new signature."""
    monkeypatch.setattr("gateway.delivery.SCHEDULE", (0, 1000, 1000, 1000))
    receiver = Receiver([response(500), response(302), response(200)])
    async with served(receiver) as url, opened(world) as dispatcher:
        endpoint = await world.endpoint(await world.tenant(), url)
        delivery, body = await owed(world, endpoint)
        dispatcher.hand_over(delivery, body)
        await until(came_to(world, delivery, DeliveryState.DELIVERED), 15)
    assert [request.headers["webhook-id"] for request in receiver.requests] == [
        delivery.event_id
    ] * 3
    signatures = {request.headers["webhook-signature"] for request in receiver.requests}
    assert len(signatures) == 3
    assert (await row(world, delivery)).attempt == 3
    attempts = await log_of(world, delivery)
    assert [(each.number, each.status, each.outcome) for each in attempts] == [
        (1, 500, Outcome.RETRY),
        (2, 302, Outcome.RETRY),
        (3, 200, Outcome.DELIVERED),
    ]
    assert [each.next_at is None for each in attempts] == [False, False, True]


async def test_a_repeated_or_stale_wake_up_sends_nothing_twice(world: World) -> None:
    """The row decides: of three wake-ups one claims, and one of an earlier attempt is void."""
    receiver = Receiver()
    async with served(receiver) as url, opened(world):
        endpoint = await world.endpoint(await world.tenant(), url)
        delivery, _ = await owed(world, endpoint, claim=False)
        wake = Wake.of(delivery)
        stale = msgspec.structs.replace(wake, attempt=7)
        gone = msgspec.structs.replace(wake, event_id=EventId(clock.mint(ids.EVENT)))
        anytime = msgspec.structs.replace(wake, attempt=None)
        bodies = [stale.encode(), gone.encode(), "?", wake.encode(), anytime.encode()]
        for body in [*bodies, wake.encode()]:
            await world.aws.run(queue.send_delivery(endpoint.tenant_id, body, 0))
        await until(came_to(world, delivery, DeliveryState.DELIVERED))
        await asyncio.sleep(0.3)
    assert len(receiver.requests) == 1


async def test_the_sweeper_takes_what_was_left_behind(world: World) -> None:
    """A delivery a dead gateway had claimed is sent when its claim lapses, not before."""
    time = Clock()
    receiver = Receiver()
    async with served(receiver) as url, opened(world, time) as dispatcher:
        endpoint = await world.endpoint(await world.tenant(), url)
        delivery, _ = await owed(world, endpoint)
        await dispatcher.sweep()
        await asyncio.sleep(0.1)
        assert receiver.requests == []
        time.ahead = CLAIM + due_module.GRACE
        await dispatcher.sweep()
        await until(came_to(world, delivery, DeliveryState.DELIVERED))
    assert (await row(world, delivery)).attempt == 2


async def test_two_sweepers_send_once(world: World) -> None:
    """Two gateways that see the same overdue delivery: one claims it."""
    time = Clock()
    receiver = Receiver()
    async with (
        served(receiver) as url,
        opened(world, time) as one,
        opened(world, time) as other,
    ):
        endpoint = await world.endpoint(await world.tenant(), url)
        deliveries = [await owed(world, endpoint, claim=False) for _ in range(10)]
        time.ahead = 2 * due_module.GRACE
        await asyncio.gather(one.sweep(), other.sweep())
        for delivery, _ in deliveries:
            await until(came_to(world, delivery, DeliveryState.DELIVERED))
    assert len(receiver.requests) == 10


async def test_a_sweep_whose_time_is_over_goes_on_where_it_was(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long each takes, every part of the index has its turn."""
    monkeypatch.setattr(due_module, "SWEEP_LIMIT", -1.0)
    time = Clock()
    receiver = Receiver()
    async with served(receiver) as url, opened(world, time) as dispatcher:
        endpoint = await world.endpoint(await world.tenant(), url)
        waiting = [(await owed(world, endpoint, claim=False))[0] for _ in range(20)]
        time.ahead = 2 * due_module.GRACE
        for _ in range(deliveries.DUE_SHARDS):
            await dispatcher.sweep()
        for delivery in waiting:
            await until(came_to(world, delivery, DeliveryState.DELIVERED))


async def test_gone_disables_the_endpoint(world: World) -> None:
    """410 ends this delivery, and disables the endpoint for all that follow."""
    receiver = Receiver([response(410)])
    async with served(receiver) as url, opened(world) as dispatcher:
        endpoint = await world.endpoint(await world.tenant(), url)
        first, body = await owed(world, endpoint)
        dispatcher.hand_over(first, body)
        await until(came_to(world, first, DeliveryState.GAVE_UP))
        read: Op[Any] = webhooks.read_endpoint(endpoint.tenant_id, endpoint.id)

        async def disabled() -> bool:
            return (await world.aws.run(read)).status is EndpointStatus.DISABLED

        await until(disabled)
        second, body = await owed(world, endpoint)
        dispatcher.hand_over(second, body)
        await until(came_to(world, second, DeliveryState.GAVE_UP))
    assert (await row(world, second)).last_error == "endpoint_disabled"
    assert len(receiver.requests) == 1


async def test_what_is_deleted_receives_nothing(world: World) -> None:
    """What was on its way to a deleted endpoint ends."""
    receiver = Receiver()
    async with served(receiver) as url, opened(world) as dispatcher:
        tenant_id = await world.tenant()
        endpoint = await world.endpoint(tenant_id, url)
        gone = await owed(world, endpoint)
        await world.aws.run(webhooks.delete_endpoint(tenant_id, endpoint.id, clock.millis()))
        dispatcher.hand_over(*gone)
        await until(came_to(world, gone[0], DeliveryState.GAVE_UP))
        assert (await row(world, gone[0])).last_error == "endpoint_deleted"
    assert receiver.requests == []


async def test_what_is_suspended_waits_and_then_arrives(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often it was looked at meanwhile, its first attempt is still its first."""
    monkeypatch.setattr(directory_module, "STATUS_SECONDS", 0.0)
    time = Clock()
    receiver = Receiver()
    async with served(receiver) as url, opened(world, time) as dispatcher:
        tenant_id = await world.tenant()
        delivery, body = await owed(world, await world.endpoint(tenant_id, url))
        await world.aws.run(tenants.set_status(tenant_id, TenantStatus.SUSPENDED))
        dispatcher.hand_over(delivery, body)
        seen: set[int | None] = set()
        for _ in range(15):
            await until(came_to(world, delivery, DeliveryState.HELD))
            waiting = await row(world, delivery)
            assert (waiting.attempt, waiting.held_by) == (0, HeldBy.TENANT_SUSPENDED)
            seen.add(waiting.due_at)
            time.ahead += 7 * clock.HOUR
            if len(seen) < 15:
                await dispatcher.sweep()
                await until(lambda: dispatcher.sending == 0)
        assert len(seen) == 15
        assert receiver.requests == []
        await world.aws.run(tenants.set_status(tenant_id, TenantStatus.ACTIVE))
        await dispatcher.sweep()
        await until(came_to(world, delivery, DeliveryState.DELIVERED))
        assert (await row(world, delivery)).attempt == 1
    assert len(receiver.requests) == 1


async def test_a_slow_receiver_holds_up_only_itself(world: World) -> None:
    """While one tenant's endpoint hangs on all it may, another tenant's event arrives at once."""
    slow, quick = Receiver(pause=1.0), Receiver()
    limits = Limits(slots=4, endpoint_slots=2)
    async with (
        served(slow) as slow_url,
        served(quick) as quick_url,
        opened(world, limits=limits) as dispatcher,
    ):
        noisy = await world.endpoint(await world.tenant(), slow_url)
        for _ in range(5):
            dispatcher.hand_over(*await owed(world, noisy))
        await until(lambda: slow.busy == 2)
        quiet = await world.endpoint(await world.tenant(), quick_url)
        delivery = await owed(world, quiet)
        dispatcher.hand_over(*delivery)
        await until(lambda: len(quick.requests) == 1, 0.9)
        await until(lambda: len(slow.requests) == 5)
    assert slow.busiest == 2


async def test_what_finds_no_room_is_put_off_and_not_lost(world: World) -> None:
    """Due deliveries beyond the room are moved out of the way of the others, and come later."""
    time = Clock()
    receiver = Receiver(pause=0.2)
    limits = Limits(slots=1, room=2, tenant_room=2, endpoint_room=2)
    async with served(receiver) as url, opened(world, time, limits) as dispatcher:
        endpoint = await world.endpoint(await world.tenant(), url)
        deliveries = [(await owed(world, endpoint, claim=False))[0] for _ in range(6)]
        time.ahead = 2 * due_module.GRACE
        await dispatcher.sweep()
        waiting = [await row(world, delivery) for delivery in deliveries]
        put_off = [each for each in waiting if (each.due_at or 0) > time() + 20 * clock.SECOND]
        assert len([each for each in put_off if each.state is DeliveryState.WAITING]) >= 3
        for _ in range(4):
            await until(lambda: dispatcher.waiting + dispatcher.sending == 0)
            time.ahead += 2 * due_module.SIDELINED
            await dispatcher.sweep()
        for delivery in deliveries:
            await until(came_to(world, delivery, DeliveryState.DELIVERED))
    assert len(receiver.requests) == 6


async def test_attempts_nobody_made_are_not_counted(world: World) -> None:
    """What waits long behind a slow receiver is given back before its claim lapses."""
    time = Clock()
    receiver = Receiver(pause=0.5)
    limits = Limits(endpoint_slots=1)
    async with served(receiver) as url, opened(world, time, limits) as dispatcher:
        endpoint = await world.endpoint(await world.tenant(), url)
        first, second = await owed(world, endpoint), await owed(world, endpoint)
        dispatcher.hand_over(*first)
        dispatcher.hand_over(*second)
        await dispatcher.put_off()
        assert dispatcher.waiting == 1
        time.ahead = CLAIM - dispatcher_module.LATE + clock.SECOND
        await dispatcher.put_off()
        assert dispatcher.waiting == 0
        late = await row(world, second[0])
        assert (late.state, late.attempt) == (DeliveryState.WAITING, 0)
        assert (late.due_at or 0) >= time() + 20 * clock.SECOND


async def test_stopping_finishes_what_is_in_hand_and_gives_back_the_rest(world: World) -> None:
    """What was begun is finished; what was not can be taken by others at once, as not begun."""
    receiver = Receiver(pause=0.3)
    async with served(receiver) as url:
        endpoint = await world.endpoint(await world.tenant(), url)
        first, second = await owed(world, endpoint), await owed(world, endpoint)
        async with opened(world, limits=Limits(endpoint_slots=1)) as dispatcher:
            dispatcher.hand_over(*first)
            dispatcher.hand_over(*second)
            await until(lambda: receiver.busy == 1)
    assert (await row(world, first[0])).state is DeliveryState.DELIVERED
    rest = await row(world, second[0])
    assert (rest.state, rest.attempt) == (DeliveryState.WAITING, 0)
    assert rest.due_at is not None
    assert rest.due_at <= clock.millis()


async def test_a_claim_that_ran_out_while_waiting_is_renewed_or_left(world: World) -> None:
    """A delivery whose claim another took meanwhile is not sent by us."""
    receiver = Receiver()
    async with served(receiver) as url, opened(world) as dispatcher:
        endpoint = await world.endpoint(await world.tenant(), url)
        ours, body = await owed(world, endpoint)
        late = msgspec.structs.replace(ours, due_at=clock.millis())
        dispatcher.hand_over(late, body)
        await until(came_to(world, ours, DeliveryState.DELIVERED))
        theirs, body = await owed(world, endpoint)
        taken = claimed(theirs, clock.millis())
        assert await world.aws.run(deliveries.move_delivery(theirs.tenant_id, theirs, taken))
        dispatcher.hand_over(msgspec.structs.replace(theirs, due_at=clock.millis()), body)
        await asyncio.sleep(0.2)
    assert len(receiver.requests) == 1
    assert await row(world, theirs) == taken


async def test_a_secret_that_cannot_be_read_follows_the_schedule(world: World) -> None:
    """Else the delivery would be claimed anew every minute, for ever, and nobody told why."""
    tenant_id = await world.tenant()
    good = await world.endpoint(tenant_id, "http://127.0.0.1:1/")
    endpoint = msgspec.structs.replace(good, sealed_secret=b"\0" * 64)
    await world.aws.run(webhooks.replace_endpoint(tenant_id, good, endpoint))
    async with opened(world) as dispatcher:
        delivery, body = await owed(world, endpoint)
        dispatcher.hand_over(delivery, body)
        await until(came_to(world, delivery, DeliveryState.WAITING))
    found = await row(world, delivery)
    assert found.last_error == "secret_unreadable"
    assert found.due_at is not None
    assert found.due_at > clock.millis()


async def test_the_log_says_what_was_sent_and_answered_without_a_secret(world: World) -> None:
    """Headers and the beginning of the answer are there; what signs is masked."""
    receiver = Receiver([response(422, "x-reason: taste", body=b"no thanks")])
    async with served(receiver) as url, opened(world) as dispatcher:
        endpoint = await world.endpoint(await world.tenant(), url)
        delivery, body = await owed(world, endpoint)
        dispatcher.hand_over(delivery, body)
        await until(came_to(world, delivery, DeliveryState.WAITING))
    (attempt,) = await log_of(world, delivery)
    assert (attempt.status, attempt.error, attempt.url) == (422, "http_422", url)
    assert attempt.request_headers["webhook-id"] == delivery.event_id
    assert attempt.request_headers["webhook-signature"] == MASK
    assert attempt.phases is not None
    assert attempt.phases.total > 0


async def test_an_attempt_that_was_lost_is_in_the_log(world: World) -> None:
    """A claim that lapsed counts as an attempt, and the log says that its end is not known."""
    time = Clock()
    receiver = Receiver()
    async with served(receiver) as url, opened(world, time) as dispatcher:
        endpoint = await world.endpoint(await world.tenant(), url)
        delivery, _ = await owed(world, endpoint)
        time.ahead = CLAIM + due_module.GRACE
        await dispatcher.sweep()
        await until(came_to(world, delivery, DeliveryState.DELIVERED))
        assert (await row(world, delivery)).attempt == 2
    attempts = await log_of(world, delivery)
    assert [each.outcome for each in attempts] == [Outcome.INTERRUPTED, Outcome.DELIVERED]


async def test_what_is_paused_is_held_and_comes_when_it_is_resumed(world: World) -> None:
    """No attempt is made or counted meanwhile, however the delivery came."""
    time = Clock()
    receiver = Receiver()
    async with served(receiver) as url, opened(world, time) as dispatcher:
        endpoint = await world.endpoint(await world.tenant(), url)
        paused = msgspec.structs.replace(endpoint, status=EndpointStatus.PAUSED)
        assert await world.aws.run(webhooks.replace_endpoint(endpoint.tenant_id, endpoint, paused))
        in_hand, body = await owed(world, endpoint)
        dispatcher.hand_over(in_hand, body)
        due, _ = await owed(world, endpoint, claim=False)
        time.ahead = 2 * due_module.GRACE
        await dispatcher.sweep()
        for delivery in (in_hand, due):
            await until(came_to(world, delivery, DeliveryState.HELD))
            held = await row(world, delivery)
            assert (held.attempt, held.held_by) == (0, HeldBy.ENDPOINT_PAUSED)
        seen = msgspec.structs.replace(paused, version=1)
        assert await world.aws.run(webhooks.replace_endpoint(endpoint.tenant_id, seen, endpoint))
        await asyncio.sleep(1.1)  # how long endpoints are remembered
        time.ahead += clock.HOUR
        await dispatcher.sweep()
        for delivery in (in_hand, due):
            await until(came_to(world, delivery, DeliveryState.DELIVERED))
    assert len(receiver.requests) == 2


async def test_what_was_tried_for_the_last_time_is_told_to_the_tenants_other_endpoints(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never to the one it is about; and nothing is told of what becomes of the telling."""
    monkeypatch.setattr("gateway.delivery.SCHEDULE", (0,))
    bad, good = Receiver([response(500)]), Receiver([response(500)])
    async with served(bad) as bad_url, served(good) as good_url, opened(world) as dispatcher:
        tenant_id = await world.tenant()
        endpoint = await world.endpoint(tenant_id, bad_url)
        await world.endpoint(tenant_id, good_url, ("delivery.*",))
        delivery, body = await owed(world, endpoint)
        dispatcher.hand_over(delivery, body)
        await until(came_to(world, delivery, DeliveryState.GAVE_UP))
        await until(lambda: len(good.requests) == 1)
        await until(lambda: dispatcher.sending == 0)
    told = json.loads(good.requests[0].body)
    assert told["type"] == "delivery.exhausted"
    assert told["data"]["event_id"] == delivery.event_id
    assert told["data"]["last_status"] == 500
    assert len(bad.requests) == 1
    listed = await world.aws.run(
        events.every_event(tenant_id, Range(limit=9), between=("evt_", "evt_z"))
    )
    assert sorted(each.type for each in listed.rows) == ["delivery.exhausted", "endpoint.test"]


async def test_a_test_is_attempted_once_even_at_a_disabled_endpoint(world: World) -> None:
    """It is how one finds out whether enabling it again makes sense."""
    receiver = Receiver([response(500)])
    async with served(receiver) as url, opened(world) as dispatcher:
        endpoint = await world.endpoint(await world.tenant(), url)
        disabled = msgspec.structs.replace(endpoint, status=EndpointStatus.DISABLED)
        await world.aws.run(webhooks.replace_endpoint(endpoint.tenant_id, endpoint, disabled))
        delivery, body = await owed(world, endpoint)
        trial = msgspec.structs.replace(delivery, trigger=Trigger.TEST)
        dispatcher.hand_over(trial, body)
        await until(came_to(world, delivery, DeliveryState.GAVE_UP))
    assert len(receiver.requests) == 1
    (attempt,) = await log_of(world, delivery)
    assert (attempt.trigger, attempt.outcome) == (Trigger.TEST, Outcome.GAVE_UP)


async def endpoint_row(world: World, endpoint: Endpoint) -> Endpoint:
    row = await world.aws.run(webhooks.read_endpoint(endpoint.tenant_id, endpoint.id))
    assert row is not None
    return row


async def test_an_endpoint_that_keeps_failing_is_left_alone_and_probed_once(world: World) -> None:
    """What it is owed is held, its tenant told; after the rest two gateways make one attempt."""
    time = Clock()
    bad, other = Receiver([response(500)]), Receiver()
    async with (
        served(bad) as bad_url,
        served(other) as other_url,
        opened(world, time) as one,
        opened(world, time) as two,
    ):
        tenant_id = await world.tenant()
        endpoint = await world.endpoint(tenant_id, bad_url)
        await world.endpoint(tenant_id, other_url, ("endpoint.*",))
        owing = [await owed(world, endpoint) for _ in range(24)]
        for delivery in owing:
            one.hand_over(*delivery)
        await until(lambda: len(other.requests) == 1)
        await until(lambda: one.waiting + one.sending == 0)
        told = json.loads(other.requests[0].body)
        assert (told["type"], told["data"]["endpoint_id"]) == ("endpoint.failing", endpoint.id)
        made = len(bad.requests)
        assert made < 24
        health = (await endpoint_row(world, endpoint)).health
        assert (health.opened, health.failing_since is None) == (1, False)
        born = one.born(
            (await owed(world, endpoint, claim=False))[0], await endpoint_row(world, endpoint)
        )
        assert (born.state, born.held_by) == (DeliveryState.HELD, HeldBy.ENDPOINT_RESTING)
        # What failed is tried again by its schedule, which does not run while the endpoint rests.
        time.ahead = 40 * clock.SECOND
        await one.sweep()
        await until(lambda: one.waiting + one.sending == 0)
        assert len(bad.requests) == made

        time.ahead = (health.open_until or 0) - clock.millis() + 2 * clock.MINUTE
        await asyncio.sleep(1.1)  # how long endpoints are remembered
        await asyncio.gather(one.sweep(), two.sweep())
        await until(lambda: one.waiting + one.sending + two.waiting + two.sending == 0)
        assert len(bad.requests) == made + 1
        assert (await endpoint_row(world, endpoint)).health.opened == 2

        bad.answers = [response(204)]
        health = (await endpoint_row(world, endpoint)).health
        await asyncio.sleep(1.1)
        for _ in range(12):
            time.ahead += 10 * clock.MINUTE
            await asyncio.gather(one.sweep(), two.sweep())
            await until(lambda: one.waiting + one.sending + two.waiting + two.sending == 0)
        for delivery, _ in owing:
            await until(came_to(world, delivery, DeliveryState.DELIVERED))
        assert (await endpoint_row(world, endpoint)).health == Health()
        await until(lambda: len(other.requests) == 2)
        release = recoveries.read(tenant_id, endpoint.id, ids.resuming(endpoint.id))
        assert await world.aws.run(release) is not None
    assert json.loads(other.requests[1].body)["type"] == "endpoint.recovered"


async def test_what_kept_failing_for_five_days_is_disabled(world: World) -> None:
    """With a warning at half the time; what was on its way is given up, and its tenant told."""
    time = Clock()
    bad, other = Receiver([response(503)]), Receiver()
    async with served(bad) as bad_url, served(other) as other_url, opened(world, time) as gateway:
        tenant_id = await world.tenant()
        endpoint = await world.endpoint(tenant_id, bad_url)
        await world.endpoint(tenant_id, other_url, ("endpoint.*",))
        for _ in range(30):
            delivery, body = await owed(world, endpoint)
            gateway.hand_over(msgspec.structs.replace(delivery, due_at=time() + CLAIM), body)
            await until(lambda: gateway.waiting + gateway.sending == 0)
            gateway._directory.forget(tenant_id)  # pyright: ignore[reportPrivateUsage] - not a second's wait each time
            time.ahead += 5 * clock.HOUR
            if (await endpoint_row(world, endpoint)).status is EndpointStatus.DISABLED:
                break
        row_now = await endpoint_row(world, endpoint)
        assert row_now.status is EndpointStatus.DISABLED
        assert row_now.health.failures >= 20
        await until(lambda: len(other.requests) == 3)
    kinds = [json.loads(request.body)["type"] for request in other.requests]
    assert kinds == ["endpoint.failing"] * 2 + ["endpoint.disabled"]


@pytest.mark.parametrize("trigger", [Trigger.EVENT, Trigger.TEST])
async def test_what_is_interrupted_each_time_ends(
    world: World, monkeypatch: pytest.MonkeyPatch, trigger: Trigger
) -> None:
    """It may be what kills the gateways: they have as many attempts at it as the schedule."""
    monkeypatch.setattr("gateway.delivery.SCHEDULE", (0, 0))
    time, good = Clock(), Receiver()
    async with served(good) as good_url, opened(world, time) as dispatcher:
        tenant_id = await world.tenant()
        endpoint = await world.endpoint(tenant_id, "http://127.0.0.1:1/")
        await world.endpoint(tenant_id, good_url, ("delivery.*",))
        first, _ = await owed(world, endpoint)
        attempts = 1 if trigger is Trigger.TEST else 2
        lost = msgspec.structs.replace(
            first, trigger=trigger, attempt=attempts + 3, scheduled_from=3
        )
        assert await world.aws.run(deliveries.move_delivery(tenant_id, first, lost))
        time.ahead = CLAIM + due_module.GRACE
        await dispatcher.sweep()
        ended = await row(world, lost)
        assert (ended.state, ended.last_error) == (DeliveryState.GAVE_UP, "interrupted")
        assert ended.attempt == lost.attempt
        await until(lambda: dispatcher.waiting + dispatcher.sending == 0)
    assert [each.number for each in await log_of(world, lost)] == [lost.attempt]
    assert len(good.requests) == (0 if trigger is Trigger.TEST else 1)


async def test_one_that_cannot_be_looked_at_does_not_stop_the_sweeper(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever is wrong with one tenant's rows, the others' deliveries are found."""
    time, receiver = Clock(), Receiver()
    async with served(receiver) as url, opened(world, time) as dispatcher:
        broken = await world.endpoint(await world.tenant(), url)
        key = keys.endpoint(broken.tenant_id, broken.id)
        assert await world.aws.run(update(key, setting({"status": "?"})).alone())
        for _ in range(20):  # some in each part of the index, the first one too
            await owed(world, broken, claim=False)
        sound = await world.endpoint(await world.tenant(), url)
        owing = [await owed(world, sound, claim=False) for _ in range(20)]
        time.ahead = 2 * due_module.GRACE
        await dispatcher.sweep()
        for delivery, _ in owing:
            await until(came_to(world, delivery, DeliveryState.DELIVERED))
    assert len(receiver.requests) == 20
    assert "sweep.failed" in caplog.messages


async def test_what_is_given_up_unattempted_is_told_of_as_that(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """It is no attempt, so the figures of attempts and their delay know nothing of it."""
    caplog.set_level(logging.DEBUG)
    time = Clock()
    async with opened(world, time) as dispatcher:
        endpoint = await world.endpoint(await world.tenant(), "http://127.0.0.1:1/")
        disabled = msgspec.structs.replace(endpoint, status=EndpointStatus.DISABLED)
        await world.aws.run(webhooks.replace_endpoint(endpoint.tenant_id, endpoint, disabled))
        in_hand, body = await owed(world, endpoint)
        due, _ = await owed(world, endpoint, claim=False)
        dispatcher.hand_over(in_hand, body)
        time.ahead = 2 * due_module.GRACE
        await dispatcher.sweep()
        for delivery in (in_hand, due):
            await until(came_to(world, delivery, DeliveryState.GAVE_UP))
            assert (await row(world, delivery)).attempt == 0
    assert caplog.messages.count("delivery.given_up") == 2
    assert "delivery.attempted" not in caplog.messages


class Flaky:
    """The way to AWS, on which the next request that fits is lost."""

    def __init__(self, aws: Aws, fits: Callable[[Op[Any]], bool]) -> None:
        self._run, self._fits = aws.run, fits
        self.lost = 0
        self.left = 0

    async def __call__(self, op: Op[Any]) -> Any:
        if self.left and self._fits(op):
            self.left -= 1
            self.lost += 1
            raise Unavailable(op.service, op.action, "test")
        return await self._run(op)


async def test_a_lost_request_does_not_keep_what_was_held(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The release of an endpoint that answers again begins, if not at once."""
    flaky = Flaky(world.aws, lambda op: "RECOVERY#" in repr(op.params(world.settings)))
    flaky.left = 1
    monkeypatch.setattr(world.aws, "run", flaky)
    async with served(Receiver()) as url, opened(world) as dispatcher:
        sound = await world.endpoint(await world.tenant(), url)
        resting = msgspec.structs.replace(sound, health=Health(opened=1, open_until=1))
        assert await world.aws.run(webhooks.replace_endpoint(sound.tenant_id, sound, resting))
        dispatcher.hand_over(*await owed(world, sound))
        await until(lambda: flaky.lost == 1)
        await until(lambda: dispatcher.waiting + dispatcher.sending == 0)
        job = recoveries.read(sound.tenant_id, sound.id, ids.resuming(sound.id))
        assert await world.aws.run(job) is not None


async def test_a_lost_request_after_the_last_attempt_costs_no_further_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whom to tell of it is asked again with the rest: the receiver has had its last request."""
    monkeypatch.setattr("gateway.delivery.SCHEDULE", (0,))
    flaky = Flaky(world.aws, lambda op: op.action == "query")
    monkeypatch.setattr(world.aws, "run", flaky)
    bad, good = Receiver([response(500)], pause=0.2), Receiver()
    async with served(bad) as bad_url, served(good) as good_url, opened(world) as dispatcher:
        tenant_id = await world.tenant()
        endpoint = await world.endpoint(tenant_id, bad_url)
        await world.endpoint(tenant_id, good_url, ("delivery.*",))
        delivery, body = await owed(world, endpoint)
        await asyncio.sleep(0.2)  # let the first sweep pass
        dispatcher.hand_over(delivery, body)
        await until(lambda: bad.busy == 1)
        flaky.left = 1
        await until(came_to(world, delivery, DeliveryState.GAVE_UP))
        await until(lambda: len(good.requests) == 1)
    assert flaky.lost == 1
    assert len(await log_of(world, delivery)) == len(bad.requests) == 1


async def test_what_cannot_be_held_does_not_keep_a_result_from_being_written(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attempt that opened the breaker was made: the log says so, whatever becomes of others."""
    run = world.aws.run

    async def refusing(op: Op[Any]) -> Any:
        if repr({"state": {"S": "held"}})[1:-1] in repr(op.params(world.settings)):
            raise ValueError("the table does not take it")
        return await run(op)

    monkeypatch.setattr(world.aws, "run", refusing)
    bad = Receiver([response(500)])
    async with served(bad) as url, opened(world, limits=Limits(endpoint_slots=1)) as dispatcher:
        endpoint = await world.endpoint(await world.tenant(), url)
        owing = [await owed(world, endpoint) for _ in range(9)]
        for delivery in owing:
            dispatcher.hand_over(*delivery)
        await until(lambda: dispatcher.waiting + dispatcher.sending == 0)
        logs = [await log_of(world, delivery) for delivery, _ in owing]
    assert sum(map(len, logs)) == len(bad.requests) < 9


async def test_what_waits_is_given_back_as_soon_as_it_is_known_that_the_gateway_stops(
    world: World,
) -> None:
    """And what is claimed or handed over from then on: hosts may take long to stop."""
    receiver = Receiver(pause=1.5)
    async with (
        served(receiver) as url,
        opened(world, limits=Limits(endpoint_slots=1)) as dispatcher,
    ):
        endpoint = await world.endpoint(await world.tenant(), url)
        first, second, third = [await owed(world, endpoint) for _ in range(3)]
        dispatcher.hand_over(*first)
        dispatcher.hand_over(*second)
        await until(lambda: receiver.busy == 1)
        dispatcher.stop_taking()
        dispatcher.hand_over(*third)
        for delivery, _ in (second, third):
            await until(came_to(world, delivery, DeliveryState.WAITING))
            assert (await row(world, delivery)).attempt == 0
        assert receiver.busy == 1
    assert (await row(world, first[0])).state is DeliveryState.DELIVERED
    assert len(receiver.requests) == 1


async def test_what_a_dead_gateway_had_claimed_is_inherited(world: World) -> None:
    """Long before its claims lapse, and nobody else's with it; that it was begun is in the log."""
    dead, alive = (WorkerId(clock.mint(ids.WORKER)) for _ in range(2))
    receiver = Receiver()
    async with served(receiver) as url:
        endpoint = await world.endpoint(await world.tenant(), url)
        left = [(await owed(world, endpoint, by=dead))[0] for _ in range(3)]
        theirs, _ = await owed(world, endpoint, by=alive)
        async with opened(world) as dispatcher:
            dispatcher.inherit(dead)
            dispatcher.inherit(dead)
            for delivery in left:
                await until(came_to(world, delivery, DeliveryState.DELIVERED))
                first, second = sorted(await log_of(world, delivery), key=lambda each: each.number)
                assert (first.outcome, second.outcome) == (Outcome.INTERRUPTED, Outcome.DELIVERED)
                assert (await row(world, delivery)).claimed_by is None
    assert len(receiver.requests) == len(left)
    assert await row(world, theirs) == theirs


async def test_others_are_told_of_what_a_stopping_gateway_leaves(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it gives back, and what happens while it stops: they need not come upon it."""
    monkeypatch.setattr(due_module, "GRACE", clock.HOUR)
    receiver = Receiver(pause=0.5)
    async with served(receiver) as url:
        endpoint = await world.endpoint(await world.tenant(), url)
        first, second = await owed(world, endpoint), await owed(world, endpoint)
        async with opened(world, limits=Limits(endpoint_slots=1)) as dispatcher:
            dispatcher.hand_over(*first)
            dispatcher.hand_over(*second)
            await until(lambda: receiver.busy == 1)
            dispatcher.stop_taking()
            third, body = await owed(world, endpoint, claim=False)
            assert dispatcher.born(third, endpoint) == third
            dispatcher.hand_over(third, body)
        async with opened(world):
            for delivery in (second[0], third):
                await until(came_to(world, delivery, DeliveryState.DELIVERED))
    assert len(receiver.requests) == 3
