"""Stamp events with times that never run backwards within a run."""

from collections.abc import Callable


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
