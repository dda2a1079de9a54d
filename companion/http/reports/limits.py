"""How often each call may be told of, and how many go on. No I/O."""

import math
import time
from collections.abc import Callable
from typing import Final

from companion.http.access.throttle import Allowance

LIVE_SECONDS: Final = 15.0
"""A call without a report for so long, or that has ended, goes on no more."""


class _Known:
    """A call that was told of: what it may still, and when it last was (0 = it has ended)."""

    __slots__ = ("allowance", "told_at")

    def __init__(self, allowance: Allowance) -> None:
        self.allowance = allowance
        self.told_at = 0.0


class Limits:
    """Of at most `most` calls, those told of last: whose turn was longest ago is forgotten for a new one."""

    def __init__(self, per_minute: int, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute = per_minute
        self._most = most
        self._clock = clock
        self._calls: dict[str, _Known] = {}

    def wait(self, call: str, tries: int = 1) -> int:
        """Whole seconds until so many reports of a call may come; when that is 0, they are counted."""
        now, tries = self._clock(), min(tries, self._per_minute)
        known = self._calls.pop(call, None) or _Known(Allowance(self._per_minute, 60 / self._per_minute, now))
        if len(self._calls) >= self._most:
            del self._calls[next(iter(self._calls))]
        self._calls[call] = known
        seconds = known.allowance.wait(now, tries)
        if not seconds:
            known.allowance.use(tries)
        return math.ceil(seconds)

    def told(self, call: str, *, ended: bool) -> None:
        """A report of the call was taken; `ended` when it said so."""
        if call in self._calls:
            self._calls[call].told_at = 0.0 if ended else self._clock()

    def live(self) -> int:
        """How many calls go on."""
        since = self._clock() - LIVE_SECONDS
        return sum(known.told_at > max(since, 0.0) for known in list(self._calls.values()))
