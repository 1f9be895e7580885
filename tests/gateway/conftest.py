"""A gateway's parts on the embedded AWS: each test has a table and queues of its own.

neonize's protobuf modules are there without its library, as a host has them before it connects.
"""

import copy
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from typing import cast

import msgspec
import pytest
import pytest_asyncio

from gateway.aws import Aws
from gateway.zygote import protobufs
from sandbox.aws import EmbeddedAws, StackEnvironment
from shared import clock, ids
from shared.env import Settings, settings
from shared.ids import EndpointId, SessionId, TenantId
from shared.keyring import Keyring
from shared.sealing import NONCE_BYTES, seal
from shared.session import Desired, Session, SessionState
from shared.signing import SECRET_BYTES, webhook_secret
from shared.store import sessions, tenants, webhooks
from shared.tenant import Tenant, TenantStatus
from shared.webhook import Endpoint, EndpointStatus

protobufs()

FreshStack = Callable[..., StackEnvironment]


@pytest.fixture(scope="session")
def aws_environment(aws: EmbeddedAws) -> Iterator[None]:
    """Where botocore finds the embedded AWS."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in aws.environment.items():
            patch.setenv(name, value)
        yield


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def clients(aws_environment: None) -> AsyncIterator[Aws]:
    """The clients, made once: it takes longer than most tests."""
    async with Aws(Settings(shards=64)) as running:
        yield running


@pytest.fixture
def own(fresh_stack: FreshStack) -> Settings:
    """A gateway's settings for a stack of one shard."""
    return msgspec.structs.replace(
        settings(fresh_stack(Shards="1").environment), webhook_targets="loopback"
    )


@pytest.fixture
def keyring(own: Settings) -> Keyring:
    return Keyring.parse(own.secret)


class World:
    """What a control plane would have put into the table."""

    def __init__(self, clients: Aws, own: Settings, keyring: Keyring) -> None:
        self.aws = copy.copy(clients)
        self.aws.places = own
        self.settings = own
        self.keyring = keyring
        self.secrets: dict[EndpointId, str] = {}

    def requests(self) -> int:
        """HTTP requests to AWS so far."""
        return self.aws.requests.total()

    async def tenant(self, status: TenantStatus = TenantStatus.ACTIVE) -> TenantId:
        tenant_id = TenantId(clock.mint(ids.TENANT))
        row = Tenant(id=tenant_id, name="A tenant", status=status, created_at=clock.millis())
        assert await self.aws.run(tenants.create(tenant_id, row))
        return tenant_id

    async def session(
        self,
        tenant_id: TenantId,
        *,
        state: SessionState = SessionState.CONNECTED,
        desired: Desired = Desired.RUNNING,
        epoch: int = 0,
        shard: int = 0,
    ) -> Session:
        now = clock.millis()
        session = Session(
            id=SessionId(clock.mint(ids.SESSION)),
            tenant_id=tenant_id,
            name="A session",
            shard=shard,
            state=state,
            desired=desired,
            created_at=now,
            updated_at=now,
            epoch=epoch,
        )
        assert await self.aws.run(sessions.create(tenant_id, session))
        return session

    async def endpoint(
        self, tenant_id: TenantId, url: str, events: tuple[str, ...] = ("*",)
    ) -> Endpoint:
        secret = webhook_secret(secrets.token_bytes(SECRET_BYTES))
        endpoint_id = EndpointId(clock.mint(ids.ENDPOINT))
        endpoint = Endpoint(
            id=endpoint_id,
            tenant_id=tenant_id,
            url=url,
            events=events,
            sealed_secret=b"",
            status=EndpointStatus.ENABLED,
            created_at=clock.millis(),
            updated_at=clock.millis(),
        )
        sealed = seal(self.keyring.seals, endpoint.owner, secret, secrets.token_bytes(NONCE_BYTES))
        endpoint = msgspec.structs.replace(endpoint, sealed_secret=sealed)
        made = await self.aws.run(webhooks.create_endpoint(tenant_id, endpoint))
        assert made is tenants.Making.MADE
        self.secrets[endpoint_id] = secret
        return endpoint

    async def read_session(self, session: Session) -> Session:
        row = await self.aws.run(sessions.read(session.tenant_id, session.id))
        return cast("Session", row)


@pytest.fixture
async def world(clients: Aws, own: Settings, keyring: Keyring) -> World:
    return World(clients, own, keyring)
