"""A gateway's way from a session's entries to its tenant's server, in one process.

Recorder, outbox, dispatcher and egress as `gateway.run` joins them, without leases, hosts and
commands; the tenants, endpoints and sessions are written as the control plane would.
"""

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, TypeVar

import msgspec

from gateway.aws import Aws
from gateway.directory import Directory
from gateway.dispatcher import Dispatcher
from gateway.egress import Egress
from gateway.frames import Entry
from gateway.metrics import Metrics
from gateway.outbox import Outbox
from gateway.recorder import Recorder
from sandbox.bench.counting import purpose_of
from shared import clock, ids
from shared.aws import Op
from shared.env import Settings
from shared.ids import EndpointId, SessionId, TenantId
from shared.keyring import Keyring
from shared.sealing import NONCE_BYTES, seal
from shared.session import Desired, Pairing, Session, SessionState
from shared.signing import SECRET_BYTES, webhook_secret
from shared.store import sessions, tenants, webhooks
from shared.tenant import Tenant, TenantStatus
from shared.webhook import Endpoint, EndpointStatus

T = TypeVar("T")

LOOK_SECONDS: Final = 0.002
"""How often a figure looks whether all is delivered."""


class CountingAws(Aws):
    """AWS, and what each request was for: polls and sweeps that bring nothing are idle."""

    def __init__(self, places: Settings) -> None:
        super().__init__(places)
        self.purposes: Counter[str] = Counter()

    async def run(self, op: Op[T]) -> T:
        answer = await super().run(op)
        name = purpose_of(op.service, op.action, op.params(self.places))
        if answer or not name.startswith(("ReceiveMessage", "Query Due")):
            self.purposes[name] += 1
        return answer


@dataclass
class Parts:
    """The parts, running, and what was put into the table for them."""

    settings: Settings
    aws: Aws
    outbox: Outbox
    dispatcher: Dispatcher
    keyring: Keyring
    tasks: asyncio.TaskGroup
    recorders: list[asyncio.Task[None]] = field(default_factory=list[asyncio.Task[None]])

    async def tenant(self, url: str, *, endpoints: int = 1) -> TenantId:
        """A new tenant whose endpoints want everything."""
        tenant_id = TenantId(clock.mint(ids.TENANT))
        row = Tenant(
            id=tenant_id, name="Bench", status=TenantStatus.ACTIVE, created_at=clock.millis()
        )
        await self.aws.run(tenants.create(tenant_id, row))
        for _ in range(endpoints):
            await self.endpoint(tenant_id, url)
        return tenant_id

    async def endpoint(self, tenant_id: TenantId, url: str) -> EndpointId:
        now = clock.millis()
        endpoint = Endpoint(
            id=EndpointId(clock.mint(ids.ENDPOINT)),
            tenant_id=tenant_id,
            url=url,
            events=("*",),
            sealed_secret=b"",
            status=EndpointStatus.ENABLED,
            created_at=now,
            updated_at=now,
        )
        secret = webhook_secret(secrets.token_bytes(SECRET_BYTES))
        nonce = secrets.token_bytes(NONCE_BYTES)
        sealed = seal(self.keyring.seals, endpoint.owner, secret, nonce)
        endpoint = msgspec.structs.replace(endpoint, sealed_secret=sealed)
        await self.aws.run(webhooks.create_endpoint(tenant_id, endpoint))
        return endpoint.id

    async def line(self, tenant_id: TenantId) -> Recorder:
        """A connected session of the tenant; what its recorder takes is recorded and delivered."""
        now = clock.millis()
        session = Session(
            id=SessionId(clock.mint(ids.SESSION)),
            tenant_id=tenant_id,
            name="Bench",
            shard=0,
            state=SessionState.CONNECTED,
            desired=Desired.RUNNING,
            created_at=now,
            updated_at=now,
            epoch=1,
        )
        await self.aws.run(sessions.create(tenant_id, session))
        recorder = Recorder(
            session, self.outbox.record, _no_offer, _no_aside, recorded=lambda _: None
        )
        self.recorders.append(self.tasks.create_task(recorder.record()))
        return recorder

    async def settled(self, recorders: Sequence[Recorder]) -> None:
        """Wait until all they took is recorded, and nothing waits or is under way."""
        for recorder in recorders:
            await recorder.idle.wait()
        while self.dispatcher.waiting or self.dispatcher.sending:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(LOOK_SECONDS)


@asynccontextmanager
async def run_parts(
    settings: Settings,
    aws: Aws,
    now: Callable[[], int] = clock.millis,
    dispatching: type[Dispatcher] = Dispatcher,
) -> AsyncGenerator[Parts]:
    """Join them as `gateway.run` does."""
    keyring = Keyring.parse(settings.secret)
    metrics = Metrics()
    async with aws, Egress(settings.webhook_targets) as egress, asyncio.TaskGroup() as tasks:
        directory = Directory(aws, keyring.seals, memory=settings.endpoint_memory)
        dispatcher = dispatching(
            places=settings, aws=aws, directory=directory, egress=egress, metrics=metrics, now=now
        )
        async with dispatcher:
            outbox = Outbox(
                aws=aws,
                directory=directory,
                deliverer=dispatcher,
                fenced=lambda _: None,
                metrics=metrics,
                now=now,
            )
            async with outbox:
                parts = Parts(settings, aws, outbox, dispatcher, keyring, tasks)
                try:
                    yield parts
                finally:
                    for task in parts.recorders:
                        task.cancel()


async def _no_offer(_: Session, __: Pairing) -> None:
    """Nobody pairs."""


async def _no_aside(_: Session, entry: Entry, error: Exception) -> None:
    """Nothing of the bench's is refused."""
    raise RuntimeError(f"{entry.event.id} was refused") from error
