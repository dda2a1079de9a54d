"""Observe how often each node pings its contacts. No I/O."""

from collections import defaultdict, deque
from statistics import median, quantiles
from typing import Final

LEAST_PINGS: Final = 20
"""The number of pings from which an observed interval counts."""
KEPT_PINGS: Final = 201
LEAST_SHORT_GAPS: Final = 2
COMPRESSED: Final = 4
"""The number of short gaps for a long one from which time is compressed. Doubled feeds have one or two."""
BIMODAL: Final = 0.25
"""The share of gaps of less than half an interval from which a feed is doubled, its second copy being late."""
DOUBLED_MS: Final = 1000
"""Two pings of one contact closer together than this are one ping told twice: nathelper counts in seconds."""


class NodeGaps:
    """Hold the gaps between two pings in a row of one contact, as one node made them.

    `interval_ms` is 0 until it is known. `since` is the first ping that we heard of ourselves (epoch ms): a gap that
    began before it may be one in which nobody recorded, or of another interval.
    """

    __slots__ = ("_doubled_ms", "_gaps", "_long", "_near", "_short", "doubled", "interval_ms", "since")

    def __init__(self, doubled_ms: float) -> None:
        self.since = 0
        self.doubled = 0
        self.interval_ms = 0
        self._doubled_ms = doubled_ms
        self._short = 0
        self._long = 0
        self._near = 0
        self._gaps: deque[int] = deque(maxlen=KEPT_PINGS)

    def add(self, gap_ms: int) -> None:
        """Take in a gap."""
        if gap_ms >= self._doubled_ms:
            self._gaps.append(gap_ms)
            self._long += 1
            self._near += gap_ms < self.interval_ms / 2
            return
        if gap_ms < -DOUBLED_MS:
            return  # the clock was set back
        self._short += 1
        if self._long and not self._is_compressed:
            self.doubled += 1

    def observe(self) -> int:
        """Compute the interval anew, in ms; it stays as it was when too few pings came.

        It is the median of the long gaps: the second copy of a doubled feed may be late by more than DOUBLED_MS. Its
        short gaps may be most of all, so what is long is told by the upper quartile.
        """
        if len(self._gaps) >= LEAST_PINGS:
            upper = quantiles(self._gaps)[2]
            long = [gap for gap in self._gaps if gap > upper / 2]
            self.interval_ms = round(median(long))
            if len(self._gaps) - len(long) >= BIMODAL * len(self._gaps):
                self.doubled += self._near
            self._near = 0
        return self.interval_ms

    @property
    def least_gap_ms(self) -> float:
        """Return how far apart two lost pings of a contact are at least: half of the observed interval."""
        if self.interval_ms:
            return self.interval_ms / 2
        return 0 if self._is_compressed else self._doubled_ms

    @property
    def _is_compressed(self) -> bool:
        return self._short >= LEAST_SHORT_GAPS and self._short > COMPRESSED * self._long


class Intervals(defaultdict[str, NodeGaps]):
    """Hold the ping interval of each node: the median of the long gaps between two pings in a row of one contact.

    `doubled` of a node counts the pings that came twice: by two transports, two subscriptions or two bridges. In a feed
    of which nearly every gap is that short, time is compressed: a capture is replayed, and no ping counts as doubled.
    """

    def __init__(self, configured_ms: int) -> None:
        super().__init__(lambda: NodeGaps(min(configured_ms / 2, DOUBLED_MS)))
        self.configured_ms = configured_ms

    def resume(self, node: str, interval_ms: int) -> None:
        """Resume the interval of a node as it was observed before, 0 when it was not."""
        self[node].interval_ms = interval_ms

    def take_doubled(self, node: str) -> int:
        """Return how many pings of a node came twice since the last call."""
        doubled, self[node].doubled = self[node].doubled, 0
        return doubled
