"""Throttle failed logins, by address and all together. No I/O."""

import math
import time
from collections.abc import Callable
from typing import Final

from companion.http.access.origin import subscriber_network

ADDRESS_BURST: Final = 5
ADDRESS_SECONDS: Final = 12.0
ALL_BURST: Final = 100
ALL_SECONDS: Final = 0.6
"""A burst of tries may come at once, then one in so many seconds."""
MAX_ADDRESSES: Final = 10_000


class TokenBucket:
    """Hold tries for a burst of `most`, refilled by one in so many seconds (a token bucket)."""

    def __init__(self, most: int, seconds: float, now: float) -> None:
        self._most = most
        self._seconds = seconds
        self._left = float(most)
        self._at = now

    def wait(self, now: float, tries: int = 1) -> float:
        """Return the seconds until so many further tries are allowed; 0 = now."""
        self._left = min(self._most, self._left + max(0.0, now - self._at) / self._seconds)
        self._at = now
        return 0.0 if self._left >= tries else (tries - self._left) * self._seconds

    def use(self, tries: int = 1) -> None:
        self._left -= tries

    @property
    def full(self) -> bool:
        return self._left >= self._most


class Throttle:
    """Count failed logins. A refused try is not counted, so one address can not use up the bucket of all.

    When the bucket of all is empty, an address that failed lately waits until its own bucket is full again. One that
    did not fail may still try: anybody can fail from many addresses, or invent them behind a proxy that lets them,
    and must not lock out the others.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._all = TokenBucket(ALL_BURST, ALL_SECONDS, clock())
        self._buckets: dict[str, TokenBucket] = {}

    def wait(self, address: str) -> int:
        """Return the whole seconds until this address may try again; 0 = now."""
        now = self._clock()
        own = self._buckets.get(subscriber_network(address))
        tries = ADDRESS_BURST if self._all.wait(now) else 1
        return math.ceil(own.wait(now, tries)) if own else 0

    def failed(self, address: str) -> None:
        now = self._clock()
        key = subscriber_network(address)
        if key not in self._buckets:
            self._make_room(now)
            self._buckets[key] = TokenBucket(ADDRESS_BURST, ADDRESS_SECONDS, now)
        self._buckets[key].use()
        if not self._all.wait(now):
            self._all.use()

    def _make_room(self, now: float) -> None:
        if len(self._buckets) >= MAX_ADDRESSES:
            for bucket in self._buckets.values():
                bucket.wait(now)
            self._buckets = {key: bucket for key, bucket in self._buckets.items() if not bucket.full}
        while len(self._buckets) >= MAX_ADDRESSES:
            del self._buckets[next(iter(self._buckets))]
