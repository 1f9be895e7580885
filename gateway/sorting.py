"""Failures of a command, sorted by where they fell: before our doing, or in it.

What was wrong with the command itself will be wrong again: it is parked for people to look at.
What failed because of us, of AWS or of a host that was not there is given back to its queue.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from shared.commands import Command, SendMessage
from shared.errors import Contended, Expired, Foreign, Forged, Malformed, NotHeld, Unavailable
from shared.queue import Received

FIRST_PAUSE: Final = 2
"""Seconds before a command is seen again that failed because of us; doubled every time."""
LONGEST_PAUSE: Final = 60
LAST_PAUSE: Final = 3600
"""Likewise, where a command is about to be moved away and not even that could be recorded."""


class Fate(StrEnum):
    """What happens to the queue's message."""

    DONE = "done"
    PARK = "park"
    GIVE_BACK = "give_back"


@dataclass(frozen=True, slots=True)
class Settlement:
    """A message's fate, why, and for how many seconds it is not to be seen if it is given back."""

    fate: Fate
    reason: str = ""
    pause: int = 0


@dataclass(frozen=True, slots=True)
class Order:
    """A message of the queue, and the command in it or what is wrong with it."""

    message: Received
    command: Command | Malformed


def sort(fault: Exception | None, count: int) -> Settlement:
    """The fate of a command that was received `count` times and ended in `fault`."""
    match fault:
        case None:
            return Settlement(Fate.DONE)
        case Forged():
            return Settlement(Fate.PARK, "forged")
        case Expired():
            return Settlement(Fate.PARK, "expired")
        case Foreign():
            return Settlement(Fate.PARK, "foreign")
        case Malformed():
            return Settlement(Fate.PARK, "malformed")
        case NotHeld():
            reason = "not_held"
        case Unavailable() | Contended():
            reason = "unavailable"
        case _:
            reason = "defect"
    pause = min(FIRST_PAUSE * 2 ** min(max(count, 1) - 1, 10), LONGEST_PAUSE)
    return Settlement(Fate.GIVE_BACK, reason, pause)


def worn(settlement: Settlement, count: int, receives: int) -> bool:
    """Whether a command is to be given back that its queue gives out only `receives` times.

    The last time but one is ours: the last is kept for a gateway that dies over it.
    """
    return settlement.fate is Fate.GIVE_BACK and count >= receives - 1


def groups(orders: Iterable[Order]) -> list[list[Order]]:
    """The orders of each message group, in their order."""
    by_group: dict[str, list[Order]] = {}
    for order in orders:
        by_group.setdefault(order.message.group, []).append(order)
    return list(by_group.values())


def runs(orders: Iterable[Order]) -> Iterator[list[Order]]:
    """Orders that may be in hand together: messages in a row; everything else waits and is alone.

    A session sends one message at a time anyway; handing it the next before the last is recorded
    keeps its socket busy.
    """
    run: list[Order] = []
    for order in orders:
        if isinstance(order.command, SendMessage):
            run.append(order)
            continue
        if run:
            yield run
            run = []
        yield [order]
    if run:
        yield run
