"""Throttle the reports of each call, and count the live calls. No I/O."""

import math
import time
from collections.abc import Callable
from typing import Final

from companion.http.access.throttle import TokenBucket

LIVE_SECONDS: Final = 15.0
"""A call that has ended, or has had no report for so long, is not live."""


class _Call:
    """Hold the bucket of a call, and the time of its last report (0 = it has ended)."""

    __slots__ = ("bucket", "report_at")

    def __init__(self, bucket: TokenBucket) -> None:
        self.bucket = bucket
        self.report_at = 0.0


class Limits:
    """Keep the buckets of at most `most` calls; a new call takes the place of the one reported longest ago."""

    def __init__(self, per_minute: int, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute = per_minute
        self._most = most
        self._clock = clock
        self._calls: dict[str, _Call] = {}

    def wait(self, call: str, tries: int = 1) -> int:
        """Return the whole seconds until so many reports of a call are allowed; when 0, count them."""
        now, tries = self._clock(), min(tries, self._per_minute)
        entry = self._calls.pop(call, None) or _Call(TokenBucket(self._per_minute, 60 / self._per_minute, now))
        if len(self._calls) >= self._most:
            del self._calls[next(iter(self._calls))]
        self._calls[call] = entry
        seconds = entry.bucket.wait(now, tries)
        if not seconds:
            entry.bucket.use(tries)
        return math.ceil(seconds)

    def note_report(self, call: str, *, ended: bool) -> None:
        """Note that a report of the call was taken; `ended` when it ends the call."""
        if call in self._calls:
            self._calls[call].report_at = 0.0 if ended else self._clock()

    def live(self) -> int:
        """Count the live calls."""
        since = self._clock() - LIVE_SECONDS
        return sum(entry.report_at > max(since, 0.0) for entry in list(self._calls.values()))
