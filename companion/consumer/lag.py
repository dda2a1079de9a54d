"""Measure how far the store lies behind. No I/O."""

from collections import deque
from typing import Final

RESOLUTION: Final = 100
"""A mark is made after a hundredth of the present lag: an outage of days needs a few hundred marks."""


class Lag:
    """Measure how long the oldest event that is not stored has waited, by marks and not by each event."""

    def __init__(self) -> None:
        self._marks: deque[tuple[float, int]] = deque()
        """(time, events received by then)"""

    def measure(self, received: int, unstored: int, now: float) -> float:
        """Return the lag in seconds, as exact as the time between two calls.

        Args:
            received: Events received since the start.
            unstored: How many of them are not stored yet.
            now: The monotonic clock.

        """
        stored = received - unstored
        while self._marks and self._marks[0][1] <= stored:
            self._marks.popleft()
        lag = now - self._marks[0][0] if self._marks else 0.0
        if unstored and (not self._marks or now - self._marks[-1][0] >= lag / RESOLUTION):
            self._marks.append((now, received))
        return lag
