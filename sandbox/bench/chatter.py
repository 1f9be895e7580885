"""Traffic of a crowd: every session writes to its contact and hears from it, at an even pace."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import aiohttp

from sandbox.api import ApiError
from sandbox.bench.bed import Bed, Linked, numbers
from sandbox.bench.crowd import RAW_FROM, some_at_once
from sandbox.bench.raw import Raw, RawError
from sandbox.whatsapp.control_client import ControlClient, ControlError

UNDER_WAY: Final = 16
"""Texts waited for at once; where the machine takes no more, the pace falls, and is told."""
ARRIVAL: Final = 60.0
"""Seconds the last texts may take."""
MISSED: Final = (ApiError, ControlError, RawError, aiohttp.ClientError, TimeoutError)


@dataclass
class Chatter:
    """What was written on one side, and what failed."""

    out: list[str] = field(default_factory=list[str])
    """To the contacts, as they were accepted."""
    into: Counter[str] = field(default_factory=Counter[str])
    """From the contacts, by session's number."""
    failed: int = 0
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Texts a minute, both ways."""
        return (len(self.out) + self.into.total()) / self.seconds * 60


async def chat(bed: Bed, linked: Sequence[Linked], rate: float, until: asyncio.Event) -> Chatter:
    """Ours: out by the API."""

    async def write(index: int, text: str) -> None:
        await bed.send(linked[index], text)

    people = [(each.owner, each.contact) for each in linked]
    return await _chat(bed.people, people, write, rate, until)


async def raw_chat(bed: Bed, raws: Sequence[Raw], rate: float, until: asyncio.Event) -> Chatter:
    """Raw clients: out by their send call."""
    people = [numbers(RAW_FROM + index) for index in range(len(raws))]

    async def write(index: int, text: str) -> None:
        await raws[index].send(people[index][1], [text])

    return await _chat(bed.people, people, write, rate, until)


async def _chat(
    control: ControlClient,
    people: Sequence[tuple[str, str]],
    write: Callable[[int, str], Awaitable[None]],
    rate: float,
    until: asyncio.Event,
) -> Chatter:
    """Turn after turn, each pair in its turn, until told to stop."""
    chatter = Chatter()
    if not people:
        return chatter
    pause = 60 / rate / len(people)
    places = asyncio.Semaphore(UNDER_WAY)
    begun = due = time.monotonic()

    async def exchange(index: int, text: str) -> None:
        owner, contact = people[index]
        try:
            await write(index, text)
            chatter.out.append(text)
            await control.send(contact, owner, f"to {text}")
            chatter.into[owner] += 1
        except MISSED:
            chatter.failed += 1
        finally:
            places.release()

    turn = 0
    async with asyncio.TaskGroup() as group:
        while not until.is_set():
            await places.acquire()
            index = turn % len(people)
            group.create_task(exchange(index, f"text {people[index][0]} {turn}"))
            turn += 1
            due = max(due + pause, time.monotonic() - pause)
            await asyncio.sleep(max(0.0, due - time.monotonic()))
    chatter.seconds = time.monotonic() - begun
    return chatter


async def arrived(control: ControlClient, chatter: Chatter, contacts: Sequence[str]) -> int:
    """How many of what was accepted the contacts' phones have decrypted, once no more come."""
    wanted = set(chatter.out)
    seen: set[str] = set()
    until = time.monotonic() + ARRIVAL

    async def look(index: int) -> list[str]:
        return [each.text for each in await control.received(contacts[index]) if each.text]

    while True:
        for texts in await some_at_once(range(len(contacts)), look):
            seen.update(texts)
        if wanted <= seen or time.monotonic() > until:
            return len(wanted & seen)
        await asyncio.sleep(1)
