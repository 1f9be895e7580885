"""`Prefer: wait=N` (RFC 7240): the answer waits for what was ordered, for a while.

The row is read again with growing pauses; between the reads nothing is held, no thread and no
connection.
"""

import asyncio
from collections.abc import Callable
from typing import Final, TypeVar

from control_plane.call import Call

T = TypeVar("T")

FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 1.0
GROWTH: Final = 1.5


async def until(call: Call, read: Callable[[], T], settled: Callable[[T], bool]) -> T:
    """What `read` returns once it is settled, or when the time asked for is over."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + call.wait
    pause = FIRST_PAUSE
    while True:
        seen = await call.run(read)
        left = deadline - loop.time()
        if settled(seen) or left <= 0:
            return seen
        await asyncio.sleep(min(pause, left))
        pause = min(pause * GROWTH, LONGEST_PAUSE)


def applied(call: Call) -> dict[str, str]:
    """Says that the preference was honoured, where there was one."""
    return {"Preference-Applied": f"wait={call.wait}"} if call.wait else {}
