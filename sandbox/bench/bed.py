"""What a figure is measured on: embedded AWS, WhatsApp network and planes, each a process alone.

Unlike `sandbox.stack` the network runs beside us, not in us: its cryptography must not hold up the
clock that measures. Each figure makes its own, so that no figure lies in the dust of another.
"""

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from sandbox.api import connect
from sandbox.aws import EmbeddedAws, StackEnvironment, apply_template, run_embedded_aws
from sandbox.bench.recorder import Watch, watching
from sandbox.network import Network
from sandbox.processes import LEASH, Plane, inherited
from sandbox.stack import Stack, Tenant, make_tenant, run_api, run_gateway
from sandbox.whatsapp.control_client import ControlClient
from shared.keyring import Keyring

PATIENCE: Final = 30.0
"""Seconds until something awaited counts as not seen."""
MEASURED: Final = {
    "ZAPGATE_RATE_LIMIT": "100000000",
    "ZAPGATE_WEBHOOK_TARGETS": "loopback",
}
"""All else is as in production, where journals are synced to the disk and memories are longer: we
measure what the product can, not what a tenant may."""


class BenchError(Exception):
    """A figure could not be measured."""


@dataclass(frozen=True)
class Linked:
    """A connected session, whose number it has and to whom it writes."""

    id: str
    owner: str
    contact: str

    @property
    def path(self) -> str:
        return f"/v1/sessions/{self.id}"


@dataclass(frozen=True)
class Bed:
    """Everything that runs, and a tenant to do it for."""

    stack: Stack
    network: Network
    people: ControlClient
    tenant: Tenant
    api: Plane
    watched: Mapping[str, Watch] = field(default_factory=dict[str, Watch])
    """Recorders in front of the AWS by plane, `api` and `gateway`, where they were asked for."""

    @property
    def aws(self) -> EmbeddedAws:
        return self.stack.aws

    @property
    def scratch(self) -> Path:
        return self.stack.scratch

    async def link(self, index: int) -> Linked:
        """A session of a new person, connected, with a contact who never hears from another."""
        owner, contact = numbers(index)
        await self.people.create_person(owner, f"Owner {index}")
        await self.people.create_person(contact, f"Contact {index}")
        session = await self.tenant.api.ok("POST", "/v1/sessions", {"name": f"bench {index}"})
        linked = Linked(session["id"], owner, contact)
        await self.people.scan(owner, await self.qr(linked.path))
        await self.reach(linked.path, "connected")
        return linked

    async def qr(self, session_path: str) -> str:
        """The session's QR, once it can be read."""
        async with asyncio.timeout(PATIENCE):
            while True:
                answer = await self.tenant.api.call(
                    "GET", f"{session_path}/pairing", Prefer="wait=10"
                )
                if answer.status == 200 and answer.json.get("qr"):
                    return str(answer.json["qr"])

    async def reach(self, session_path: str, state: str) -> None:
        """Wait until a session is in a state."""
        async with asyncio.timeout(PATIENCE):
            while (await self.tenant.api.ok("GET", session_path))["state"] != state:  # noqa: ASYNC110 - over HTTP
                await asyncio.sleep(0.05)

    async def send(self, linked: Linked, text: str, **headers: str) -> tuple[str, float]:
        """Have a message accepted: its id, and the moment of the answer."""
        body = {"to": linked.contact, "text": text}
        message = await self.tenant.api.ok("POST", f"{linked.path}/messages", body, **headers)
        return message["id"], time.monotonic()


def numbers(index: int) -> tuple[str, str]:
    """The phone numbers of the `index`-th owner and contact."""
    return f"+49151{10_000_000 + index}", f"+1555{1_000_000 + index}"


@asynccontextmanager
async def run_bed(home: Path, *, watched: bool = False) -> AsyncGenerator[Bed]:
    """Start it all; `watched` puts a recorder between each plane and the AWS."""
    async with AsyncExitStack() as rest:
        scratch = Path(rest.enter_context(tempfile.TemporaryDirectory(prefix="zapgate-bench-")))
        aws = await rest.enter_async_context(run_embedded_aws(home))
        tables = apply_template(aws)
        environment = {**tables.environment, **MEASURED}
        network = await rest.enter_async_context(run_network_apart(scratch / "whatsapp"))
        people = await rest.enter_async_context(ControlClient(network.control_url))
        watches: dict[str, Watch] = {}
        led: dict[str, dict[str, str]] = {"api": environment, "gateway": environment}
        if watched:
            for name in led:
                watch = await rest.enter_async_context(watching(name, aws.endpoint, home / "logs"))
                watches[name] = watch
                led[name] = {**environment, "AWS_ENDPOINT_URL": watch.url}
        api = await rest.enter_async_context(run_api(home, led["api"]))
        gateway = await rest.enter_async_context(
            run_gateway(home, led["gateway"], network, scratch / "devices")
        )
        operator_key = Keyring.parse(tables.environment["ZAPGATE_SECRET"]).operator_keys[0]
        stack = Stack(
            home=home,
            scratch=scratch,
            aws=aws,
            tables=tables,
            network=network,
            api_url=api.url,
            gateway=gateway,
            planes=(api, gateway),
            operator_key=operator_key,
            operator=await rest.enter_async_context(connect(api.url, operator_key)),
        )
        tenant = await make_tenant(stack, "Bench")
        yield Bed(stack, network, people, tenant, api, watches)


@asynccontextmanager
async def run_network_apart(folder: Path) -> AsyncGenerator[Network]:
    """The WhatsApp network as a process of its own."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, LEASH, str(os.getpid()), "SIGTERM"),
        *("sandbox.network", "--home", str(folder)),
        env=inherited(),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None  # noqa: S101 - a pipe was asked for
        line = await asyncio.wait_for(process.stdout.readline(), PATIENCE)
        if not line:
            raise BenchError("the WhatsApp network did not start")
        yield msgspec.json.decode(line, type=Network)
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), PATIENCE)
            except TimeoutError:
                process.kill()
                await process.wait()


async def seed(aws: EmbeddedAws, source: StackEnvironment, target: StackEnvironment) -> None:
    """Copy every row of one stack's table into another's, so that both answer reads alike."""

    def copy() -> None:
        dynamodb = aws.client("dynamodb")
        pages = dynamodb.get_paginator("scan").paginate(TableName=source.outputs["TableName"])
        for page in pages:
            for item in page["Items"]:
                dynamodb.put_item(TableName=target.outputs["TableName"], Item=item)

    await asyncio.to_thread(copy)


def bare_stack(aws: EmbeddedAws) -> StackEnvironment:
    """A second stack of the same template, for a bare counterpart to play in."""
    return apply_template(aws, stack="bare", parameters={"Prefix": "bare"})


def moved(source: StackEnvironment, target: StackEnvironment) -> dict[str, str]:
    """How the names in recorded requests change from one stack to another."""
    renamed: dict[str, str] = {}
    renamed[_text(source.outputs["TableName"])] = _text(target.outputs["TableName"])
    for name in ("CommandQueueUrl", "DeliveryQueueUrl"):
        before, after = (each.outputs[name].partition("{shard}")[0] for each in (source, target))
        renamed[f'"{before}'] = f'"{after}'
    return renamed


def _text(value: str) -> str:
    return f'"{value}"'
