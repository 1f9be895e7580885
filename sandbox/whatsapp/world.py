"""The server as a whole: who exists, who is connected, what waits for whom.

Everything here runs on one event loop and is changed without waiting, so no step needs a lock.
Work that does wait is a task of the server's own group; its failure is logged and stays its own.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Literal

from sandbox.whatsapp.curve import Rand
from sandbox.whatsapp.directory import MAX_PENDING, Device, Directory, User
from sandbox.whatsapp.groups import Groups
from sandbox.whatsapp.media import Media
from sandbox.whatsapp.wabinary import Node

logger = logging.getLogger(__name__)

DialFault = Literal["hang", "mute", "cut"]

KEPT = {"message", "receipt", "notification", "call"}  # redelivered until the client confirms


class World:
    """`clock` gives Unix seconds; `rand` random bytes."""

    def __init__(
        self, tasks: asyncio.TaskGroup, clock: Callable[[], int], rand: Rand, media: Media
    ) -> None:
        self.directory = Directory()
        self.groups = Groups()
        self.media = media
        self.clock = clock
        self.rand = rand
        self._tasks = tasks
        self._running: set[asyncio.Task[None]] = set()
        self._down_until = 0.0
        self._dials: deque[DialFault] = deque()
        self._ids = 0
        self._mail: deque[tuple[Device, Node]] = deque()
        self._sorting = False

    def new_id(self) -> str:
        """An id for a stanza of the server's own; clients' ids never start like this."""
        self._ids += 1
        return f"sandbox{self._ids}"

    def message_id(self) -> str:
        """An id for a message of a simulated person."""
        return "3A" + self.rand(9).hex().upper()

    def spawn(self, work: Coroutine[object, object, object], name: str) -> None:
        """Start work that ends with the server, if not before."""
        task = self._tasks.create_task(self._guarded(work, name), name=name)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def stop(self) -> None:
        for task in list(self._running):
            task.cancel()

    def go_down(self, seconds: float) -> None:
        """Refuse new connections for so long, as if there were no internet."""
        self._down_until = asyncio.get_running_loop().time() + seconds

    def is_down(self) -> bool:
        return asyncio.get_running_loop().time() < self._down_until

    def fail_dials(self, kind: DialFault, times: int) -> None:
        """What the next dials meet, in the place of what was asked for before."""
        self._dials.clear()
        self._dials.extend(kind for _ in range(times))

    def dial(self) -> DialFault | None:
        """What a dial meets now."""
        return self._dials.popleft() if self._dials else None

    async def _guarded(self, work: Coroutine[object, object, object], name: str) -> None:
        try:
            await work
        except Exception:
            logger.exception("sandbox.task_failed", extra={"task": name})

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Do `action` after a while; at once if there is nothing to wait for."""
        if seconds <= 0:
            action()
        else:
            self.spawn(_after(seconds, action), "later")

    def deliver(self, device: Device, stanza: Node) -> None:
        """Hand a stanza to a device, or keep it until the device is back.

        Order is kept. What a companion has not confirmed is sent again at its next login. A
        phone is handed its mail after the present step, so that an answer never overtakes.
        """
        faults = device.user.faults
        if faults.held and stanza.tag == "message":
            faults.kept.append((device, stanza))
            return
        if device.number and stanza.tag in KEPT:
            self._keep(device, stanza)
        if device.number and faults.silent:
            return
        if device.number == 0:
            self._mail.append((device, stanza))
            if not self._sorting:
                self._sorting = True
                asyncio.get_running_loop().call_soon(self._hand_out)
        elif device.outlet is not None:
            device.outlet.send(stanza)

    def _keep(self, device: Device, stanza: Node) -> None:
        if len(device.pending) >= MAX_PENDING:
            device.pending.pop(next(iter(device.pending)))
            logger.warning("sandbox.pending_overflow", extra={"device": device.number})
        device.pending[pending_key(stanza)] = stanza

    def _hand_out(self) -> None:
        self._sorting = False
        for _ in range(len(self._mail)):
            device, stanza = self._mail.popleft()
            if device.outlet is None:
                continue
            try:
                device.outlet.send(stanza)
            except Exception:
                logger.exception("sandbox.phone_failed", extra={"stanza": stanza.tag})
        if self._mail and not self._sorting:
            self._sorting = True
            asyncio.get_running_loop().call_soon(self._hand_out)

    def confirm(self, device: Device, tag: str, stanza_id: str, kind: str = "") -> None:
        """Forget a stanza the device has dealt with."""
        device.pending.pop((tag, stanza_id, kind), None)

    def release(self, user: User) -> None:
        """End the holding back of a user's messages, and the silence of its connections."""
        user.faults.held = user.faults.silent = False
        for device in user.companions:
            if device.outlet is not None:
                for stanza in list(device.pending.values()):
                    device.outlet.send(stanza)
        while user.faults.kept:
            self.deliver(*user.faults.kept.popleft())


def pending_key(stanza: Node) -> tuple[str, str, str]:
    """What a client's confirmation names: a message by id alone, the rest by id and type."""
    kind = "" if stanza.tag == "message" else stanza.text("type")
    return stanza.tag, stanza.text("id"), kind


async def _after(seconds: float, action: Callable[[], None]) -> None:
    await asyncio.sleep(seconds)
    action()
