"""A gateway's outbox and dispatcher in a process of their own, which is killed at one step.

Started with one line of JSON. The step is the n-th of its kind, before it begins or after it is
done: a request to AWS, by botocore's name, or a `post` to the receiver.
"""

import asyncio
import os
import signal
import sys
from collections import Counter
from typing import Any, Literal, TypeVar
from unittest.mock import patch

import msgspec

from gateway import delivery
from gateway.aws import Aws
from gateway.delivery import Exchange, Post
from gateway.directory import Directory
from gateway.dispatcher import Dispatcher
from gateway.egress import Egress
from gateway.frames import Entry
from gateway.metrics import Metrics
from gateway.outbox import Outbox
from shared import clock
from shared.aws import Op
from shared.env import Settings
from shared.events import SessionEvent
from shared.keyring import Keyring
from shared.session import Session

T = TypeVar("T")

SWEEPS = "Due"
"""The index whose queries are the sweeper's: they come by the clock, and are not counted."""


class Part(msgspec.Struct, frozen=True):
    """What the process is to do, and where it ends."""

    settings: Settings
    session: Session
    event: SessionEvent
    kind: str
    nth: int
    moment: Literal["before", "after"]


class Fate:
    """Kills the process at its step."""

    def __init__(self, part: Part) -> None:
        self._part = part
        self._seen: Counter[str] = Counter()

    def reached(self, kind: str, moment: str) -> None:
        self._seen[kind] += moment == "before"
        if (kind, self._seen[kind], moment) == (self._part.kind, self._part.nth, self._part.moment):
            os.kill(os.getpid(), signal.SIGKILL)


class MortalAws(Aws):
    """Requests during which the process may end."""

    def __init__(self, settings: Settings, fate: Fate) -> None:
        super().__init__(settings)
        self._fate = fate

    async def run(self, op: Op[T]) -> T:
        params: dict[str, Any] = op.params(self.places)
        if op.action == "receive_message" or params.get("IndexName") == SWEEPS:
            return await super().run(op)
        self._fate.reached(op.action, "before")
        answer = await super().run(op)
        self._fate.reached(op.action, "after")
        return answer


class MortalEgress(Egress):
    """Posts during which the process may end."""

    def __init__(self, fate: Fate) -> None:
        super().__init__("loopback", deadline=5)
        self._fate = fate

    async def post(self, post: Post) -> Exchange:
        self._fate.reached("post", "before")
        exchange = await super().post(post)
        self._fate.reached("post", "after")
        return exchange


async def live(part: Part) -> None:
    """Record the event, deliver it, and go on until the end comes."""
    fate = Fate(part)
    async with (
        MortalAws(part.settings, fate) as aws,
        MortalEgress(fate) as egress,
    ):
        directory = Directory(aws, Keyring.parse(part.settings.secret).seals, memory=1)
        metrics = Metrics()
        dispatcher = Dispatcher(
            places=part.settings,
            aws=aws,
            directory=directory,
            egress=egress,
            metrics=metrics,
            now=clock.millis,
        )
        outbox = Outbox(
            aws=aws,
            directory=directory,
            deliverer=dispatcher,
            fenced=lambda _: None,
            metrics=metrics,
            now=clock.millis,
        )
        async with dispatcher, outbox:
            await outbox.record(part.session, [Entry(sequence=1, event=part.event)])
            await asyncio.Event().wait()


if __name__ == "__main__":
    with patch.object(delivery, "SCHEDULE", (0, *[clock.SECOND] * 10)):
        asyncio.run(live(msgspec.json.decode(sys.stdin.readline(), type=Part)))
