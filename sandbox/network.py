"""The sandbox's WhatsApp as one thing: start it, ask where it is, stop it.

It listens on the loopback address only. `python -m sandbox.network` runs it in the foreground and
prints one line of JSON that says where everything is.

Other people's clients can use it too. neonize and whatsmeow take `proxy_url` as their proxy, trust
`ca_file` (`SSL_CERT_FILE`) and need the root in place of `WACertPubKey`, which `sandbox.trust` does
for neonize. Baileys takes `server_url` as `waWebSocketUrl` and the root as
`WA_CERT_DETAILS.PUBLIC_KEY`.
"""

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec

from sandbox import trust
from sandbox.whatsapp.certificates import open_authority
from sandbox.whatsapp.control import Control
from sandbox.whatsapp.media import Media
from sandbox.whatsapp.pairing import Pairings
from sandbox.whatsapp.people import People
from sandbox.whatsapp.proxy import Proxy
from sandbox.whatsapp.server import Server
from sandbox.whatsapp.world import World
from shared.clock import instant, millis


class Ports(msgspec.Struct, frozen=True):
    """Where to listen; 0 takes any free port."""

    proxy: int = 0
    control: int = 0
    server: int = 0


class Network(msgspec.Struct, frozen=True):
    """A running network. `root_hex` is the public Noise root clients must be given."""

    proxy_url: str
    control_url: str
    server_url: str
    ca_file: str
    root_hex: str

    def client_environment(self) -> dict[str, str]:
        """What a client process must be exec'ed with, besides its own environment."""
        return trust.client_environment(Path(self.ca_file), bytes.fromhex(self.root_hex))


@asynccontextmanager
async def run_network(home: Path, ports: Ports | None = None) -> AsyncGenerator[Network]:
    """Run the network until the context ends; `home` keeps its certificates and its media.

    Raises:
        OSError: a port is taken, or `home` cannot be written.
    """
    wanted = ports or Ports()
    authority = open_authority(home, instant(millis()), os.urandom)
    async with AsyncExitStack() as stack:
        tasks = await stack.enter_async_context(_task_group())
        media = Media(home / "media")
        world = World(tasks, lambda: millis() // 1000, os.urandom, media)
        stack.callback(world.stop)
        pairings = Pairings(world)
        server = Server(world, pairings, authority)
        stack.push_async_callback(server.stop)
        server_port = await server.start(wanted.server)
        proxy = Proxy(("127.0.0.1", server_port), world.is_down)
        stack.push_async_callback(proxy.stop)
        proxy_port = await proxy.start(wanted.proxy)
        control = Control(world, People(world), pairings, proxy)
        stack.push_async_callback(control.stop)
        control_port = await control.start(wanted.control)
        yield Network(
            proxy_url=f"http://127.0.0.1:{proxy_port}",
            control_url=f"http://127.0.0.1:{control_port}",
            server_url=f"wss://127.0.0.1:{server_port}/ws/chat",
            ca_file=str(authority.ca_file.resolve()),
            root_hex=authority.noise_root.public.hex(),
        )


@asynccontextmanager
async def _task_group() -> AsyncGenerator[asyncio.TaskGroup]:
    """A group for tasks that see to their own failures; an error of the body stays what it is."""
    failed: Exception | None = None
    async with asyncio.TaskGroup() as tasks:
        try:
            yield tasks
        except Exception as error:  # noqa: BLE001 - it goes on below, without a group around it
            failed = error
    if failed is not None:
        raise failed


async def _serve(home: Path, ports: Ports) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    async with run_network(home, ports) as network:
        sys.stdout.buffer.write(msgspec.json.encode(network) + b"\n")
        sys.stdout.flush()
        await stopped.wait()


def main(arguments: list[str] | None = None) -> None:
    """Run the network in the foreground, until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(prog="sandbox.network", description=__doc__)
    parser.add_argument("--home", type=Path, default=Path(".zapgate/network"))
    parser.add_argument("--proxy-port", type=int, default=0)
    parser.add_argument("--control-port", type=int, default=0)
    parser.add_argument("--server-port", type=int, default=0)
    asked = parser.parse_args(arguments)
    ports = Ports(asked.proxy_port, asked.control_port, asked.server_port)
    asyncio.run(_serve(asked.home, ports))


if __name__ == "__main__":
    main()
