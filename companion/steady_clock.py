"""Tell when the machine's clock is set, by one that only advances. No I/O."""

import time
from collections.abc import Callable
from typing import Final

STEP_MS: Final = 1000
"""A larger difference between the steady clock and the machine's means that the machine's clock was stepped."""


class SteadyClock:
    """Return epoch ms that advance evenly while the machine's clock is being set."""

    def __init__(self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic) -> None:
        self._wall = wall
        self._steady = steady
        self._offset = wall() - steady()

    def now(self) -> int:
        return int((self._offset + self._steady()) * 1000)

    def step_ms(self) -> int:
        """Return by how much the machine's clock was set since the last `follow`, 0 when it was not."""
        step_ms = round((self._wall() - self._steady() - self._offset) * 1000)
        return 0 if abs(step_ms) < STEP_MS else step_ms

    def follow(self) -> int:
        """Follow a step of the machine's clock and return its size in ms, 0 when there was none."""
        step_ms = self.step_ms()
        if step_ms:
            self._offset = self._wall() - self._steady()
        return step_ms


_PROCESS: Final = SteadyClock()


def steady_ms() -> int:
    """Return ms that advance evenly whatever happens to the machine's clock: epoch ms, as it was set at our start.

    Compare it only within this process.
    """
    return _PROCESS.now()
