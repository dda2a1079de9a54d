"""Stamp events with times that never run backwards within a run."""

from collections.abc import Callable
from typing import Final

MAX_AORS: Final = 100_000
"""AORs whose last times are kept while events come faster than the clock goes."""
MAX_AHEAD_MS: Final = 1000
"""How far events without an AOR follow those of one AOR with more than an event a millisecond."""


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
        self._room = MAX_AORS

    def _forget_past(self, now: int) -> None:
        """Forget the AORs whose last times are past; where few are, there will be more AORs before the next time."""
        self._last = {aor: at for aor, at in self._last.items() if at >= now}
        self._room = max(MAX_AORS, 2 * len(self._last))

    def next(self, aor: str | None) -> int:
        """Return a time later than all of this AOR, and in order with the times of events without AOR."""
        now = self._clock()
        if now > self._newest:
            self._last.clear()
        if aor is None:
            ts = self._floor = max(now, self._floor, min(self._newest, now + MAX_AHEAD_MS))
        else:
            if len(self._last) >= self._room:
                self._forget_past(now)
            ts = self._last[aor] = max(now, self._floor, self._last.get(aor, 0) + 1)
        self._newest = max(self._newest, ts)
        return ts
