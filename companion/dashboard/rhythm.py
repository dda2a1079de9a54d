"""Find how often a device was pinged at a time: the interval may have been another one earlier. No I/O."""

from bisect import bisect_right
from collections.abc import Iterable
from functools import cache
from itertools import pairwise
from statistics import median
from typing import Final

from companion.usrloc.contact import SILENT_INTERVALS

NEIGHBOURS: Final = 4
"""Gaps between pings on each side of a time that tell the interval of that time."""


class Rhythm:
    """Tell the ping interval at a time, from the times of pings: at least `least_ms`, the configured interval."""

    def __init__(self, times: Iterable[int], least_ms: int) -> None:
        self._times = sorted(times)
        self._least_ms = least_ms
        self._of_gap = cache(self._compute)

    def interval_ms(self, at: int) -> int:
        """Return how often the device was pinged around `at` (epoch ms)."""
        return self._of_gap(bisect_right(self._times, at))

    def is_silence(self, since: int, until: int) -> bool:
        """Return whether nothing came for more than two intervals."""
        silence_ms = until - since
        return silence_ms > SILENT_INTERVALS * self._least_ms and silence_ms > self.patience_ms(since)

    def patience_ms(self, at: int) -> int:
        """Return how long nothing may come from `at` (epoch ms) on before it is a silence."""
        return SILENT_INTERVALS * self.interval_ms(at)

    def _compute(self, number: int) -> int:
        near = self._times[max(0, number - 1 - NEIGHBOURS) : number + 1 + NEIGHBOURS]
        gaps = [later - earlier for earlier, later in pairwise(near)]
        return max(self._least_ms, round(median(gaps))) if len(gaps) > NEIGHBOURS else self._least_ms
