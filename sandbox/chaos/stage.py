"""Everything that a run plays on, each part a process of its own but the webhooks' receiver.

Every session is paired by code and has a contact who hears from nobody else.
"""

import asyncio
import tempfile
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sandbox.api import Api, connect
from sandbox.aws import apply_template, run_embedded_aws
from sandbox.bench.bed import Linked, numbers, run_network_apart
from sandbox.chaos.fleet import Fleet, Gates, run_gates
from sandbox.chaos.options import Options
from sandbox.receiver import Receiver, run_receiver
from sandbox.stack import development, run_api
from sandbox.whatsapp.control_client import ControlClient, ControlError
from shared.keyring import Keyring

PATIENCE: Final = 60.0
"""Seconds until a session that is not linked counts as not to be."""
LOOK: Final = 0.2
AT_ONCE: Final = 4
"""Sessions that are paired side by side."""

Say = Callable[[str], None]


class StageError(Exception):
    """The stage could not be set: nothing was proved."""


@dataclass(frozen=True)
class Stage:
    """What runs, and whom it runs for."""

    fleet: Fleet
    api_gates: Gates
    """The control plane's own way to the services."""
    people: ControlClient = field(repr=False)
    api: Api = field(repr=False)
    """The tenant's."""
    receiver: Receiver = field(repr=False)
    sessions: tuple[Linked, ...]


@asynccontextmanager
async def run_stage(home: Path, options: Options, say: Say) -> AsyncGenerator[Stage]:
    """Start it all and link every session; stop it in the reverse order."""
    async with AsyncExitStack() as rest:
        scratch = Path(rest.enter_context(tempfile.TemporaryDirectory(prefix="zapgate-chaos-")))
        aws = await rest.enter_async_context(run_embedded_aws(home))
        tables = apply_template(aws)
        environment = {
            **tables.environment,
            **development(),
            "ZAPGATE_LEASE_SECONDS": f"{options.lease_seconds:g}",
            "ZAPGATE_RATE_LIMIT": "100000000",
        }
        network = await rest.enter_async_context(run_network_apart(scratch / "whatsapp"))
        people = await rest.enter_async_context(ControlClient(network.control_url))
        api_gates = await rest.enter_async_context(run_gates(aws.endpoint))
        plane = await rest.enter_async_context(
            run_api(home, {**environment, **api_gates.environment})
        )
        operator_key = Keyring.parse(tables.environment["ZAPGATE_SECRET"]).operator_keys[0]
        operator = await rest.enter_async_context(connect(plane.url, operator_key))
        receiver = await rest.enter_async_context(run_receiver())
        api = await _tenant(operator, receiver)
        fleet = Fleet(home, aws.endpoint, environment, network, scratch / "devices")
        rest.push_async_callback(fleet.close)
        await asyncio.gather(*(fleet.start() for _ in range(options.gateways)))
        await fleet.settle()
        say(f"{options.gateways} gateways are up and share the shards")
        gate = asyncio.Semaphore(AT_ONCE)
        sessions = await asyncio.gather(
            *(_link(people, api, index, gate) for index in range(options.sessions))
        )
        say(f"{len(sessions)} sessions are paired and connected")
        yield Stage(fleet, api_gates, people, api, receiver, tuple(sessions))


async def _tenant(operator: Api, receiver: Receiver) -> Api:
    """A tenant whose webhooks the receiver takes, all of them."""
    tenant: Any = await operator.ok("POST", "/v1/tenants", {"name": "Chaos"})
    key: Any = await operator.ok("POST", f"/v1/tenants/{tenant['id']}/keys", {"name": "chaos"})
    api = operator.with_key(key["key"])
    endpoint = await api.ok("POST", "/v1/webhooks", {"url": receiver.url, "events": ["*"]})
    receiver.secret = endpoint["secret"]
    return api


async def _link(people: ControlClient, api: Api, index: int, gate: asyncio.Semaphore) -> Linked:
    """A session of a new person, paired by code and connected."""
    owner, contact = numbers(index)
    async with gate:
        await people.create_person(owner, f"Owner {index}")
        await people.create_person(contact, f"Contact {index}")
        body = {"name": f"chaos {index}", "phone_number": owner}
        session: Any = await api.ok("POST", "/v1/sessions", body)
        linked = Linked(session["id"], owner, contact)
        try:
            async with asyncio.timeout(PATIENCE):
                while not await _typed(people, owner, await _code(api, linked)):  # noqa: ASYNC110 - over HTTP
                    await asyncio.sleep(LOOK)
                while (await api.ok("GET", linked.path))["state"] != "connected":  # noqa: ASYNC110 - over HTTP
                    await asyncio.sleep(LOOK)
        except TimeoutError:
            raise StageError(f"session {linked.id} was not linked in {PATIENCE:g} s") from None
    return linked


async def _typed(people: ControlClient, owner: str, code: str) -> bool:
    """Whether the code was still good: with a shard that moves, an attempt begins again."""
    try:
        await people.type_code(owner, code)
    except ControlError:
        return False
    return True


async def _code(api: Api, linked: Linked) -> str:
    while True:
        answer = await api.call("GET", f"{linked.path}/pairing", Prefer="wait=10")
        offered: Any = answer.json if answer.status == 200 else {}
        if offered.get("code"):
            return offered["code"]
        if offered.get("code_error"):
            raise StageError(offered["code_error"])
