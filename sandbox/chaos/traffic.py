"""Numbered texts both ways for every session, and the books that are kept of them.

The tenant's client does what the API's documentation asks of one: a key for each order, the same
order again while the answer is an error that passes, one after the other.
"""

import asyncio
import random
import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp

from sandbox.bench.bed import Linked
from sandbox.chaos.ledger import Connection, Heard, Ledger, Order, Told, Written
from sandbox.chaos.stage import Stage
from sandbox.receiver import Delivered

LISTEN: Final = 20.0
"""Seconds a question for what a contact heard stays open."""
AGAIN: Final = 0.3
"""Seconds before an order is repeated."""
GIVE_UP: Final = 90.0
"""Seconds for which an order is repeated."""
LOOK: Final = 0.05
RESENDS: Final = 4
"""Every so manieth order is to be sent again rather than left uncertain."""


class Traffic:
    """What goes in and out of the stage while it runs."""

    def __init__(self, stage: Stage, ledger: Ledger, every: float) -> None:
        self._stage = stage
        self._ledger = ledger
        self._every = every
        self._stopping = asyncio.Event()
        self._read = 0
        self.sends: list[asyncio.Task[None]] = []
        self._of = {linked.owner: linked.id for linked in stage.sessions}

    async def order(self, linked: Linked) -> None:
        """The tenant's client, for one session: texts until we stop, each until it is accepted."""
        number = 0
        while not await self._pause():
            number += 1
            resend = number % RESENDS == 0
            text = f"out {number}"
            body = {
                "to": linked.contact,
                "text": text,
                "on_uncertain": "resend" if resend else "report",
            }
            at = time.monotonic()
            message_id = await self._accepted(linked, body, at + GIVE_UP)
            self._ledger.orders.append(
                Order(
                    session=linked.id,
                    text=text,
                    at=at,
                    accepted_at=None if message_id is None else time.monotonic(),
                    message_id=message_id,
                    resend=resend,
                )
            )

    async def _accepted(self, linked: Linked, body: Any, until: float) -> str | None:
        key = str(uuid.uuid4())
        while time.monotonic() < until:
            try:
                answer = await self._stage.api.call(
                    "POST", f"{linked.path}/messages", body, Idempotency_Key=key
                )
            except (aiohttp.ClientError, TimeoutError):
                answer = None
            if answer is not None and answer.status == 202:
                return answer.json["id"]
            await asyncio.sleep(AGAIN)
        return None

    async def write(self, linked: Linked) -> None:
        """The contact: texts until we stop."""
        number = 0
        while not await self._pause():
            number += 1
            text = f"in {number}"
            at = time.monotonic()
            await self._stage.people.send(linked.contact, linked.owner, text)
            self._ledger.written.append(Written(linked.id, text, at))

    async def hear(self, linked: Linked) -> None:
        """What the contact's phone decrypts, as it comes."""
        after = -1
        while True:
            for each in await self._stage.people.received(linked.contact, after=after, wait=LISTEN):
                self._ledger.heard.append(Heard(linked.id, each.text, time.monotonic()))
                after = each.index

    async def listen(self) -> None:
        """What the webhooks' receiver takes, as it comes."""
        while True:
            seen = self._stage.receiver.seen
            fresh, self._read = seen[self._read :], len(seen)
            self._ledger.told += [told(each) for each in fresh if each.verified]
            await asyncio.sleep(LOOK)

    async def look(self) -> None:
        """Read the server's logbook."""
        self._ledger.connections = [
            Connection(self._of[each.owner], each.since, each.until)
            for each in await self._stage.people.logins()
            if each.owner in self._of
        ]

    async def stop(self) -> None:
        """Send nothing more, once what is being sent is in the books; what comes is still entered.

        An order under way may have been accepted already: it would be lost without anybody having
        waited for it.
        """
        self._stopping.set()
        await asyncio.wait(self.sends)

    async def _pause(self) -> bool:
        """Wait for about one pace; whether it is time to stop."""
        seconds = self._every * random.uniform(0.8, 1.2)  # noqa: S311 (jitter, not a secret)
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return False
        return True


def told(delivered: Delivered) -> Told:
    """A webhook as the books keep it."""
    event = delivered.event
    data = event["data"]
    return Told(
        event_id=delivered.id,
        type=event["type"],
        session=event["session_id"],
        at=delivered.at,
        sequence=event["sequence"],
        message_id=data.get("message_id"),
        text=data.get("content", {}).get("text"),
    )


@asynccontextmanager
async def run_traffic(stage: Stage, ledger: Ledger, every: float) -> AsyncGenerator[Traffic]:
    """Traffic until the context ends, or until it is told to stop."""
    traffic = Traffic(stage, ledger, every)
    async with asyncio.TaskGroup() as tasks:
        traffic.sends = [
            tasks.create_task(work)
            for linked in stage.sessions
            for work in (traffic.order(linked), traffic.write(linked))
        ]
        ears = [
            tasks.create_task(traffic.listen()),
            *(tasks.create_task(traffic.hear(linked)) for linked in stage.sessions),
        ]
        try:
            yield traffic
        finally:
            _cancel([*traffic.sends, *ears])


def _cancel(tasks: Sequence["asyncio.Task[None]"]) -> None:
    for task in tasks:
        task.cancel()
