"""CPU: processor time of the server for each accepted message.

Ours is the control plane under uvicorn; the bare counterpart is a Litestar app with a msgspec body,
under uvicorn too, that makes the requests ours was seen to make: the same actions and items, in the
same turn, from the same boto3 configuration. No gateway runs beside them.
"""

import asyncio
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path
from typing import Final

import msgspec

from sandbox.api import Api, connect
from sandbox.aws import run_embedded_aws
from sandbox.bench.accepting import Accepting, accepting
from sandbox.bench.bed import bare_stack, moved, seed
from sandbox.bench.clockwork import Clockwork
from sandbox.bench.counting import paid, tally
from sandbox.bench.proc import processor_seconds
from sandbox.bench.recorder import watching
from sandbox.bench.samples import Result, Row, Target, spread
from sandbox.bench.script import Record, part
from sandbox.processes import Plane, free_port, run_plane
from sandbox.stack import run_api

TIMES_BARE: Final = 1.3
RECORDED: Final = 64
"""Messages whose requests make the script: whole chunks of the rate limiter's counting."""
MESSAGES: Final = 320
"""Of each side in a round: a second of processor time, which Linux counts in hundredths."""
AT_ONCE: Final = 4
"""Clients, each waiting for its answer."""


async def measure(home: Path, rounds: int, clockwork: Clockwork) -> Result:
    ours: list[float] = []
    bare: list[float] = []
    async with AsyncExitStack() as rest:
        aws = await rest.enter_async_context(run_embedded_aws(home))
        task = await rest.enter_async_context(accepting(home, aws))
        script, requests = await record(home, task)
        bare_tables = bare_stack(aws)
        await seed(aws, task.tables, bare_tables)
        file = task.scratch / "script"
        renamed = moved(task.tables, bare_tables)
        file.write_bytes(msgspec.msgpack.encode([part(each, renamed) for each in script]))
        our_app = await rest.enter_async_context(run_api(home, task.environment))
        bare_app = await rest.enter_async_context(
            run_bare(home, {**bare_tables.environment, "BENCH_SCRIPT": str(file)})
        )
        sides = [(our_app, ours), (bare_app, bare)]
        for plane, _ in sides:
            await load(plane, task, RECORDED)
        for _ in range(rounds):
            clockwork.tick()
            for plane, values in sides:
                before = processor_seconds(plane.process.pid)
                await load(plane, task, MESSAGES)
                values.append((processor_seconds(plane.process.pid) - before) / MESSAGES * 1000)
    row = Row(
        name="CPU a message",
        unit="ms",
        ours=tuple(ours),
        bare=tuple(bare),
        target=Target(TIMES_BARE),
    )
    extra = spread(ours).median - spread(bare).median
    return Result(
        rows=(row,),
        notes=(
            (
                f"CPU: {MESSAGES} messages a round from {AT_ONCE} clients; AWS requests of each "
                f"side, per message: {requests}. Besides what is bare, ours costs {extra:.2f} "
                "ms (key, scope, limit, validation, signature, ids, log line)"
            ),
        ),
    )


async def record(home: Path, task: Accepting) -> tuple[list[list[Record]], str]:
    """What our control plane asks of AWS for each of some messages, once it is warm."""
    async with (
        watching("api", task.aws.endpoint, home / "logs") as watch,
        run_api(home, {**task.environment, "AWS_ENDPOINT_URL": watch.url}) as plane,
        connect(plane.url, task.key) as api,
    ):
        for _ in range(RECORDED):
            await post(api, task)
        await watch.take()
        script: list[list[Record]] = []
        for _ in range(RECORDED):
            await post(api, task)
            script.append(paid(await watch.take()))
        everything = [each for records in script for each in records]
        return script, tally(everything, RECORDED)


async def load(plane: Plane, task: Accepting, messages: int) -> None:
    """Have so many messages accepted."""
    turns = iter(range(messages))
    async with connect(plane.url, task.key) as api, asyncio.TaskGroup() as tasks:

        async def client() -> None:
            for _ in turns:
                await post(api, task)

        for _ in range(AT_ONCE):
            tasks.create_task(client())


async def post(api: Api, task: Accepting) -> None:
    await api.ok("POST", task.messages_path, task.body)


def run_bare(home: Path, environment: dict[str, str]) -> AbstractAsyncContextManager[Plane]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    module = [
        "uvicorn", "--factory", "sandbox.bench.bare_app:create_app", "--host", "127.0.0.1",
        "--port", str(port), "--no-access-log", "--log-level", "warning",
    ]  # fmt: skip
    return run_plane("bare-app", module, environment, url=url, ready="/healthz", logs=home / "logs")
