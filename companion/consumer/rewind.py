"""Keep the batches of the last seconds, to write them again after a Redis lost what it had acknowledged."""

import time
from collections import deque
from collections.abc import Callable
from typing import Final

from companion.store.batch import Prepared

SECONDS: Final = 10.0
"""How far a replica may lie behind its master."""
MAX_EVENTS: Final = 100_000


class Rewind:
    """Hold batches, oldest first. To write them again in their order changes nothing where they arrived."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: deque[tuple[float, int, Prepared]] = deque()
        self._events = 0

    def keep(self, prepared: Prepared, events: int) -> None:
        """Keep a batch of so many events, written next; drop the oldest when they are too many, never this one."""
        if prepared.is_empty:
            return
        self._kept.append((self._clock(), events, prepared))
        self._events += events
        while len(self._kept) > 1 and self._events > MAX_EVENTS:
            self._events -= self._kept.popleft()[1]

    def trim(self) -> None:
        """Drop what is too old, once Redis acknowledged the last batch, and the progress that shows what it lost.

        Not by the time alone: it may take longer than these seconds to find out that a master is gone.
        """
        while self._kept and self._kept[0][0] < self._kept[-1][0] - SECONDS:
            self._events -= self._kept.popleft()[1]

    def batches(self) -> list[Prepared]:
        return [prepared for _, _, prepared in self._kept]

    def clear(self) -> None:
        """Drop all batches: another consumer may have written since."""
        self._kept.clear()
        self._events = 0
