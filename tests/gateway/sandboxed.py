"""The sandbox's WhatsApp as a process of its own, and its people over its control API."""

import asyncio
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from sandbox.network import Network


@contextmanager
def network(home: Path) -> Generator[Network]:
    """Run the network until the context ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", "sandbox.network", "--home", str(home)],
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    try:
        yield msgspec.json.decode(process.stdout.readline(), type=Network)
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


class People:
    """Simulated phones: what a test makes them do, and what they saw."""

    def __init__(self, http: aiohttp.ClientSession, base: str) -> None:
        self._http = http
        self._base = base

    async def ask(self, method: str, path: str, body: object = None, **query: str) -> Any:
        async with self._http.request(
            method,
            f"{self._base}{path}",
            params=query,
            data=None if body is None else msgspec.json.encode(body),
        ) as response:
            text = await response.read()
            assert response.status < 300, (method, path, response.status, text)
            return msgspec.json.decode(text) if text else None

    async def create(self, number: str, name: str, **how: object) -> None:
        await self.ask("POST", "/people", {"number": number, "push_name": name, **how})

    async def scan(self, number: str, qr: str) -> None:
        await self.ask("POST", f"/people/{number}/scan", {"qr": qr})

    async def type_code(self, number: str, code: str) -> None:
        await self.ask("POST", f"/people/{number}/code", {"code": code})

    async def send(self, number: str, to: str, text: str) -> str:
        sent = await self.ask("POST", f"/people/{number}/messages", {"to": to, "text": text})
        return sent["id"]

    async def received(self, number: str, wait: float = 10.0) -> list[dict[str, Any]]:
        return await self.ask("GET", f"/people/{number}/received", wait=str(wait))

    async def fault(self, number: str, fault: dict[str, object]) -> None:
        await self.ask("POST", f"/people/{number}/faults", fault)


async def eventually(check: Any, seconds: float = 20.0) -> Any:
    """Poll until `check()` is true, and return it; fail at the deadline."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while not (value := check()):
        assert loop.time() < end, "it did not happen in time"
        await asyncio.sleep(0.02)
    return value
