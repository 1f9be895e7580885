"""Requests as they go out: our own encoding of them beside botocore's."""

import asyncio
from typing import Any

import msgspec
import pytest
from botocore.serialize import create_serializer  # pyright: ignore[reportUnknownVariableType] (botocore has no types)
from botocore.session import Session as Botocore

from gateway import aws as aws_module
from gateway.aws import AGENT, Aws, Plain
from shared import clock, queue
from shared.aws import Op
from shared.delivery import Delivery, DeliveryState
from shared.env import Places
from shared.errors import Unavailable
from shared.ids import CommandId, EndpointId, EventId, SessionId, TenantId, WorkerId
from shared.message import MessageStatus
from shared.store import deliveries, dynamo, events, leases, limits, messages, webhooks
from shared.store.messages import Progress
from tests.gateway.conftest import World
from tests.gateway.waiting import until

PLACES = Places(command_queue_url="https://q/{shard}.fifo", delivery_queue_url="https://q/d")
TENANT, SESSION, ENDPOINT = TenantId("ten_1"), SessionId("ses_1"), EndpointId("ep_1")
EVENT = events.StoredEvent(
    id=EventId("evt_1"),
    tenant_id=TENANT,
    type="a.b",
    created_at=1,
    recorded_at=1,
    body='{"text":"hällo 🙂"}',
)
DELIVERY = Delivery(
    tenant_id=TENANT,
    endpoint_id=ENDPOINT,
    event_id=EVENT.id,
    event_type="a.b",
    state=DeliveryState.SENDING,
    attempt=1,
    created_at=1,
    updated_at=1,
    due_at=2,
)
LEASE = leases.Lease(shard=1, epoch=1, stamp="s", owner=WorkerId("gw_1"))
STEP = Progress(status=MessageStatus.SENT, at=1)


@pytest.mark.parametrize(
    "op",
    [
        events.read_event(TENANT, EVENT.id),
        events.record_event(TENANT, EVENT).alone(),
        dynamo.put(
            {"PK": {"S": "a"}, "SK": {"S": "b"}, "sealed": {"B": bytes(range(256))}}
        ).alone(),
        dynamo.transact(
            [
                events.record_event(TENANT, EVENT),
                deliveries.record_delivery(TENANT, DELIVERY),
                messages.advance(TENANT, SESSION, messages.MessageId("msg_1"), STEP),
            ]
        ),
        dynamo.erase([("a", "b"), ("a", "c")]),
        deliveries.move_delivery(TENANT, DELIVERY, DELIVERY),
        deliveries.due_deliveries(1, 2, 3),
        webhooks.every_endpoint(TENANT, dynamo.Range(9, {"PK": "a", "SK": "b"})),
        limits.take(TENANT, 1, 1),
        leases.resign(LEASE, "t"),
        queue.send_command(3, SESSION, CommandId("cmd_1"), "text"),
        queue.park("text", "reason", "group"),
        queue.send_delivery(TENANT, "body", 5),
        queue.receive("https://q/d", 20, visibility=30),
        queue.settle("https://q/d", ["one", "two"]),
        queue.hold("https://q/d", ["one", "two"], 5),
    ],
    ids=[
        *("get", "put an event", "put bytes", "transact", "erase", "move", "due", "list", "count"),
        *("resign", "command", "park", "wake", "receive", "settle", "hold"),
    ],
)
def test_our_bodies_say_what_botocores_say(op: Op[Any]) -> None:
    """Parameters, written as they are, are the JSON that botocore's model makes of them."""
    session: Any = Botocore()
    model = session.get_service_model(op.service)
    operation = model.operation_model("".join(word.capitalize() for word in op.action.split("_")))
    theirs: Any = create_serializer(model.metadata["protocol"])
    requests = [
        each.serialize_to_request(op.params(PLACES), operation) for each in (Plain(), theirs)
    ]
    bodies = [msgspec.json.decode(request.pop("body")) for request in requests]
    assert bodies[0] == bodies[1]
    assert requests[0] == requests[1]


async def test_requests_are_ours_by_name(world: World) -> None:
    """AWS is told who asks, in the words we chose."""
    agents: list[bytes] = []

    def note(request: Any, **_: object) -> None:
        agents.append(request.headers["User-Agent"])

    async with Aws(world.settings) as aws:
        aws._clients["dynamodb"].meta.events.register("before-send", note)  # pyright: ignore[reportPrivateUsage] (a test may look inside)
        await aws.run(events.read_event(TENANT, EVENT.id))
    assert [agent.split()[0] for agent in agents] == [AGENT.encode()]


@pytest.mark.parametrize("region", ["eu-west-1", "us-east-1", "us-gov-west-1", "cn-north-1"])
@pytest.mark.parametrize("service", ["dynamodb", "sqs"])
def test_a_service_is_where_its_rules_say(
    service: str, region: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address that is known once is the one botocore's rules would give each time."""
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    session: Any = Botocore()
    client = session.create_client(
        service, region_name=region, aws_access_key_id="id", aws_secret_access_key="key"
    )
    operation = {"dynamodb": "GetItem", "sqs": "SendMessage"}[service]
    ruled = client._ruleset_resolver.construct_endpoint(
        operation_model=client.meta.service_model.operation_model(operation),
        call_args={"TableName": "t", "Key": {}},
        request_context={},
    )
    assert ruled.url == client.meta.endpoint_url


async def test_a_request_that_hangs_in_the_client_is_cut_off(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the client waits for, it is an outage like others, and it is counted."""
    monkeypatch.setattr(aws_module, "HUNG_SECONDS", 2)

    async def hang(**_: object) -> None:
        await asyncio.Event().wait()

    async with Aws(world.settings) as aws:
        monkeypatch.setattr(aws._clients["dynamodb"], "get_item", hang)  # pyright: ignore[reportPrivateUsage] (a test may break it inside)
        with pytest.raises(Unavailable, match="hung"):
            await aws.run(events.read_event(TENANT, EVENT.id))
        assert aws.hung == {("dynamodb", "get_item"): 1}
        await aws.renew("dynamodb")
        assert await aws.run(events.read_event(TENANT, EVENT.id)) is None


async def test_new_connections_leave_what_is_under_way(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A poll that others wait for ends as it would have; the old connections go some time later."""
    url = world.settings.command_queue(0)
    async with Aws(world.settings) as aws:
        polling = asyncio.ensure_future(aws.run(queue.receive(url, 3)))
        await until(lambda: aws.requests["sqs", "ReceiveMessage"] == 1)
        await aws.renew("poll")
        await aws.run(queue.send_command(0, SESSION, CommandId("cmd_1"), "text"))
        (message,) = await polling
        assert message.body == "text"
        assert abs(clock.millis() - message.sent_at) < clock.MINUTE
        monkeypatch.setattr(aws_module, "POLL_HUNG_SECONDS", -1)
        await aws.renew("poll")
        assert aws._retired == []  # pyright: ignore[reportPrivateUsage] (likewise)
