"""Throughput: messages a second through the whole path, REST to the contacts' phones.

The floor is formed in the same round, one part after the other: every AWS request that our planes
made for these very messages, made again by a bare boto3 loop against a stack of its own on the same
emulator; then as many sends from raw neonize, with as many sessions, through the same network. Both
go through a recorder, which is how the requests are known: its price is in ours and in the floor.
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from sandbox.bench import proc
from sandbox.bench.bed import Bed, Linked, bare_stack, moved, run_bed, seed
from sandbox.bench.clockwork import Clockwork
from sandbox.bench.counting import paid, tally
from sandbox.bench.figures.latency import pair_raw
from sandbox.bench.raw import Raw, run_raw
from sandbox.bench.recorder import Watch
from sandbox.bench.replay import Player
from sandbox.bench.samples import Result, Row, Target, spread
from sandbox.bench.script import Part, Record, minting, part
from shared import clock

SHARE_OF_FLOOR: Final = 0.6
SESSIONS: Final = 3
MESSAGES: Final = 120
"""In a round, over all sessions."""
AT_ONCE: Final = 4
"""Requests in flight of each session's client."""
PATIENCE: Final = 60.0
QUIET: Final = 0.8


async def measure(home: Path, rounds: int, clockwork: Clockwork) -> Result:
    ours: list[float] = []
    floor: list[float] = []
    samples: dict[str, list[float]] = {
        "accepted_s": [],
        "aws_s": [],
        "raw_s": [],
        "requests": [],
        "refused": [],
    }
    used: list[str] = []
    kinds = ""
    async with AsyncExitStack() as rest:
        bed = await rest.enter_async_context(run_bed(home, watched=True))
        linked = [await bed.link(index) for index in range(SESSIONS)]
        raws: list[tuple[Raw, str]] = []
        for index in range(SESSIONS):
            raw = await rest.enter_async_context(run_raw(bed.network, bed.scratch, f"raw{index}"))
            raws.append((raw, await pair_raw(bed, raw, SESSIONS + index)))
        tables = bare_stack(bed.aws)
        await drive(bed, linked, MESSAGES // 4)
        await raw_drive(bed, raws, MESSAGES // 4)
        for _ in range(rounds):
            await quiet(bed)
            clockwork.tick()
            await seed(bed.aws, bed.stack.tables, tables)
            before = proc.usage()
            accepted, took = await drive(bed, linked, MESSAGES)
            used.append(proc.spent(before, proc.usage()))
            records = await quiet(bed)
            kinds = tally(records, MESSAGES)
            renamed = moved(bed.stack.tables, tables)
            aws_took, refused = await asyncio.to_thread(
                play, bed, bed.watched["api"], part_of(records, renamed)
            )
            await quiet(bed)
            raw_took = await raw_drive(bed, raws, MESSAGES)
            ours.append(MESSAGES / took)
            floor.append(MESSAGES / (aws_took + raw_took))
            for name, value in zip(
                samples,
                (accepted, aws_took, raw_took, len(records) / MESSAGES, refused),
                strict=True,
            ):
                samples[name].append(value)
    middle = {name: spread(values).median for name, values in samples.items()}
    return Result(
        rows=(
            Row(
                name="throughput",
                unit="msg/s",
                ours=tuple(ours),
                bare=tuple(floor),
                target=Target(SHARE_OF_FLOOR, kind="at least"),
            ),
        ),
        notes=(
            (
                f"throughput: {MESSAGES} messages a round over {SESSIONS} sessions of one "
                f"gateway, all accepted after {middle['accepted_s']:.2f} s. The floor is "
                f"{middle['aws_s']:.2f} s for the same {middle['requests']:.2f} AWS requests a "
                f"message from a bare boto3 loop, then {middle['raw_s']:.2f} s for as many "
                f"sends from {SESSIONS} raw neonize processes"
            ),
            f"throughput, AWS requests per message in the last round: {kinds}",
            f"throughput, who used the processors in ours in the last round: {used[-1]}",
        ),
        samples=samples,
    )


async def drive(bed: Bed, linked: Sequence[Linked], messages: int) -> tuple[float, float]:
    """Post messages to every session at once; seconds until accepted, and until all were heard."""
    each = messages // len(linked)
    begun = time.monotonic()
    accepted = begun

    async def client(session: Linked, texts: list[str]) -> None:
        nonlocal accepted
        while texts:
            _, at = await bed.send(session, texts.pop())
            accepted = max(accepted, at)

    async with asyncio.TaskGroup() as tasks:
        for session in linked:
            start = (await bed.people.person(session.contact)).received
            texts = [f"load {clock.mint('key')}" for _ in range(each)]
            tasks.create_task(hear(bed, session.contact, start + each))
            for _ in range(AT_ONCE):
                tasks.create_task(client(session, texts))
    return accepted - begun, time.monotonic() - begun


async def hear(bed: Bed, contact: str, count: int) -> None:
    """Wait until a contact has received so many messages in all."""
    async with asyncio.timeout(PATIENCE):
        while (have := (await bed.people.person(contact)).received) < count:
            await bed.people.received(contact, after=max(have, count - 10) - 1, wait=PATIENCE)


async def raw_drive(bed: Bed, raws: Sequence[tuple[Raw, str]], messages: int) -> float:
    """The same from raw clients, all at once; seconds until all were heard."""
    each = messages // len(raws)
    begun = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        for raw, contact in raws:
            start = (await bed.people.person(contact)).received
            texts = [f"raw {clock.mint('key')}" for _ in range(each)]
            tasks.create_task(hear(bed, contact, start + each))
            tasks.create_task(raw.send(contact, texts))
    return time.monotonic() - begun


async def quiet(bed: Bed) -> list[Record]:
    """What is still being asked for, until it is done."""
    records: list[Record] = []
    while True:
        await asyncio.sleep(QUIET)
        more = [each for watch in bed.watched.values() for each in paid(await watch.take())]
        records += more
        if not more:
            return records


def part_of(records: Sequence[Record], renamed: dict[str, str]) -> Part:
    return part(sorted(records, key=lambda each: each.order), renamed)


def play(bed: Bed, watch: Watch, script: Part) -> tuple[float, int]:
    """Make the requests again, one after the other; seconds, and how many were refused."""
    player = Player(
        minting(clock.millis() & 0xFFFF),
        endpoint_url=watch.url,
        region_name=bed.aws.environment["AWS_REGION"],
        aws_access_key_id=bed.aws.environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=bed.aws.environment["AWS_SECRET_ACCESS_KEY"],
    )
    begun = time.monotonic()
    player.play(script)
    return time.monotonic() - begun, player.refused
