"""Memory: what a connected, idle session host has of its own; beside it a raw neonize process."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from sandbox.bench import proc
from sandbox.bench.bed import Bed, BenchError, run_bed
from sandbox.bench.clockwork import Clockwork
from sandbox.bench.figures.latency import pair_raw
from sandbox.bench.raw import run_raw
from sandbox.bench.samples import Result, Row, Target

OWN_MIB: Final = 30.0
SETTLE: Final = 4.0
"""Seconds from connected to idle: history sync, prekeys and the first receipts are over."""


async def measure(home: Path, rounds: int, clockwork: Clockwork) -> Result:
    """Each round links one more session and one more raw client, and keeps them."""
    ours: list[proc.Memory] = []
    bare: list[proc.Memory] = []
    async with AsyncExitStack() as rest:
        bed = await rest.enter_async_context(run_bed(home))
        pids: list[int] = []
        raw_pids: list[int] = []
        for number in range(rounds):
            clockwork.tick()
            pids.append(await new_host(bed, 2 * number, set(pids)))
            raw = await rest.enter_async_context(run_raw(bed.network, bed.scratch, f"raw{number}"))
            await pair_raw(bed, raw, 2 * number + 1)
            raw_pids.append(raw.process.pid)
        await asyncio.sleep(SETTLE)
        ours = [proc.memory(pid) for pid in pids]
        bare = [proc.memory(pid) for pid in raw_pids]

    return Result(
        rows=(
            Row(
                name="memory, private",
                unit="MiB",
                ours=tuple(each.private for each in ours),
                bare=tuple(each.private for each in bare),
                target=Target(OWN_MIB, of="value"),
            ),
            Row(
                name="memory, PSS",
                unit="MiB",
                ours=tuple(each.proportional for each in ours),
                bare=tuple(each.proportional for each in bare),
            ),
        ),
        notes=(
            (
                f"memory: {rounds} hosts and {rounds} raw processes at once, each with one "
                "connected, idle session; the target is about what is private, which would be "
                "free again if the process ended"
            ),
        ),
    )


async def new_host(bed: Bed, index: int, known: set[int]) -> int:
    """Link one more session; its host's process id."""
    await bed.link(index)
    found = proc.hosts(bed.stack.gateway.process.pid) - known
    if len(found) != 1:
        raise BenchError(f"a new session has {len(found)} new hosts instead of one")
    return found.pop()
