"""Latency: from the API's 202 until the contact's phone has decrypted the message.

Beside it raw neonize, from its send call, and raw neonize behind a queue, from the queue's answer:
the embedded AWS looks only every 100 ms for what a long poll waits for, and that is not ours. All
one message at a time, over the same network.
"""

import asyncio
import random
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from sandbox.bench.bed import PATIENCE, Bed, Linked, numbers, run_bed
from sandbox.bench.behind_queue import BehindQueue, behind_queue
from sandbox.bench.clockwork import Clockwork
from sandbox.bench.raw import Raw, run_raw
from sandbox.bench.samples import Result, Row, percentile

MESSAGES: Final = 20
"""Of each side in a round."""
STEP: Final = 0.1
"""Seconds between two looks of the embedded AWS (ministack 1.5.33) for what a poll waits for."""
WARM_UP: Final = 3
"""Messages not counted: the first to a contact makes the Signal session."""


async def measure(home: Path, rounds: int, clockwork: Clockwork) -> Result:
    async with AsyncExitStack() as rest:
        bed = await rest.enter_async_context(run_bed(home))
        linked = await bed.link(0)
        raw = await rest.enter_async_context(run_raw(bed.network, bed.scratch, "raw"))
        raw_contact = await pair_raw(bed, raw, 1)
        queued = await rest.enter_async_context(behind_queue(bed.aws, raw, raw_contact))
        for turn in range(WARM_UP):
            await ours(bed, linked, f"warm-up {turn}")
            await bare(bed, raw, raw_contact, f"raw warm-up {turn}")
            await behind(bed, queued, raw_contact, f"queued warm-up {turn}")
        our_rounds: list[list[float]] = []
        bare_rounds: list[list[float]] = []
        queued_rounds: list[list[float]] = []
        for number in range(rounds):
            clockwork.tick()
            texts = [f"message {number}.{turn}" for turn in range(MESSAGES)]
            our_rounds.append([await ours(bed, linked, text) for text in texts])
            bare_rounds.append([await bare(bed, raw, raw_contact, f"raw {text}") for text in texts])
            queued_rounds.append(
                [await behind(bed, queued, raw_contact, f"queued {text}") for text in texts]
            )

    def row(name: str, share: float, other: list[list[float]]) -> Row:
        return Row(
            name=name,
            unit="ms",
            ours=tuple(percentile(each, share) for each in our_rounds),
            bare=tuple(percentile(each, share) for each in other),
        )

    return Result(
        rows=(
            row("latency, median", 0.5, bare_rounds),
            row("latency, 95th", 0.95, bare_rounds),
            row("... raw behind a queue, median", 0.5, queued_rounds),
            row("... raw behind a queue, 95th", 0.95, queued_rounds),
        ),
        notes=(
            (
                f"latency: {MESSAGES} messages a round, one at a time, at random moments; bare "
                "is raw neonize from its send call. Ours goes through a queue, and the "
                f"embedded AWS looks only every {STEP * 1000:.0f} ms for what a long poll waits "
                "for: so also beside raw neonize behind a queue, from the queue's answer"
            ),
        ),
        samples={
            "ours_ms": [each for values in our_rounds for each in values],
            "bare_ms": [each for values in bare_rounds for each in values],
            "queued_ms": [each for values in queued_rounds for each in values],
        },
    )


async def pair_raw(bed: Bed, raw: Raw, index: int) -> str:
    """Link a raw client to a new person; the number of the contact it shall write to."""
    owner, contact = numbers(index)
    await bed.people.create_person(owner, f"Raw owner {index}")
    await bed.people.create_person(contact, f"Raw contact {index}")
    await raw.until("loaded")
    await raw.pair(bed.people, owner)
    return contact


async def out_of_step() -> None:
    """Wait for any part of the embedded AWS's step, so that no side falls in step with it."""
    await asyncio.sleep(random.uniform(0, STEP))  # noqa: S311 - not a secret


async def ours(bed: Bed, linked: Linked, text: str) -> float:
    """Milliseconds from the acceptance of a message to its decryption."""
    await out_of_step()
    async with asyncio.TaskGroup() as tasks:
        heard = tasks.create_task(hear(bed, linked.contact, text))
        await asyncio.sleep(0)
        _, accepted = await bed.send(linked, text)
    return (heard.result() - accepted) * 1000


async def bare(bed: Bed, raw: Raw, contact: str, text: str) -> float:
    """Milliseconds from raw neonize's send call to the decryption of its message."""
    await out_of_step()
    async with asyncio.TaskGroup() as tasks:
        heard = tasks.create_task(hear(bed, contact, text))
        await asyncio.sleep(0)
        await raw.send(contact, [text])
    return (heard.result() - raw.called(text)) * 1000


async def behind(bed: Bed, queued: BehindQueue, contact: str, text: str) -> float:
    """Milliseconds from the queue's answer to the decryption of the message raw neonize sent."""
    await out_of_step()
    async with asyncio.TaskGroup() as tasks:
        heard = tasks.create_task(hear(bed, contact, text))
        await asyncio.sleep(0)
        accepted = await queued.put(text)
    return (heard.result() - accepted) * 1000


async def hear(bed: Bed, contact: str, text: str) -> float:
    """The moment at which a contact was seen to have this text."""
    known = (await bed.people.person(contact)).received
    await bed.people.wait_for_text(contact, text, after=known - 1, wait=PATIENCE)
    return time.monotonic()
