"""The gateways: started, killed, frozen, replaced, each behind gates of its own."""

import asyncio
import os
import re
import signal
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import aiohttp

from sandbox.bench import proc
from sandbox.chaos.gate import Gate, gate_to
from sandbox.network import Network
from sandbox.processes import Plane
from sandbox.stack import run_gateway

SETTLE_SECONDS: Final = 60.0
LOOK: Final = 0.2
_HELD: Final = re.compile(r"^zapgate_shards_held (\S+)$", re.MULTILINE)


@dataclass(frozen=True, eq=False)
class Gates:
    """What leads a plane to the services."""

    table: Gate
    queue: Gate

    @property
    def environment(self) -> dict[str, str]:
        """What leads botocore through them."""
        return {
            "AWS_ENDPOINT_URL_DYNAMODB": self.table.url,
            "AWS_ENDPOINT_URL_SQS": self.queue.url,
        }


@asynccontextmanager
async def run_gates(aws: str) -> AsyncGenerator[Gates]:
    """Gates to the AWS at a URL."""
    port = port_of(aws)
    async with gate_to(port) as table, gate_to(port) as queue:
        yield Gates(table, queue)


@dataclass(frozen=True, eq=False)
class Gateway:
    """One gateway, and the gates it goes by."""

    name: str
    plane: Plane
    gates: Gates
    whatsapp: Gate
    parts: AsyncExitStack = field(repr=False)

    @property
    def pid(self) -> int:
        return self.plane.process.pid

    def signal(self, number: signal.Signals) -> None:
        """Send the gateway's own process a signal, and not its children."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    async def shards(self, http: aiohttp.ClientSession) -> int:
        """How many shards it holds."""
        async with http.get(f"{self.plane.url}/metrics") as answer:
            held = _HELD.search(await answer.text())
        return round(float(held[1])) if held is not None else 0

    def hosts(self) -> list[int]:
        """Its session hosts."""
        return sorted(proc.hosts(self.pid))


@dataclass
class Fleet:
    """All gateways, on one folder of devices."""

    home: Path
    aws: str
    environment: Mapping[str, str] = field(repr=False)
    network: Network
    devices: Path
    live: list[Gateway] = field(default_factory=list[Gateway])
    _started: int = 0

    async def start(self) -> Gateway:
        """One more, once it is ready."""
        self._started += 1
        name = f"chaos-gateway-{self._started}"
        async with AsyncExitStack() as parts:
            gates = await parts.enter_async_context(run_gates(self.aws))
            whatsapp = await parts.enter_async_context(gate_to(port_of(self.network.proxy_url)))
            environment = {
                **self.environment,
                **gates.environment,
                "ZAPGATE_WHATSAPP_PROXY": whatsapp.url,
            }
            plane = await parts.enter_async_context(
                run_gateway(self.home, environment, self.network, self.devices, name=name)
            )
            gateway = Gateway(name, plane, gates, whatsapp, parts.pop_all())
        self.live.append(gateway)
        return gateway

    async def stop(self, gateway: Gateway) -> None:
        """Have it end in order; return when it is gone, by force if it takes too long."""
        self.live.remove(gateway)
        await gateway.parts.aclose()

    async def kill(self, gateway: Gateway) -> None:
        """End it at once."""
        self.live.remove(gateway)
        gateway.signal(signal.SIGKILL)
        await gateway.plane.process.wait()
        await gateway.parts.aclose()

    async def settle(self) -> None:
        """Return when the shards are spread evenly. Raises TimeoutError."""
        async with aiohttp.ClientSession() as http, asyncio.timeout(SETTLE_SECONDS):
            while True:
                held = [await gateway.shards(http) for gateway in self.live]
                if max(held) - min(held) <= 1:
                    return
                await asyncio.sleep(LOOK)

    async def close(self) -> None:
        """End all that are left."""
        for gateway in list(self.live):
            gateway.signal(signal.SIGCONT)
            await self.stop(gateway)


def port_of(url: str) -> int:
    port = urlsplit(url).port
    if port is None:
        raise ValueError(f"{url} names no port")
    return port
