"""Observe how often each node pings its contacts. No I/O."""

from collections import Counter, defaultdict, deque
from statistics import median
from typing import Final

LEAST_PINGS: Final = 20
"""The number of pings from which an observed interval counts."""
KEPT_PINGS: Final = 201
LEAST_SHORT_GAPS: Final = 2
COMPRESSED: Final = 4
"""The number of short gaps for a long one from which time is compressed. Doubled feeds have one or two."""
DOUBLED_MS: Final = 1000
"""Two pings of one contact closer together than this are one ping told twice: nathelper counts in seconds."""


class Intervals:
    """Hold the ping interval of each node: the median gap between two pings in a row of one contact.

    `doubled` counts, by node, the pings that came twice: by two transports, two subscriptions or two bridges. In a feed
    of which nearly every gap is that short, time is compressed: a capture is replayed, and no ping counts as doubled.
    """

    def __init__(self, configured_ms: int) -> None:
        self.configured_ms = configured_ms
        self.doubled: Counter[str] = Counter()
        self._doubled_ms = min(configured_ms / 2, DOUBLED_MS)
        self._short_gaps: Counter[str] = Counter()
        self._long_gaps: Counter[str] = Counter()
        self._gaps: defaultdict[str, deque[int]] = defaultdict(lambda: deque(maxlen=KEPT_PINGS))
        self._intervals_ms: dict[str, int] = {}

    def add(self, node: str, gap_ms: int) -> None:
        """Take in the gap between two pings in a row of one contact."""
        if gap_ms >= self._doubled_ms:
            self._gaps[node].append(gap_ms)
            self._long_gaps[node] += 1
            return
        self._short_gaps[node] += 1
        if self._long_gaps[node] and not self._is_compressed(node):
            self.doubled[node] += 1

    def observe(self, node: str) -> int:
        """Compute the interval of a node anew, in ms; 0 when too few pings came."""
        gaps = self._gaps[node]
        if len(gaps) >= LEAST_PINGS:
            self._intervals_ms[node] = round(median(gaps))
        return self._intervals_ms.get(node, 0)

    def least_gap_ms(self, node: str) -> float:
        """Return how far apart two lost pings of a contact are at least: half of the observed interval."""
        interval_ms = self._intervals_ms.get(node)
        if interval_ms:
            return interval_ms / 2
        return 0 if self._is_compressed(node) else self._doubled_ms

    def _is_compressed(self, node: str) -> bool:
        short, long = self._short_gaps[node], self._long_gaps[node]
        return short >= LEAST_SHORT_GAPS and short > COMPRESSED * long
