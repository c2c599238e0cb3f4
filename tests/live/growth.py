"""Whether something that is measured again and again grows, or is only restless."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import NamedTuple

WINDOWS = 8


class Growth(NamedTuple):
    """A line through the second half of samples: its rise from end to end, how unsure that is, and for an hour."""

    rise: float
    unsure: float
    per_hour: float

    def more_than(self, allowed: float) -> bool:
        """Whether it surely rises by more than that."""
        return self.rise - 3 * self.unsure > allowed


def growth(samples: Sequence[tuple[float, float]]) -> Growth:
    """Of (second, value).  Through the medians of windows: what comes and goes within one is no growth."""
    half = samples[len(samples) // 2 :]
    size = len(half) / WINDOWS
    windows = [half[int(number * size) : int((number + 1) * size)] for number in range(WINDOWS)]
    times = [statistics.median(time for time, _ in window) for window in windows]
    values = [statistics.median(value for _, value in window) for window in windows]
    slope, begin = statistics.linear_regression(times, values)
    off = sum((value - begin - slope * time) ** 2 for time, value in zip(times, values, strict=True))
    spread = sum((time - statistics.mean(times)) ** 2 for time in times)
    span = half[-1][0] - half[0][0]
    return Growth(slope * span, (off / (WINDOWS - 2) / spread) ** 0.5 * span, slope * 3600)
