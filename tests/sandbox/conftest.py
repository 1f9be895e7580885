"""A sandbox network of its own for each test, and a client to use it."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from sandbox.network import Network, run_network
from sandbox.whatsapp.control_client import ControlClient
from tests.sandbox.harness import NeonizeClient, NeonizeStarter, neonize


@pytest.fixture
async def network(tmp_path: Path) -> AsyncGenerator[Network]:
    async with run_network(tmp_path / "network") as running:
        yield running


@pytest.fixture
async def control(network: Network) -> AsyncGenerator[ControlClient]:
    async with ControlClient(network.control_url) as client:
        yield client


@pytest.fixture
def start_neonize(network: Network, tmp_path: Path) -> NeonizeStarter:
    """Start a client on a store of this name; the same name is the same device again."""
    return lambda name: neonize(network, tmp_path / name)


@pytest.fixture
async def client(start_neonize: NeonizeStarter) -> AsyncGenerator[NeonizeClient]:
    async with start_neonize("client") as running:
        yield running
