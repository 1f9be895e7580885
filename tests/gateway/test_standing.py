"""What answers make of endpoints' rows, on a real table."""

import msgspec

from gateway.breaker import Ordinary, Probe, Test
from gateway.delivery import Answer, Held, Result
from gateway.directory import Directory
from gateway.standing import Standing
from shared import clock
from shared.delivery import Delivery, DeliveryState, Trigger
from shared.ids import EventId
from shared.store import webhooks
from shared.webhook import Endpoint, EndpointStatus, Health
from tests.gateway.conftest import World


class Nobody:
    """Attempts nothing: notices stay as they were born."""

    def born(self, delivery: Delivery, endpoint: Endpoint) -> Delivery:
        return delivery

    def hand_over(self, delivery: Delivery, body: bytes) -> None:
        raise AssertionError("nothing was born claimed")


def standing(world: World) -> Standing:
    directory = Directory(world.aws, world.keyring.seals, memory=1)
    return Standing(world.aws, directory, Nobody(), clock.millis)


def due(endpoint: Endpoint) -> Delivery:
    return Delivery(
        tenant_id=endpoint.tenant_id,
        endpoint_id=endpoint.id,
        event_id=EventId("evt_1"),
        event_type="message.sent",
        state=DeliveryState.SENDING,
        attempt=1,
        created_at=0,
        updated_at=0,
    )


async def read(world: World, endpoint: Endpoint) -> Endpoint:
    row = await world.aws.run(webhooks.read_endpoint(endpoint.tenant_id, endpoint.id))
    assert row is not None
    return row


async def changed(world: World, endpoint: Endpoint, **values: object) -> Endpoint:
    row = msgspec.structs.replace(endpoint, **values)
    assert await world.aws.run(webhooks.replace_endpoint(endpoint.tenant_id, endpoint, row))
    return await read(world, endpoint)


async def probed(world: World, opened: int, results: list[Result]) -> Endpoint:
    """An endpoint after these answers to probes by one gateway, each at the end of a rest."""
    gateway = standing(world)
    row = await world.endpoint(await world.tenant(), "http://127.0.0.1:1/")
    health = Health(opened=opened, failing_since=clock.millis(), warned=1)
    for result in results:
        health = msgspec.structs.replace(health, open_until=clock.millis())
        row = await changed(world, row, health=health)
        leave = await gateway.leave(row, due(row))
        assert isinstance(leave, Probe)
        await gateway.answered(row, leave, result)
        row = await read(world, row)
        health = row.health
    return row


async def test_each_probe_that_fails_lengthens_the_rest(world: World) -> None:
    """However short a time after the last failure it was made."""
    row = await probed(world, 1, [Answer(500)] * 3)
    assert row.health.opened == 4


async def test_a_probe_that_says_nothing_begins_the_same_rest_again(world: World) -> None:
    """A receiver that answers 429 to its probe is not asked every minute."""
    row = await probed(world, 7, [Answer(429)])
    assert row.health.opened == 7
    assert (row.health.open_until or 0) - clock.millis() > clock.HOUR // 2


async def test_what_a_probe_found_costs_one_write(world: World) -> None:
    """Beside the one that claimed it: the row is known to be as that left it."""
    gateway = standing(world)
    bare = await world.endpoint(await world.tenant(), "http://127.0.0.1:1/")
    row = await changed(world, bare, health=Health(opened=1, open_until=1, failing_since=1))
    before = world.requests()
    leave = await gateway.leave(row, due(row))
    assert not isinstance(leave, Held)
    turn = await gateway.answered(row, leave, Answer(204))
    assert turn.closed
    assert world.requests() == before + 2
    assert (await read(world, row)).health == Health()


async def test_a_tests_failure_changes_nothing(world: World) -> None:
    """Also where the endpoint had been failing for long: whoever mends it may try as often."""
    long_ago = clock.millis() - 6 * clock.DAY
    health = Health(failing_since=long_ago, failures=100, warned=3, opened=5, open_until=1)
    gateway = standing(world)
    bare = await world.endpoint(await world.tenant(), "http://127.0.0.1:1/")
    paused = await changed(world, bare, health=health, status=EndpointStatus.PAUSED)
    trial = msgspec.structs.replace(due(paused), trigger=Trigger.TEST)
    leave = await gateway.leave(paused, trial)
    assert leave == Test()
    for result in (Answer(500), Answer(410), Answer(429)):
        await gateway.answered(paused, Test(), result)
    assert await read(world, paused) == paused


async def test_an_ordinary_failure_after_five_days_disables(world: World) -> None:
    """Where a test's would not."""
    long_ago = clock.millis() - 6 * clock.DAY
    health = Health(failing_since=long_ago, failures=100, warned=3)
    gateway = standing(world)
    bare = await world.endpoint(await world.tenant(), "http://127.0.0.1:1/")
    failing = await changed(world, bare, health=health)
    await gateway.answered(failing, Ordinary(), Answer(500))
    assert (await read(world, failing)).status is EndpointStatus.DISABLED
