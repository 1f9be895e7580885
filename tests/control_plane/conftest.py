"""The control plane over real HTTP, on a stack of its own; and a gateway's hand in the rows."""

import asyncio
import contextlib
import secrets
import socket
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, cast

import httpx
import pytest
import uvicorn
from litestar import Litestar

from control_plane.app import create_app
from control_plane.aws import Aws
from shared import apikey, clock, commands, env, ids, queue, tenant
from shared.commands import Command
from shared.delivery import Delivery, DeliveryState
from shared.env import Settings
from shared.ids import EndpointId, EventId, KeyId, SessionId, TenantId
from shared.keyring import Keyring
from shared.session import Pairing, Reason, SessionState, unlinked
from shared.store import deliveries as delivery_store
from shared.store import events as event_store
from shared.store import sessions, tenants
from shared.store.events import StoredEvent
from shared.store.sessions import Observation
from tests.conftest import FreshStack
from tests.control_plane.waiting import DEADLINE, until

NUMBER = "+4915112345678"


@dataclass
class Stage:
    """One served control plane."""

    app: Litestar
    url: str
    aws: Aws
    settings: Settings
    keyring: Keyring
    client: httpx.Client

    @property
    def operator(self) -> "Api":
        return Api(self, self.keyring.operator_keys[0])

    def tenant(self, rate_limit: int | None = None) -> "Tenant":
        """A tenant with a key that may do everything, put straight into the table."""
        now = clock.millis()
        tenant_id = TenantId(clock.mint(ids.TENANT))
        row = tenant.Tenant(
            id=tenant_id,
            name="Acme",
            status=tenant.TenantStatus.ACTIVE,
            created_at=now,
            rate_limit=rate_limit,
        )
        text = apikey.mint(secrets.token_bytes(apikey.RANDOM_BYTES))
        key = tenant.ApiKey(
            id=KeyId(clock.mint(ids.KEY)),
            tenant_id=tenant_id,
            name="first",
            hint=apikey.hint(text),
            digest=apikey.digest(self.keyring.peppers[0], text),
            scopes=tenant.ALL_SCOPES,
            created_at=now,
        )
        assert self.aws.run(tenants.create(tenant_id, row))
        assert self.aws.run(tenants.add_key(tenant_id, key, rate_limit)) is tenants.Making.MADE
        return Tenant(self, text, tenant_id, key.id)


@dataclass
class Api:
    """Somebody with a key."""

    stage: Stage
    key: str

    def ask(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        given = {"Authorization": f"Bearer {self.key}", **(headers or {})}
        if isinstance(body, bytes):
            return self.stage.client.request(method, path, content=body, headers=given)
        return self.stage.client.request(method, path, json=body, headers=given)

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self.ask("GET", path, None, headers)

    def post(self, path: str, body: Any = None, **headers: str) -> httpx.Response:
        return self.ask("POST", path, body, headers)

    def patch(self, path: str, body: Any = None, **headers: str) -> httpx.Response:
        return self.ask("PATCH", path, body, headers)

    def delete(self, path: str, **headers: str) -> httpx.Response:
        return self.ask("DELETE", path, None, headers)


@dataclass
class Tenant(Api):
    """A tenant, and what a gateway would do to its rows."""

    id: TenantId
    key_id: str
    epoch: int = field(default=1)

    def with_scopes(self, *scopes: str) -> Api:
        made = self.post("/v1/keys", {"name": "narrow", "scopes": list(scopes)})
        assert made.status_code == 201, made.text
        return Api(self.stage, made.json()["key"])

    def session(self, state: SessionState = SessionState.CREATED, **body: Any) -> str:
        made = self.post("/v1/sessions", {"name": "Shop", **body})
        assert made.status_code == 202, made.text
        session_id = str(made.json()["id"])
        if state is not SessionState.CREATED:
            self.observe(session_id, state)
        return session_id

    def observe(
        self,
        session_id: str,
        state: SessionState,
        reason: Reason | None = None,
        detail: str | None = None,
        until: int | None = None,
    ) -> None:
        at = clock.millis() + 1
        seen = Observation(
            state=state,
            at=at,
            epoch=self.epoch,
            reason=reason,
            detail=detail,
            until=until,
            connected_at=at if state is SessionState.CONNECTED else None,
            unlinked=unlinked(state, reason),
        )
        write = sessions.observe(self.id, SessionId(session_id), seen)
        assert self.stage.aws.run(write.alone())

    def offer(self, session_id: str, **fields: Any) -> Pairing:
        now = clock.millis()
        given: dict[str, Any] = {
            "qr": "2@abc,def,ghi",
            "qr_expires_at": now + clock.MINUTE,
            "attempt_expires_at": now + 3 * clock.MINUTE,
            **fields,
        }
        pairing = Pairing(**given)
        assert self.stage.aws.run(sessions.offer(self.id, SessionId(session_id), pairing))
        return pairing

    def happened(
        self,
        kind: str,
        *,
        at: int | None = None,
        session_id: str | None = None,
        recorded_at: int | None = None,
        sequence: int | None = None,
        random: bytes = b"\x01" * 10,
    ) -> str:
        """An event's row, as the gateway's outbox writes it; at once, unless it says otherwise."""
        moment = at or clock.millis()
        event_id = EventId(ids.mint(ids.EVENT, moment, random))
        body = (
            f'{{"type":"{kind}","id":"{event_id}","timestamp":"2026-11-21T00:00:00Z","data":{{}}}}'
        )
        row = StoredEvent(
            id=event_id,
            tenant_id=self.id,
            type=kind,
            created_at=moment,
            recorded_at=moment if recorded_at is None else recorded_at,
            body=body,
            session_id=None if session_id is None else SessionId(session_id),
            sequence=sequence,
        )
        assert self.stage.aws.run(event_store.record_event(self.id, row).alone())
        return event_id

    def owed(self, endpoint_id: str, event_id: str, **fields: Any) -> Delivery:
        """An event's delivery, as a gateway left it: given up, if nothing else is said."""
        at = ids.minted_at(event_id)
        given: dict[str, Any] = {
            "tenant_id": self.id,
            "endpoint_id": EndpointId(endpoint_id),
            "event_id": EventId(event_id),
            "event_type": "message.sent",
            "state": DeliveryState.GAVE_UP,
            "attempt": 11,
            "created_at": at,
            "updated_at": at,
            **fields,
        }
        row = Delivery(**given)
        assert self.stage.aws.run(delivery_store.record_delivery(self.id, row).alone())
        return row

    def delivery(self, endpoint_id: str, event_id: str) -> Delivery:
        op = delivery_store.read_delivery(self.id, EndpointId(endpoint_id), EventId(event_id))
        row = self.stage.aws.run(op)
        assert row is not None
        return row

    def commands(self, session_id: str) -> list[Command]:
        """What was ordered of a session, taken from its shard's queue."""
        found: list[Command] = []
        for shard in range(self.stage.settings.shards):
            url = self.stage.settings.command_queue(shard)
            while received := self.stage.aws.run(queue.receive(url, 0)):
                for message in received:
                    command = commands.decode(
                        self.stage.keyring.commands, message.body, clock.millis()
                    )
                    if session_id in (command.session_id, "any"):
                        found.append(command)
                self.stage.aws.run(queue.settle(url, [each.handle for each in received]))
        return found


@contextlib.contextmanager
def serve(app: Litestar) -> Generator[str]:
    """The app on a free port of loopback, in a thread with a loop of its own."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = cast("int", listener.getsockname()[1])
        listener.listen(128)
        server = uvicorn.Server(
            uvicorn.Config(app, log_config=None, lifespan="on", ws="none", access_log=False)
        )
        thread = threading.Thread(
            target=lambda: asyncio.run(server.serve(sockets=[listener])), daemon=True
        )
        thread.start()
        try:
            until(lambda: server.started)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.should_exit = True
            thread.join(DEADLINE)


MakeStage = Callable[..., contextlib.AbstractContextManager[Stage]]


@pytest.fixture(scope="session")
def make_stage(fresh_stack: FreshStack) -> Iterator[MakeStage]:
    """Serve a control plane on a fresh stack; keywords are settings."""
    with pytest.MonkeyPatch.context() as patch:

        @contextlib.contextmanager
        def make(**settings: str) -> Generator[Stage]:
            environment = dict(fresh_stack(Shards="2").environment)
            for name, value in environment.items():
                if not name.startswith("ZAPGATE_"):
                    patch.setenv(name, value)
            given = {f"ZAPGATE_{name.upper()}": value for name, value in settings.items()}
            # No gateway runs beside these tests that could remember anything.
            decoded = env.settings({"ZAPGATE_ENDPOINT_MEMORY": "0", **environment, **given})
            aws = Aws(decoded)
            app = create_app(
                decoded,
                aws=aws,
                resolve=lambda host: (
                    (ip_address("10.0.0.1"),) if host == "inside.example.com" else ()
                ),
            )
            with serve(app) as url, httpx.Client(base_url=url, timeout=30) as client:
                yield Stage(app, url, aws, decoded, Keyring.parse(decoded.secret), client)
            aws.close()

        yield make


@pytest.fixture(scope="session")
def stage(make_stage: MakeStage) -> Iterator[Stage]:
    """The control plane most tests share; each has a tenant of its own."""
    with make_stage() as made:
        yield made


@pytest.fixture(name="tenant")
def fresh_tenant(stage: Stage) -> Tenant:
    """A tenant for this test alone."""
    return stage.tenant()
