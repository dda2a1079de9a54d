"""Tell which event times lie too far in the future. No I/O."""

import time
from collections.abc import Callable
from typing import Final

from companion.steady_clock import SteadyClock

AHEAD_MS: Final = 60_000
"""An event further in the future is refused: its samples would lock out all later ones."""
FOLLOW_SECONDS: Final = 10.0
"""A bridge notices within two seconds that the clock was set back; until then its events have the old time."""


class FutureLimit:
    """Compute the latest time that an event may have, also while the machine's clock is being set back."""

    def __init__(self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic) -> None:
        self._wall = wall
        self._steady = steady
        self._clock = SteadyClock(wall, steady)
        self._follow_at = 0.0

    def latest_ms(self) -> int:
        """Return the latest time of an event, epoch ms."""
        step_ms = self._clock.step_ms()
        if step_ms < 0 and not self._follow_at:
            self._follow_at = self._steady() + FOLLOW_SECONDS
        if step_ms > 0 or (step_ms and self._steady() >= self._follow_at):
            self._clock.follow()
            self._follow_at = 0.0
        return max(int(self._wall() * 1000), self._clock.now()) + AHEAD_MS
