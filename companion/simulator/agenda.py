"""Run steps at their times, on a clock that somebody else moves."""

import heapq
import itertools
from collections.abc import Callable

Step = Callable[[float], None]


class Agenda:
    """Hold steps in the order of their time, then of their entry. Times are seconds on the simulation's clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self._steps: list[tuple[float, int, Step]] = []
        self._entries = itertools.count()

    def call_at(self, when: float, step: Step) -> None:
        heapq.heappush(self._steps, (max(when, self.now), next(self._entries), step))

    def call_later(self, seconds: float, step: Step) -> None:
        self.call_at(self.now + seconds, step)

    @property
    def next_at(self) -> float | None:
        return self._steps[0][0] if self._steps else None

    def run_until(self, now: float) -> None:
        """Take every step that is due; each is called with the time it was due at."""
        while self._steps and self._steps[0][0] <= now:
            self.now, _, step = heapq.heappop(self._steps)
            step(self.now)
        self.now = max(self.now, now)
