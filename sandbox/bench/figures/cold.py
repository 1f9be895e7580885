"""Cold: import and first answer of the Lambda handler, in a fresh process.

The bare counterpart is litestar, mangum and boto3, and makes the requests ours was seen to make in
its first answer. Two events: `GET /healthz`, and a message with a key.
"""

import asyncio
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import msgspec

from sandbox.aws import run_embedded_aws
from sandbox.bench.accepting import Accepting, accepting
from sandbox.bench.bed import BenchError, bare_stack, moved, seed
from sandbox.bench.clockwork import Clockwork
from sandbox.bench.counting import tally
from sandbox.bench.recorder import watching
from sandbox.bench.samples import Result, Row, Target, spread
from sandbox.bench.script import part
from sandbox.processes import inherited

TIMES_BARE: Final = 1.2
DRIVER: Final = Path(__file__).parents[1] / "cold_driver.py"
OURS: Final = "control_plane.handler"
BARE: Final = "sandbox.bench.bare_handler"
PATIENCE: Final = 60.0
_OWN: Final = frozenset({"control_plane", "shared", "sandbox"})
MOST: Final = 8
"""Packages named in the notes."""
TURNS: Final = 2
"""Cold starts of each side and event in a round."""

Told = dict[str, Any]


async def measure(home: Path, rounds: int, clockwork: Clockwork) -> Result:
    values: dict[str, list[float]] = {}
    async with AsyncExitStack() as rest:
        aws = await rest.enter_async_context(run_embedded_aws(home))
        task = await rest.enter_async_context(accepting(home, aws))
        events = write_events(task)
        async with watching("handler", aws.endpoint, home / "logs") as watch:
            watched = {**task.environment, "AWS_ENDPOINT_URL": watch.url}
            await cold(OURS, events["message"], watched, 202)
            records = await watch.take()
        bare_tables = bare_stack(aws)
        await seed(aws, task.tables, bare_tables)
        script = task.scratch / "script"
        steps = [part(records, moved(task.tables, bare_tables))]
        script.write_bytes(msgspec.msgpack.encode(steps))
        bare = {**bare_tables.environment, "BENCH_SCRIPT": str(script)}
        expected = {"healthz": 200, "message": 202}
        for name, event in events.items():  # both sides' bytecode is written
            await cold(OURS, event, task.environment, expected[name])
            await cold(BARE, event, bare, expected[name])
        more = excess(await imports(OURS, task.environment), await imports(BARE, bare))
        for _ in range(rounds):
            clockwork.tick()
            for name, event in events.items():
                turns: dict[str, list[Told]] = {"ours": [], "bare": []}
                for _ in range(TURNS):
                    status = expected[name]
                    turns["ours"].append(await cold(OURS, event, task.environment, status))
                    turns["bare"].append(await cold(BARE, event, bare, status))
                for side, told in turns.items():
                    for what in ("wall", "cpu", "import", "answer"):
                        least = min(float(each[what]) for each in told) * 1000
                        values.setdefault(f"{name} {what} {side}", []).append(least)

    def row(name: str, what: str, label: str) -> Row:
        return Row(
            name=label,
            unit="ms",
            ours=tuple(values[f"{name} {what} ours"]),
            bare=tuple(values[f"{name} {what} bare"]),
            target=Target(TIMES_BARE),
        )

    def split(side: str) -> str:
        imported, answered = (
            spread(values[f"message {what} {side}"]).median for what in ("import", "answer")
        )
        return f"{imported:.0f} + {answered:.0f} ms"

    return Result(
        rows=(
            row("healthz", "wall", "cold, GET /healthz, wall"),
            row("healthz", "cpu", "cold, GET /healthz, CPU"),
            row("message", "wall", "cold, POST message, wall"),
            row("message", "cpu", "cold, POST message, CPU"),
        ),
        notes=(
            (
                f"cold: from the interpreter's first line to the answer, the better of {TURNS} "
                f"a round; import + answer of a message: ours {split('ours')}, bare "
                f"{split('bare')}"
            ),
            f"cold, AWS requests of each side in a message's answer: {tally(records, 1)}",
            f"cold, what ours imports and bare does not, or more of, in ms: {more}",
        ),
        samples=values,
    )


async def cold(module: str, event: Path, environment: Mapping[str, str], status: int) -> Told:
    """One cold start, and what it told of itself."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", str(DRIVER), module, str(event)),
        env={**inherited(), **environment},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(PATIENCE):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    lines = out.decode().splitlines()
    if process.returncode != 0 or not lines:
        raise BenchError(f"{module} ended with {process.returncode}: {err.decode()[-2000:]}")
    told: Told = msgspec.json.decode(lines[-1])
    if told["status"] != status:
        raise BenchError(f"{module} answered {told['status']} {told['body']}")
    return told


async def imports(module: str, environment: Mapping[str, str]) -> dict[str, float]:
    """Milliseconds each package takes of a handler's import, told by the interpreter itself."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-X", "importtime", "-c", f"import {module}"),
        env={**inherited(), **environment},
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(PATIENCE):
        _, told = await process.communicate()
    return by_package(told.decode())


def by_package(told: str) -> dict[str, float]:
    """What `-X importtime` says, summed by package, in milliseconds.

    A handler's own modules are one package, whichever handler: they make app and clients.
    """
    sums: dict[str, float] = {}
    for line in told.splitlines():
        alone, _, rest = line.removeprefix("import time:").partition("|")
        name = rest.rpartition("|")[2].strip().partition(".")[0]
        if line.startswith("import time:") and alone.strip().isdecimal():
            name = "own modules" if name in _OWN else name
            sums[name] = sums.get(name, 0.0) + int(alone) / 1000
    return sums


def excess(ours: Mapping[str, float], bare: Mapping[str, float]) -> str:
    """The packages that cost ours more than the bare one, most first."""
    more = {name: took - bare.get(name, 0.0) for name, took in ours.items()}
    most = sorted(more.items(), key=lambda each: -each[1])[:MOST]
    return ", ".join(f"{name} {took:.0f}" for name, took in most if took >= 1)


def write_events(task: Accepting) -> dict[str, Path]:
    """Both events as files, in the form HTTP APIs give them (payload version 2.0)."""
    message = event("POST", task.messages_path, task.key, msgspec.json.encode(task.body).decode())
    events = {"healthz": event("GET", "/healthz", None, None), "message": message}
    files: dict[str, Path] = {}
    for name, each in events.items():
        files[name] = task.scratch / f"{name}.json"
        files[name].write_bytes(msgspec.json.encode(each))
    return files


def event(method: str, path: str, key: str | None, body: str | None) -> dict[str, Any]:
    headers = {"host": "api.example.com", "x-forwarded-proto": "https", "x-forwarded-port": "443"}
    if key is not None:
        headers["authorization"] = f"Bearer {key}"
    if body is not None:
        headers |= {"content-type": "application/json", "content-length": str(len(body))}
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": "",
        "headers": headers,
        "requestContext": {
            "accountId": "000000000000",
            "apiId": "bench",
            "domainName": "api.example.com",
            "domainPrefix": "api",
            "http": {
                "method": method,
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": "192.0.2.1",
                "userAgent": "bench",
            },
            "requestId": "bench",
            "routeKey": "$default",
            "stage": "$default",
            "time": "01/Jan/2026:00:00:00 +0000",
            "timeEpoch": 1767225600000,
        },
        "body": body,
        "isBase64Encoded": False,
    }
