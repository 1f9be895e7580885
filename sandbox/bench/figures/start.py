"""Start: from the acceptance of `start` until a QR can be read through the API.

Beside it raw neonize from the exec of a fresh process to its QR callback, and for honesty also a
raw neonize that had everything imported and only had to connect.
"""

import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from sandbox.bench.bed import Bed, BenchError, run_bed
from sandbox.bench.clockwork import Clockwork
from sandbox.bench.raw import run_raw
from sandbox.bench.samples import Result, Row, Target

TIMES_RAW: Final = 1.5
SETTLED: Final = "stopped"


async def measure(home: Path, rounds: int, clockwork: Clockwork) -> Result:
    ours: list[float] = []
    fresh: list[float] = []
    loaded: list[float] = []
    async with AsyncExitStack() as rest:
        bed = await rest.enter_async_context(run_bed(home))
        session = await bed.tenant.api.ok("POST", "/v1/sessions", {"name": "start"})
        path = f"/v1/sessions/{session['id']}"
        before = await bed.qr(path)
        await stop(bed, path)
        for number in range(rounds):
            clockwork.tick()
            took, before = await start(bed, path, before)
            ours.append(took)
            await stop(bed, path)
            took_fresh, took_loaded = await raw_start(bed, f"raw{number}")
            fresh.append(took_fresh)
            loaded.append(took_loaded)
    target = Target(TIMES_RAW)
    return Result(
        rows=(
            Row(name="start to QR", unit="ms", ours=tuple(ours), bare=tuple(fresh), target=target),
            Row(name="... raw, imported already", unit="ms", ours=tuple(ours), bare=tuple(loaded)),
        ),
        notes=(
            (
                "start: ours from the 202 of `start` to the QR in an answer of the API; bare "
                "from the exec of a fresh process (python, neonize) to its QR callback, and "
                "below it from the connect call of a process that had everything imported"
            ),
        ),
    )


async def start(bed: Bed, path: str, before: str) -> tuple[float, str]:
    """Milliseconds until a QR that was not there before, and that QR."""
    answer = await bed.tenant.api.call("POST", f"{path}/start")
    accepted = time.monotonic()
    if answer.status != 202:
        raise BenchError(f"start answered {answer.status} {answer.content!r}")
    while (qr := await bed.qr(path)) == before:
        pass
    return (time.monotonic() - accepted) * 1000, qr


async def stop(bed: Bed, path: str) -> None:
    await bed.tenant.api.ok("POST", f"{path}/stop", Prefer="wait=20")
    await bed.reach(path, SETTLED)


async def raw_start(bed: Bed, name: str) -> tuple[float, float]:
    """Milliseconds to the QR: from the exec, and from a connect after everything was imported."""
    async with run_raw(bed.network, bed.scratch, f"{name}-fresh") as raw:
        raw.tell("connect")
        fresh = float((await raw.until("qr"))["at"]) - raw.begun
    async with run_raw(bed.network, bed.scratch, f"{name}-loaded") as raw:
        await raw.until("loaded")
        told = raw.tell("connect")
        loaded = float((await raw.until("qr"))["at"]) - told
    return fresh * 1000, loaded * 1000
