"""What is asked of the measurements that take long."""

from dataclasses import dataclass
from typing import Final

MOST: Final = 1000
"""Sessions on one machine: what a few thousand processes of ours may take of it."""


@dataclass(frozen=True)
class Options:
    """How many sessions, for how long."""

    sessions: tuple[int, ...] = (25, 100, 250, 500)
    """Measured at each; the last has the traffic."""
    minutes: float = 20.0
    """Of traffic."""
    rate: float = 1.0
    """Texts a session and minute, each way."""
    raw: int = 100
    """Raw neonize processes beside, at most: one takes as much memory as three of our hosts."""
    settle_seconds: float = 10.0
    """From connected to idle."""
    idle_seconds: float = 60.0
    """Over which idle processors are watched: longer than two pings of the library."""
    cycles: int = 1000
    """Starts, and stops, in a process that is shared."""


def steps(text: str) -> tuple[int, ...]:
    """`25,100`: numbers of sessions, each greater than the one before. Raises ValueError."""
    found = tuple(int(each) for each in text.split(","))
    rising = all(low < high for low, high in zip((0, *found), found, strict=False))
    if not rising or found[-1] > MOST:
        raise ValueError(f"{text} is not a rising list of numbers up to {MOST}")
    return found
