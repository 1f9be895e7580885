"""Only what accepting a message takes: a stack, a tenant, a key, a session that may send.

No gateway runs, so the session is said to be connected by writing so, as a gateway would.
"""

import tempfile
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from sandbox.api import connect
from sandbox.aws import EmbeddedAws, StackEnvironment, apply_template
from sandbox.bench.bed import MEASURED
from sandbox.stack import run_api
from shared import clock
from shared.env import settings
from shared.ids import SessionId, TenantId
from shared.keyring import Keyring
from shared.session import SessionState
from shared.store import sessions

CONTACT = "+15551000000"


@dataclass(frozen=True)
class Accepting:
    """Where a message can be posted, and with what."""

    aws: EmbeddedAws
    tables: StackEnvironment
    environment: Mapping[str, str]
    """For a control plane on these tables."""
    scratch: Path
    key: str = field(repr=False)
    session_id: str

    @property
    def messages_path(self) -> str:
        return f"/v1/sessions/{self.session_id}/messages"

    @property
    def body(self) -> dict[str, str]:
        return {"to": CONTACT, "text": "Hello from the bench, as long as most messages are."}


@asynccontextmanager
async def accepting(home: Path, aws: EmbeddedAws) -> AsyncGenerator[Accepting]:
    """Make it, through our own API."""
    tables = apply_template(aws)
    environment = {**tables.environment, **MEASURED}
    operator_key = Keyring.parse(environment["ZAPGATE_SECRET"]).operator_keys[0]
    with tempfile.TemporaryDirectory(prefix="zapgate-bench-") as scratch:
        async with (
            run_api(home, environment) as plane,
            connect(plane.url, operator_key) as operator,
        ):
            tenant = await operator.ok("POST", "/v1/tenants", {"name": "Bench"})
            path = f"/v1/tenants/{tenant['id']}/keys"
            key = await operator.ok("POST", path, {"name": "bench"})
            api = operator.with_key(key["key"])
            session = await api.ok("POST", "/v1/sessions", {"name": "bench"})
        say_connected(aws, environment, tenant["id"], session["id"])
        yield Accepting(aws, tables, environment, Path(scratch), key["key"], session["id"])


def say_connected(
    aws: EmbeddedAws, environment: Mapping[str, str], tenant_id: str, session_id: str
) -> None:
    """Write what a gateway writes when WhatsApp has let a session in."""
    seen = sessions.Observation(
        state=SessionState.CONNECTED, at=clock.millis(), epoch=1, phone_number="+4915110000000"
    )
    op = sessions.observe(TenantId(tenant_id), SessionId(session_id), seen).alone()
    params = op.params(settings(environment))
    getattr(aws.client(op.service), op.action)(
        **msgspec.to_builtins(params, builtin_types=(bytes,))
    )
