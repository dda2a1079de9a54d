"""How often one may try to log in: each address for itself, and all together. No I/O."""

import math
import time
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address
from typing import Final

EACH_AT_ONCE: Final = 5
EACH_SECONDS: Final = 12.0
ALL_AT_ONCE: Final = 100
ALL_SECONDS: Final = 0.6
"""So many tries at once, then one in so many seconds."""
MAX_ADDRESSES: Final = 10_000


class Allowance:
    """`most` tries that are used up at once and come back one in so many seconds."""

    def __init__(self, most: int, seconds: float, now: float) -> None:
        self._most = most
        self._seconds = seconds
        self._left = float(most)
        self._at = now

    def wait(self, now: float, tries: int = 1) -> float:
        """Seconds until there may be so many further tries; 0 when there may be now."""
        self._left = min(self._most, self._left + max(0.0, now - self._at) / self._seconds)
        self._at = now
        return 0.0 if self._left >= tries else (tries - self._left) * self._seconds

    def use(self, tries: int = 1) -> None:
        self._left -= tries

    @property
    def full(self) -> bool:
        return self._left >= self._most


class Throttle:
    """Counts failed logins. What is refused counts no further: one address can not use up what all have together."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._all = Allowance(ALL_AT_ONCE, ALL_SECONDS, clock())
        self._each: dict[str, Allowance] = {}

    def wait(self, address: str) -> int:
        """Whole seconds until this address may try again; 0 = now."""
        now = self._clock()
        own = self._each.get(_network(address))
        return math.ceil(max(self._all.wait(now), own.wait(now) if own else 0.0))

    def failed(self, address: str) -> None:
        now = self._clock()
        key = _network(address)
        if key not in self._each:
            self._make_room(now)
            self._each[key] = Allowance(EACH_AT_ONCE, EACH_SECONDS, now)
        self._each[key].use()
        self._all.use()

    def _make_room(self, now: float) -> None:
        if len(self._each) >= MAX_ADDRESSES:
            for allowance in self._each.values():
                allowance.wait(now)
            self._each = {key: allowance for key, allowance in self._each.items() if not allowance.full}
        while len(self._each) >= MAX_ADDRESSES:
            del self._each[next(iter(self._each))]


def _network(address: str) -> str:
    """An address, of IPv6 its /64: one subscriber has as many addresses in it as he likes."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return ""
    return str(IPv6Address(int(parsed) >> 64 << 64)) if isinstance(parsed, IPv6Address) else str(parsed)
