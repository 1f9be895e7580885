"""Whether something grows: the slope of what was seen, and how sure that is."""

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

SURE: Final = 2.0
"""Standard errors: what chance alone stays within nineteen times of twenty."""


class Trend(NamedTuple):
    """A slope by least squares, and its standard error; both in units a second."""

    slope: float
    error: float

    @property
    def least(self) -> float:
        """The least growth that the values allow."""
        return self.slope - SURE * self.error


def trend(at: Sequence[float], values: Sequence[float]) -> Trend:
    """Of values seen at moments (seconds). Raises ValueError where there are fewer than three."""
    count = len(values)
    if count < 3 or len(at) != count or min(at) == max(at):
        raise ValueError("a slope takes three values at different moments")
    middle, mean = sum(at) / count, sum(values) / count
    width = sum((each - middle) ** 2 for each in at)
    slope = sum((x - middle) * (y - mean) for x, y in zip(at, values, strict=True)) / width
    off = sum((y - mean - slope * (x - middle)) ** 2 for x, y in zip(at, values, strict=True))
    return Trend(slope, math.sqrt(off / (count - 2) / width))
