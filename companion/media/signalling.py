"""Count the pings of a device around a time of its call. No I/O."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Final, NamedTuple

from companion import quality
from companion.media.minutes import Minute
from companion.times import MINUTE_MS
from companion.usrloc.contact import Ping

BAD_SHARE: Final = 0.5
"""When half of the pings of a time were lost or slow the signalling path was bad; one alone may be chance."""


class PingCounts(NamedTuple):
    """Hold the counts of a device's pings in a time; slow ones took longer than [quality] poor."""

    answered: int
    lost: int
    slow: int
    highest_ms: int | None

    @property
    def total(self) -> int:
        return self.answered + self.lost

    @property
    def are_bad(self) -> bool:
        return self.total > 0 and self.lost + self.slow >= BAD_SHARE * self.total


class Signalling(NamedTuple):
    """Hold a device's pings from before its call to after it, the oldest first, with their interval and bound."""

    pings: Sequence[Ping] = ()
    interval_ms: int = 120_000
    slow_ms: int = quality.Bounds().poor

    def count_between(self, since: int, until: int) -> PingCounts:
        """Count the pings of this time and of one interval on each side: a minute has room for one ping or none."""
        near, when = self.interval_ms, itemgetter(0)
        first, last = (bisect_left(self.pings, at, key=when) for at in (since - near, until + near))
        return _count(self.pings[first:last], self.slow_ms)

    def count_around(self, minute: Minute) -> PingCounts:
        """Count the pings of a minute and of one interval on each side."""
        return self.count_between(minute.at, minute.at + MINUTE_MS)

    def count_all(self) -> PingCounts:
        """Count all pings."""
        return _count(self.pings, self.slow_ms)


def _count(pings: Iterable[Ping], slow_ms: int) -> PingCounts:
    latencies = [latency_ms for _, latency_ms in pings]
    answered = [latency_ms for latency_ms in latencies if latency_ms is not None]
    slow = sum(latency_ms >= slow_ms for latency_ms in answered)
    return PingCounts(len(answered), len(latencies) - len(answered), slow, max(answered, default=None))
