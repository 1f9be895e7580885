"""A running product for the journeys: real planes, real neonize, the sandbox's network.

`product` is shared by the tests that only use it; a test that stops, kills or starves a part of it
takes `own_product`.
"""

import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from sandbox import story
from sandbox.api import Api, connect
from sandbox.aws import EmbeddedAws, StackEnvironment
from sandbox.network import Network, run_network
from sandbox.processes import Plane
from sandbox.receiver import Receiver, run_receiver
from sandbox.stack import development, run_api, run_gateway
from sandbox.whatsapp.control_client import ControlClient
from shared.keyring import Keyring
from tests.schemas import Judge, judged

FreshStack = Callable[..., StackEnvironment]

_numbers = itertools.count(100)


def some_number() -> str:
    """A phone number no other test uses."""
    return f"+491511{next(_numbers):07d}"


@dataclass
class Product:
    """Tables, a network and a control plane; gateways are started by whoever needs them."""

    home: Path
    devices: Path
    aws: EmbeddedAws
    tables: StackEnvironment
    network: Network
    api: Plane
    operator: Api = field(repr=False)
    people: ControlClient = field(repr=False)
    environment: Mapping[str, str] = field(repr=False)

    @asynccontextmanager
    async def gateway(
        self, devices: Path | str | None = None, **environment: str
    ) -> AsyncGenerator[Plane]:
        """A gateway, on another device store if one is named."""
        told = {**self.environment, **environment}
        async with run_gateway(self.home, told, self.network, devices or self.devices) as plane:
            yield plane

    async def tenant(self, name: str = "Journey") -> tuple[str, Api]:
        """A tenant's id and its API."""
        tenant: Any = await self.operator.ok("POST", "/v1/tenants", {"name": name})
        path = f"/v1/tenants/{tenant['id']}/keys"
        key: Any = await self.operator.ok("POST", path, {"name": "journey"})
        return tenant["id"], self.operator.with_key(key["key"])

    @asynccontextmanager
    async def cast(self) -> AsyncGenerator[story.Cast]:
        """A new tenant with a receiver, and two new people on WhatsApp.

        At the end, everything that was received must fit its schema.
        """
        _, api = await self.tenant()
        # At the beginning: there are tests that delete the tenant.
        judge = await judge_of(api)
        async with run_receiver() as receiver:
            cast = story.Cast(api, self.people, receiver, some_number(), some_number())
            await story.listen(cast)
            await story.meet(cast)
            yield cast
            fit(judge, receiver)

    @asynccontextmanager
    async def connected(self) -> AsyncGenerator[story.Cast]:
        """The same, with a session linked by code. It is deleted at the end."""
        async with self.cast() as cast:
            await story.open_session(cast, "code")
            await story.link(cast, "code")
            yield cast
            await cast.api.ok("DELETE", cast.session)

    def dead_commands(self) -> list[str]:
        """What is parked on the commands' dead-letter queue."""
        sqs = self.aws.client("sqs")
        url = sqs.get_queue_url(
            QueueName=self.tables.environment["ZAPGATE_COMMAND_QUEUE_URL"]
            .rsplit("/", 1)[1]
            .replace("{shard}", "dead")
        )["QueueUrl"]
        answer = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=0)
        return [message["Body"] for message in answer.get("Messages", [])]

    def rows(self, needle: str) -> list[dict[str, Any]]:
        """Every row of the table that mentions `needle` in its key."""
        table = self.tables.environment["ZAPGATE_TABLE"]
        pages = self.aws.client("dynamodb").get_paginator("scan").paginate(TableName=table)
        return [
            item
            for page in pages
            for item in page["Items"]
            if needle in item["PK"]["S"] or needle in item["SK"]["S"]
        ]


async def judge_of(api: Api) -> Judge:
    """Who holds events against the schemas that the API tells."""
    return Judge(await api.ok("GET", "/v1/event-types"))


def fit(judge: Judge, receiver: Receiver) -> None:
    """What was received fits its schemas."""
    received = [each.event for each in receiver.seen]
    judged.update(event["type"] for event in received)
    assert [fault for event in received for fault in judge.faults(event)] == []


@pytest_asyncio.fixture(scope="session")
async def network(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Network]:
    """One WhatsApp for all journeys."""
    async with run_network(tmp_path_factory.mktemp("whatsapp")) as running:
        yield running


@asynccontextmanager
async def _product(
    aws: EmbeddedAws, network: Network, fresh_stack: FreshStack, home: Path
) -> AsyncGenerator[Product]:
    tables = fresh_stack(Shards="4")
    environment = {
        **tables.environment,
        **development(),
        "ZAPGATE_LEASE_SECONDS": "3",
        "ZAPGATE_RATE_LIMIT": "100000",
    }
    async with AsyncExitStack() as rest:
        api = await rest.enter_async_context(run_api(home, environment))
        key = Keyring.parse(tables.environment["ZAPGATE_SECRET"]).operator_keys[0]
        yield Product(
            home=home,
            devices=home / "devices",
            aws=aws,
            tables=tables,
            network=network,
            api=api,
            operator=await rest.enter_async_context(connect(api.url, key)),
            people=await rest.enter_async_context(ControlClient(network.control_url)),
            environment=environment,
        )


@pytest_asyncio.fixture(scope="session")
async def product(
    aws: EmbeddedAws,
    network: Network,
    fresh_stack: FreshStack,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Product]:
    """The shared product, with a gateway."""
    home = tmp_path_factory.mktemp("product")
    async with _product(aws, network, fresh_stack, home) as running, running.gateway():
        yield running


@pytest_asyncio.fixture
async def own_product(
    aws: EmbeddedAws, network: Network, fresh_stack: FreshStack, tmp_path: Path
) -> AsyncIterator[Product]:
    """A product of the test's own, without a gateway: the test starts and ends them."""
    async with _product(aws, network, fresh_stack, tmp_path) as running:
        yield running


def children(pid: int) -> list[int]:
    """The processes a process has forked, by any of its threads."""
    found = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(each) for path in found for each in path.read_text().split()]


def family_of(pid: int) -> list[int]:
    """Every process below one."""
    return [each for child in children(pid) for each in (child, *family_of(child))]
