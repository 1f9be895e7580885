"""What a day asks of AWS: requests by kind, the units they cost, and each key's busiest second."""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any, Final

READ_UNIT: Final = 4_096
"""Bytes of a strongly consistent read unit; a query is rounded up as a whole (DynamoDB)."""
KEY_READS: Final = 3_000
KEY_WRITES: Final = 1_000
"""Units a second that DynamoDB gives a partition."""


def item_bytes(item: Mapping[str, Mapping[str, Any]]) -> int:
    """An item as DynamoDB counts it: names and values. Numbers are counted by their digits."""
    return sum(
        len(name) + sum(len(str(value)) for value in tagged.values())
        for name, tagged in item.items()
    )


def units(size: float) -> int:
    """Read units of a query that passes over so many bytes; one where there are none."""
    return max(1, math.ceil(size / READ_UNIT))


class Meter:
    """Adds up requests and the units they cost, and by second what each key had to bear."""

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self.reads = 0.0
        self.writes = 0.0
        self._seconds: defaultdict[tuple[str, int], list[float]] = defaultdict(lambda: [0.0, 0.0])
        self._steady: dict[str, tuple[float, float]] = {}

    def forget(self) -> None:
        """Begin anew: what made the fleet is no part of its day."""
        self.requests.clear()
        self._seconds.clear()
        self.reads = self.writes = 0.0

    def read(self, kind: str, key: str, cost: float, at: float) -> None:
        self.requests[kind] += 1
        self.reads += cost
        self._seconds[key, int(at)][0] += cost

    def write(self, kind: str, key: str, at: float) -> None:
        self.requests[kind] += 1
        self.writes += 1
        self._seconds[key, int(at)][1] += 1

    def quiet(self, kind: str, key: str, often: float, seconds: float, cost: float) -> None:
        """A stretch in which a key is read so often a second; a cost of 0 is a write."""
        self.requests[kind] += round(often * seconds)
        if cost:
            self.reads += often * seconds * cost
        else:
            self.writes += often * seconds
        reads, writes = self._steady.get(key, (0.0, 0.0))
        busy = (reads, max(writes, often)) if not cost else (max(reads, often * cost), writes)
        self._steady[key] = busy

    def peaks(self) -> dict[str, tuple[float, float]]:
        """The most read and write units of a second, by key."""
        most = dict(self._steady)
        for (key, _), (reads, writes) in self._seconds.items():
            before = most.get(key, (0.0, 0.0))
            most[key] = max(before[0], reads), max(before[1], writes)
        return most


def load(reads: float, writes: float) -> float:
    """The share of what a partition can bear."""
    return max(reads / KEY_READS, writes / KEY_WRITES)
