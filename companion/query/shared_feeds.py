"""Share the feeds of all nodes among the readers of this process."""

import time
from collections.abc import Callable
from threading import Lock
from typing import Final

from companion.store.nodes import Feed, load_feeds
from companion.store.store import Store

FRESH_SECONDS: Final = 0.5
"""How long feeds serve: little beside the ten seconds after which one is down."""


class SharedFeeds:
    """Read the feeds once for all who ask at about the same time, for any thread."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._lock = Lock()
        self._feeds: dict[str, Feed] = {}
        self._fresh_until = 0.0

    def load(self) -> dict[str, Feed]:
        """Return the feeds by node, as they were at most FRESH_SECONDS ago."""
        with self._lock:
            if self._clock() >= self._fresh_until:
                self._feeds = load_feeds(self._store)
                self._fresh_until = self._clock() + FRESH_SECONDS
            return self._feeds
