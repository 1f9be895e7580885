"""The whole product on one machine: embedded AWS, WhatsApp network, control plane, gateway.

Everything runs as it would in production, only nearer: the planes are processes of their own, find
AWS through `AWS_ENDPOINT_URL`, and the gateway's hosts run the real neonize.
"""

import tempfile
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sandbox.api import Api, connect
from sandbox.aws import EmbeddedAws, StackEnvironment, apply_template, deploy, run_embedded_aws
from sandbox.network import Network, run_network
from sandbox.processes import Plane, claim_port, free_port, run_plane
from shared.keyring import Keyring

Log = Callable[[str], None]


@dataclass(frozen=True)
class Stack:
    """Where everything is, once all of it answers."""

    home: Path
    """Logs and installed tools; kept."""
    scratch: Path
    """Devices and whatever else goes when the stack does."""
    aws: EmbeddedAws
    tables: StackEnvironment
    network: Network | None
    """None where the gateway talks to WhatsApp itself."""
    api_url: str
    gateway: Plane
    planes: tuple[Plane, ...]
    """Every process of ours: one that ends by itself is an error."""
    operator_key: str
    operator: Api = field(repr=False)

    @property
    def control_url(self) -> str:
        """Where the simulated people are moved. Raises ValueError on a live stack."""
        if self.network is None:
            raise ValueError("WhatsApp itself has no control API")
        return self.network.control_url


@dataclass(frozen=True)
class Options:
    """What a stack is made of."""

    live: bool = False
    """Connect to WhatsApp itself, not to the sandbox's network."""
    deployed: bool = False
    """The control plane as a Lambda behind its HTTP API, by `sam deploy`, not as a process."""
    port: int | None = None
    """The API's port; any free one if None."""
    devices: Path | None = None
    """Where device credentials are kept; gone with the stack if None."""
    settings: Mapping[str, str] = field(default_factory=dict[str, str])
    """Further `ZAPGATE_…` for both planes."""
    parameters: Mapping[str, str] = field(default_factory=dict[str, str])
    """Template parameters."""


def quiet(_line: str) -> None:
    """A log that says nothing."""


@asynccontextmanager
async def run_stack(
    home: Path, options: Options | None = None, log: Log = quiet
) -> AsyncGenerator[Stack]:
    """Start everything; stop in the reverse order, the gateway first."""
    chosen = options or Options()
    if chosen.port is not None:
        claim_port(chosen.port)
    async with AsyncExitStack() as rest:
        scratch = Path(rest.enter_context(tempfile.TemporaryDirectory(prefix="zapgate-")))
        aws = await rest.enter_async_context(run_embedded_aws(home, log=log))
        planes: list[Plane] = []
        if chosen.deployed:
            deployment = await deploy(
                aws,
                home,
                parameters=chosen.parameters,
                function_environment=development(),
                log=log,
            )
            tables, api_url = deployment.stack, deployment.api_url
            environment = {**tables.environment, **development(), **chosen.settings}
        else:
            tables = apply_template(aws, parameters=chosen.parameters)
            environment = {**tables.environment, **development(), **chosen.settings}
            api = await rest.enter_async_context(run_api(home, environment, chosen.port))
            planes.append(api)
            api_url = api.url
        log(f"control plane at {api_url}")
        network = None
        if not chosen.live:
            network = await rest.enter_async_context(run_network(scratch / "whatsapp"))
            log(f"WhatsApp network at {network.control_url}")
        devices = chosen.devices or scratch / "devices"
        gateway = await rest.enter_async_context(run_gateway(home, environment, network, devices))
        planes.append(gateway)
        log(f"gateway at {gateway.url}")
        operator_key = Keyring.parse(tables.environment["ZAPGATE_SECRET"]).operator_keys[0]
        yield Stack(
            home=home,
            scratch=scratch,
            aws=aws,
            tables=tables,
            network=network,
            api_url=api_url,
            gateway=gateway,
            planes=tuple(planes),
            operator_key=operator_key,
            operator=await rest.enter_async_context(connect(api_url, operator_key)),
        )


def development() -> dict[str, str]:
    """Settings that production's template cannot carry."""
    return {
        "ZAPGATE_WEBHOOK_TARGETS": "loopback",
        "ZAPGATE_JOURNAL_SYNC": "false",
        "ZAPGATE_ENDPOINT_MEMORY": "0.2",
    }


@asynccontextmanager
async def run_api(
    home: Path, environment: Mapping[str, str], port: int | None = None
) -> AsyncGenerator[Plane]:
    """The control plane under uvicorn."""
    chosen = port or free_port()
    url = f"http://127.0.0.1:{chosen}"
    module = [
        "uvicorn", "--factory", "control_plane.app:create_app", "--host", "127.0.0.1",
        "--port", str(chosen), "--no-access-log", "--log-level", "warning",
    ]  # fmt: skip
    async with run_plane(
        "control-plane",
        module,
        {**environment, "ZAPGATE_PUBLIC_URL": url},
        url=url,
        ready="/healthz",
        logs=home / "logs",
    ) as plane:
        yield plane


@asynccontextmanager
async def run_gateway(
    home: Path, environment: Mapping[str, str], network: Network | None, devices: Path | str
) -> AsyncGenerator[Plane]:
    """A gateway, led to the sandbox's network if there is one."""
    port = free_port()
    led = {} if network is None else led_to(network)
    async with run_plane(
        "gateway",
        ["gateway"],
        {
            **environment,
            **led,
            "ZAPGATE_DEVICE_STORE": str(devices),
            "ZAPGATE_HEALTH_PORT": str(port),
        },
        url=f"http://127.0.0.1:{port}",
        ready="/readyz",
        logs=home / "logs",
    ) as plane:
        yield plane


def led_to(network: Network) -> dict[str, str]:
    """What leads a gateway's session hosts to the sandbox's network and lets them trust it."""
    return {
        **network.client_environment(),
        "ZAPGATE_HOST_PRELUDE": "sandbox.trust",
        "ZAPGATE_WHATSAPP_PROXY": network.proxy_url,
    }


@dataclass(frozen=True)
class Tenant:
    """A tenant made for a first try, and its first key."""

    id: str
    key: str
    api: Api = field(repr=False)


async def make_tenant(stack: Stack, name: str) -> Tenant:
    """A tenant with a key that may do everything."""
    tenant: Any = await stack.operator.ok("POST", "/v1/tenants", {"name": name})
    path = f"/v1/tenants/{tenant['id']}/keys"
    key: Any = await stack.operator.ok("POST", path, {"name": "first"})
    return Tenant(tenant["id"], key["key"], stack.operator.with_key(key["key"]))
