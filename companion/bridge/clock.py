"""Stamp events with times that never run backwards within a run."""

import time
from collections.abc import Callable
from typing import Final

STEP_MS: Final = 1000
"""A larger difference between our steady clock and the machine's means that the machine's clock was stepped."""


class SteadyClock:
    """Return epoch ms that advance evenly while the machine's clock is being set."""

    def __init__(self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic) -> None:
        self._wall = wall
        self._steady = steady
        self._offset = wall() - steady()

    def now(self) -> int:
        return int((self._offset + self._steady()) * 1000)

    def follow(self) -> int:
        """Follow a step of the machine's clock and return its size in ms, 0 when there was none."""
        offset = self._wall() - self._steady()
        step_ms = round((offset - self._offset) * 1000)
        if abs(step_ms) < STEP_MS:
            return 0
        self._offset = offset
        return step_ms


class Stamps:
    """Make times for events that strictly rise for each AOR, also when two of its events come in one millisecond.

    Events without an AOR may share a time: thousands of connections that die at once must not lead into the future.
    """

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self.forget()

    def forget(self) -> None:
        self._last: dict[str, int] = {}
        self._newest = 0
        self._floor = 0

    def next(self, aor: str | None) -> int:
        """Return a time later than all of this AOR, and in order with the times of events without AOR."""
        now = self._clock()
        if now > self._newest:
            self._last.clear()
        if aor is None:
            ts = self._floor = max(now, self._newest)
        else:
            ts = self._last[aor] = max(now, self._floor, self._last.get(aor, 0) + 1)
        self._newest = max(self._newest, ts)
        return ts
