"""A sandbox network of its own for each test, and a client to use it."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from sandbox.network import Network, run_network
from sandbox.whatsapp.control_client import ControlClient
from tests.sandbox.harness import NeonizeClient, neonize


@pytest.fixture
async def network(tmp_path: Path) -> AsyncGenerator[Network]:
    async with run_network(tmp_path / "network") as running:
        yield running


@pytest.fixture
async def control(network: Network) -> AsyncGenerator[ControlClient]:
    async with ControlClient(network.control_url) as client:
        yield client


@pytest.fixture
async def client(network: Network, tmp_path: Path) -> AsyncGenerator[NeonizeClient]:
    async with neonize(network, tmp_path / "client.db") as running:
        yield running
