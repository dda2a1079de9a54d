"""Say how the networks between phones and a node are at a time: a daily rhythm, and troubles. No I/O."""

import math
import random
from collections.abc import Sequence
from typing import Final, NamedTuple

DAY: Final = 86_400
RISE: Final = 7 * 3600
"""When a day begins, in seconds after midnight (UTC)."""
BUSY: Final = 15 * 3600
"""How long it lasts."""
BUSIEST: Final = 0.7
"""How much longer a round trip takes at the height of the day."""


class Trouble(NamedTuple):
    """Hold a trouble from `since` to `until` (epoch seconds): round trips of `slowdown` times, and lost pings.

    `network` begins the addresses that it is about, "" = all. A `loss` of 1 everywhere cuts all off: no REGISTER comes
    either.
    """

    since: float
    until: float
    network: str = ""
    slowdown: float = 1.0
    loss: float = 0.0

    def holds(self, at: float, address: str = "") -> bool:
        return self.since <= at < self.until and address.startswith(self.network)


class Conditions:
    """Compute delays and losses of pings from the time of day and the troubles. The same seed gives the same ones."""

    def __init__(self, troubles: Sequence[Trouble] = (), seed: str = "") -> None:
        self._troubles = troubles
        self._chance = random.Random(seed)

    def is_cut(self, at: float) -> bool:
        """Return whether nothing comes through at a time (epoch seconds), of any address."""
        return any(trouble.loss >= 1 and not trouble.network and trouble.holds(at) for trouble in self._troubles)

    def delay(self, seconds: float, address: str, at: float) -> float | None:
        """Return how long a ping takes that takes `seconds` at night; None when it is lost."""
        seconds *= 1 + BUSIEST * compute_rhythm(at)
        for trouble in self._troubles:
            if trouble.holds(at, address):
                if self._chance.random() < trouble.loss:
                    return None
                seconds *= trouble.slowdown
        return seconds


def compute_rhythm(at: float) -> float:
    """Return how busy the networks are at a time (epoch seconds): 0 at night, 1 at the height of the day.

    >>> [round(compute_rhythm(hour * 3600), 2) for hour in (3, 8, 14.5, 21)]
    [0.0, 0.21, 1.0, 0.21]
    """
    return max(0.0, math.sin(math.pi * (at % DAY - RISE) / BUSY)) if RISE < at % DAY < RISE + BUSY else 0.0
