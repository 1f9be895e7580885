"""The network as a program, and how clients are led to it."""

import asyncio
import signal
import ssl
import stat
import sys
from pathlib import Path

import aiohttp
import msgspec
import pytest

from sandbox import trust
from sandbox.network import Network, run_network
from sandbox.whatsapp.control_client import ControlClient


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_runs_as_a_program_and_ends_when_told(
    tmp_path: Path, number: signal.Signals
) -> None:
    """It prints one line that says where everything is, and leaves with status 0."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sandbox.network", "--home", str(tmp_path)),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), 30)
        network = msgspec.json.decode(line, type=Network)
        async with ControlClient(network.control_url) as control:
            assert (await control.health()).people == 0
        process.send_signal(number)
        assert await asyncio.wait_for(process.wait(), 30) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_clients_trust_it_over_restarts(tmp_path: Path) -> None:
    """The authority and the Noise root stay; their keys are nobody else's to read."""
    async with run_network(tmp_path) as first:
        authority = ssl.create_default_context(cafile=first.ca_file)
    async with run_network(tmp_path) as second, aiohttp.ClientSession() as session:
        assert second.root_hex == first.root_hex
        answer = await session.get(
            "https://mmg.whatsapp.net/", proxy=second.proxy_url, ssl=authority
        )
        assert answer.status == 404
        answer.release()
    assert second.client_environment() == {
        "SSL_CERT_FILE": first.ca_file,
        trust.ROOT_VARIABLE: first.root_hex,
    }
    for name in ("ca.key", "server.key", "noise-root.key"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600


async def test_an_error_inside_stays_what_it_is(tmp_path: Path) -> None:
    """Who runs the network sees its own errors, not groups of them."""
    with pytest.raises(KeyError):
        async with run_network(tmp_path):
            raise KeyError


@pytest.mark.parametrize("root", ["", "zz", "00" * 31])
def test_a_client_without_a_root_must_not_connect(
    root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing or malformed root is an error before anything is changed."""
    monkeypatch.setenv(trust.ROOT_VARIABLE, root)
    with pytest.raises(trust.TrustError, match=trust.ROOT_VARIABLE):
        trust.install()


def test_a_process_without_neonize_cannot_be_led(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library has to be loaded before its root can be replaced."""
    monkeypatch.setenv(trust.ROOT_VARIABLE, "11" * 32)
    with pytest.raises(trust.TrustError, match="not loaded"):
        trust.install()
