"""The gateway as a process."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from gateway.__main__ import MISCONFIGURED
from sandbox.aws import StackEnvironment
from sandbox.processes import LEASH, free_port, inherited
from tests.gateway.conftest import FreshStack
from tests.gateway.freezer import between
from tests.gateway.waiting import until
from tests.postgres import DatabaseServer


class Process:
    """A gateway's process, and where it answers."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.process = process
        self.url = f"http://127.0.0.1:{port}"

    async def asked(self, path: str) -> tuple[int, str]:
        """Status and body; 0 while nobody answers."""
        try:
            async with (
                aiohttp.ClientSession() as http,
                http.get(self.url + path, timeout=aiohttp.ClientTimeout(2)) as answer,
            ):
                return answer.status, await answer.text()
        except (aiohttp.ClientError, TimeoutError):
            return 0, ""

    async def ready(self) -> bool:
        return (await self.asked("/readyz"))[0] == 200

    async def holds(self, shards: int) -> bool:
        return f"zapgate_shards_held {shards}.0\n" in (await self.asked("/metrics"))[1]

    async def told_to_stop(self) -> tuple[int, bytes, list[dict[str, Any]]]:
        """Exit code, stdout and the log's lines."""
        self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            out, err = await self.process.communicate()
        lines = [msgspec.json.decode(line) for line in err.splitlines()]
        return self.process.returncode or 0, out, lines


@asynccontextmanager
async def started(environment: Mapping[str, str], devices: Path | str) -> AsyncGenerator[Process]:
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        LEASH,
        str(os.getpid()),
        "SIGKILL",
        "gateway",
        env={
            **inherited(),
            **environment,
            "ZAPGATE_DEVICE_STORE": str(devices),
            "ZAPGATE_HEALTH_PORT": str(port),
            "ZAPGATE_LEASE_SECONDS": "3",
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield Process(process, port)
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def test_gateways_share_the_shards_and_hand_them_over(
    fresh_stack: FreshStack, tmp_path: Path
) -> None:
    """The second gets its half; on SIGTERM one resigns what it has, says nothing and exits 0."""
    stack: StackEnvironment = fresh_stack(Shards="4")
    async with started(stack.environment, tmp_path) as first:
        await until(first.ready, 20)
        assert await first.holds(4)
        async with started(stack.environment, tmp_path) as second:
            await until(second.ready, 20)
            await until(lambda: second.holds(2), 20)
            await until(lambda: first.holds(2))
            assert "zapgate_gateways 2.0\n" in (await first.asked("/metrics"))[1]
            assert (await second.asked("/healthz"))[1] == '{"status":"ok","reasons":{}}'
            code, out, lines = await first.told_to_stop()
            assert (code, out) == (0, b"")
            assert lines[-1]["fact"] == "gateway.stopped"
            assert [line for line in lines if line["level"] in {"warning", "error"}] == []
            await until(lambda: second.holds(4))
            assert await second.ready()
            code, _, _ = await second.told_to_stop()
            assert code == 0


OUTAGE = 8
"""Seconds: more than two lease times."""


async def test_an_outage_of_aws_is_told_and_kills_nobody(
    fresh_stack: FreshStack, tmp_path: Path
) -> None:
    """`/readyz` says why, `/healthz` stays well all the time, and afterwards all is as before."""
    stack: StackEnvironment = fresh_stack(Shards="2")
    async with between(stack.environment["AWS_ENDPOINT_URL"]) as freezer:
        environment = {**stack.environment, "AWS_ENDPOINT_URL": freezer.url}
        async with started(environment, tmp_path) as gateway:
            await until(gateway.ready, 20)
            freezer.open.clear()
            told: set[int] = set()
            for _ in range(OUTAGE):
                await asyncio.sleep(1)
                assert await gateway.asked("/healthz") == (200, '{"status":"ok","reasons":{}}')
                told.add((await gateway.asked("/readyz"))[0])
            assert 503 in told
            assert '"leases":"' in (await gateway.asked("/readyz"))[1]
            freezer.open.set()
            await until(gateway.ready, 30)
            await until(lambda: gateway.holds(2))
            code, _, _ = await gateway.told_to_stop()
            assert code == 0


async def test_a_gateway_without_its_secret_says_so(tmp_path: Path) -> None:
    """Settings that cannot work end it at once, with a code that means it."""
    environment = {"ZAPGATE_SECRET": '{"master": "short"}', "ZAPGATE_COMMAND_QUEUE_URL": "x"}
    async with started(environment, tmp_path) as gateway:
        async with asyncio.timeout(30):
            out, err = await gateway.process.communicate()
        assert (gateway.process.returncode, out) == (78, b"")
        assert b"gateway.misconfigured" in err
        assert b"Traceback" not in err


async def test_a_gateway_that_cannot_end_is_ended() -> None:
    """Whatever hangs on the way out: the orchestrator must not have to kill it."""
    script = (
        "import asyncio, sys\n"
        "from gateway import __main__ as entry\n"
        "async def hang(_, __):\n"
        "    print('up', flush=True)\n"
        "    await asyncio.Event().wait()\n"
        "entry.run, entry.STOP_SECONDS = hang, 0.2\n"
        "asyncio.run(entry.serve(None))\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    async with asyncio.timeout(30):
        assert await process.stdout.readline() == b"up\n"
        process.send_signal(signal.SIGTERM)
        await process.communicate()
    assert process.returncode == 1


async def test_a_device_store_that_only_a_person_can_mend_ends_it(
    fresh_stack: FreshStack, postgres: DatabaseServer
) -> None:
    """With the exit code that says so, the variable's name and no password."""
    wrong = postgres.url().replace("s3cret", "wr0ng")
    async with started(fresh_stack(Shards="1").environment, wrong) as gateway:
        async with asyncio.timeout(30):
            _, err = await gateway.process.communicate()
    assert gateway.process.returncode == MISCONFIGURED
    assert b"ZAPGATE_DEVICE_STORE" in err
    assert b"wr0ng" not in err


async def test_a_gateway_loads_nothing_that_only_hosts_need() -> None:
    """WhatsApp's library and a database's driver are in its hosts: it would pay for them too."""
    code = "import gateway.run, sys; print(*{'neonize', 'google', 'psycopg'} & set(sys.modules))"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert (process.returncode, out) == (0, b"\n")
