"""Group commit: what many hand in while one request is under way goes into the next, together.

Alone, an item is sent at once; under load, a request carries as many as fit. Nothing waits for a
timer, and one request at a time keeps the order in which items were handed in.

Where they belong to many, owners take turns, so that one who hands in a hundred times as much as
the others delays itself alone; only the items of one line of an owner keep their order.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Any, Generic, Protocol, Self, TypeVar

import msgspec

from shared.errors import Unavailable

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)

Outcomes = Sequence[Exception | None]
"""Of each item of a flush, in order: what went wrong with it, if anything."""

Turn = tuple[Hashable, Hashable]
"""Whose turn an item is: an owner, such as a tenant, and one of its lines, such as a session."""


class Room(Protocol[T_contra]):
    """What a flush has room for, and what it has taken in."""

    def fits(self, item: T_contra, /) -> bool:
        """Whether one more goes beside those taken in."""
        ...

    def take(self, item: T_contra, /) -> None:
        """It goes."""
        ...


class Most:
    """Room for so many, whatever they are."""

    def __init__(self, number: int) -> None:
        self._left = number

    def fits(self, item: object) -> bool:
        del item
        return self._left > 0

    def take(self, item: object) -> None:
        del item
        self._left -= 1


class _Handed(msgspec.Struct, Generic[T], frozen=True):
    """An item, and who waits for it."""

    item: T
    done: asyncio.Future[None]


class _Lines(Generic[T]):
    """What waits: a queue for each line, in order of the turns of owners and of their lines."""

    def __init__(self, turn: Callable[[T], Turn]) -> None:
        self._turn = turn
        self._owners: OrderedDict[Hashable, OrderedDict[Hashable, deque[_Handed[T]]]] = (
            OrderedDict()
        )
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, handed: _Handed[T]) -> None:
        owner, line = self._turn(handed.item)
        lines = self._owners.get(owner)
        if lines is None:
            lines = self._owners[owner] = OrderedDict()
        waiting = lines.get(line)
        if waiting is None:
            waiting = lines[line] = deque()
        waiting.append(handed)
        self._count += 1

    def take(self, fits: Callable[[T], bool]) -> _Handed[T] | None:
        """The next one; None where there is none, or it does not fit and keeps its turn."""
        if not self._owners:
            return None
        owner, lines = next(iter(self._owners.items()))
        line, waiting = next(iter(lines.items()))
        if not fits(waiting[0].item):
            return None
        handed = waiting.popleft()
        self._count -= 1
        _had_turn(lines, line, over=not waiting)
        _had_turn(self._owners, owner, over=not lines)
        return handed


class Gather(Generic[T]):
    """Runs `flush` with as many items as its room holds, one call at a time."""

    def __init__(
        self,
        flush: Callable[[Sequence[T]], Awaitable[Outcomes]],
        room: Callable[[], Room[T]],
        turn: Callable[[T], Turn] = lambda _: (None, None),
    ) -> None:
        """`room` gives the room of the next flush; its first item always fits.

        One that does not fit ends a flush and begins the next, so that no smaller ones overtake it.
        `turn` says whose an item is; by default all are one's, and keep their order.
        """
        self._flush = flush
        self._room = room
        self._waiting = _Lines(turn)
        self._arrived = asyncio.Event()
        self._tasks = asyncio.TaskGroup()
        self._closing = False
        self._leash: asyncio.Timeout | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        self._tasks.create_task(self._run(), name="gather")
        return self

    async def __aexit__(self, *_: object) -> None:
        """Flush what is waiting, then end."""
        self._closing = True
        self._arrived.set()
        await self._tasks.__aexit__(None, None, None)

    def add(self, item: T) -> asyncio.Future[None]:
        """Hand in; the future is done once the item was flushed, with what went wrong if it did."""
        if self._closing:
            raise RuntimeError("nothing is gathered any more")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(_Handed(item, done))
        self._arrived.set()
        return done

    def cut_off(self) -> None:
        """End the flush that is under way, whatever it waits for: its items fail as Unavailable."""
        if self._leash is not None:
            self._leash.reschedule(asyncio.get_running_loop().time())

    async def _run(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._waiting:
                # Whoever is ready to run hands in first, so that a burst is one request, not two.
                await asyncio.sleep(0)
                await self._once()
            if self._closing:
                return

    async def _once(self) -> None:
        items: list[T] = []
        done: list[asyncio.Future[None]] = []
        room = self._room()
        while handed := self._waiting.take(lambda item: not items or room.fits(item)):
            room.take(handed.item)
            items.append(handed.item)
            done.append(handed.done)
        leash = self._leash = asyncio.timeout(None)
        try:
            async with leash:
                outcomes = await self._flush(items)
        except Exception as error:  # noqa: BLE001 - it is theirs who handed the items in
            cut = leash.expired()
            outcomes = [Unavailable("gather", "flush", "cut off") if cut else error] * len(items)
        finally:
            self._leash = None
        for future, error in zip(done, outcomes, strict=True):
            if future.done():
                continue
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)


def _had_turn(turns: OrderedDict[Hashable, Any], who: Hashable, *, over: bool) -> None:
    if over:
        del turns[who]
    else:
        turns.move_to_end(who)
