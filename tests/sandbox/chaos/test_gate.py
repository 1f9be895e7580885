"""A gate leads to a port, until it is shut: each way of shutting it, from outside."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from sandbox.chaos.gate import Gate, How, gate_to


@pytest_asyncio.fixture
async def gate() -> AsyncIterator[Gate]:
    """In front of a server that says what it was sent."""

    async def echo(request: web.Request) -> web.Response:
        return web.Response(body=await request.read())

    app = web.Application()
    app.router.add_post("/", echo)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        async with gate_to(runner.addresses[0][1]) as gate:
            yield gate
    finally:
        await runner.cleanup()


async def ask(http: aiohttp.ClientSession, gate: Gate, seconds: float = 5.0) -> tuple[int, bytes]:
    timeout = aiohttp.ClientTimeout(seconds)
    async with http.post(gate.url, data=b"hello", timeout=timeout) as answer:
        return answer.status, await answer.read()


def new_connections() -> aiohttp.ClientSession:
    """A client that keeps no connection: one that was cut may not have been noticed yet."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True))


@pytest.mark.parametrize("how", list(How))
async def test_a_shut_gate_opens_again(gate: Gate, how: How) -> None:
    """What asks meanwhile suffers as it is meant to, and what asks afterwards is answered."""
    async with new_connections() as http:
        assert await ask(http, gate) == (200, b"hello")
        gate.shut(how)
        match how:
            case How.REFUSE:
                with pytest.raises(aiohttp.ClientError):
                    await ask(http, gate)
            case How.FAIL:
                assert (await ask(http, gate))[0] == 503
                assert (await ask(http, gate))[0] == 503
            case How.STALL:
                with pytest.raises(TimeoutError):
                    await ask(http, gate, 0.2)
        gate.open()
        assert await ask(http, gate) == (200, b"hello")


async def test_what_was_stalled_arrives_late(gate: Gate) -> None:
    """As from a network that held it back: its sender may have given up the lease meanwhile."""
    async with aiohttp.ClientSession() as http, asyncio.TaskGroup() as tasks:
        gate.shut(How.STALL)
        asked = tasks.create_task(ask(http, gate))
        await asyncio.sleep(0.1)
        assert not asked.done()
        gate.open()
        assert await asked == (200, b"hello")
