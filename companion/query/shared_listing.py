"""Share one listing of all devices among the readers of this process."""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from threading import Lock
from typing import Final

from companion.query.census import load_glances, take_census
from companion.query.listing import Listing, Page, Query
from companion.query.now import View
from companion.store.census import load_census_header
from companion.store.devices import count_devices
from companion.store.store import Store

SMALL: Final = 1000
"""Devices that are read in no time a person notices."""
LOOK_SECONDS: Final = 1.0
"""How often a newer census is looked for."""
OWN_MS: Final = 60_000
"""How long a listing lasts where no scheduler takes a census."""


class SharedListing:
    """Hold the last listing of all devices, for any thread.

    A small fleet is read anew for each page. Of a large one the census that the scheduler shares is read, in a thread
    of its own; meanwhile the one before serves.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = Lock()
        self._thread = ThreadPoolExecutor(1, "listing")
        self._taking: Future[Listing] | None = None
        self._held: Listing | None = None
        self._checked_at = 0.0

    @property
    def is_large(self) -> bool:
        """Return whether the last listing is that of a large fleet."""
        return self._held is not None and len(self._held) > SMALL

    def page(self, query: Query, view: View) -> Page:
        """Return the page of devices that a query selects."""
        taking, held = self.begin(view), self._held
        listing = held if held is not None and len(held) > SMALL else taking.result()
        return listing.page(query)

    def begin(self, view: View) -> Future[Listing]:
        """Begin to read a listing if one is due; return the one that is read, or was read last."""
        with self._lock:
            if self._taking is None or (self._taking.done() and self._is_due()):
                self._checked_at = time.monotonic()
                self._taking = self._thread.submit(self._take, view)
            return self._taking

    def _is_due(self) -> bool:
        return not self.is_large or time.monotonic() - self._checked_at >= LOOK_SECONDS

    def _take(self, view: View) -> Listing:
        self._held = self._small(view) or self._shared() or self._own(view)
        return self._held

    def _small(self, view: View) -> Listing | None:
        return self._count(view) if count_devices(self._store) <= SMALL else None

    def _shared(self) -> Listing | None:
        """Return the census that a scheduler shares; None where there is none, or it expired while it was read."""
        header = load_census_header(self._store)
        if header is None or (self._held and self._held.at == header.at):
            return self._held if header else None
        try:
            listing = Listing(header.at, chain.from_iterable(load_glances(self._store, header)))
        except LookupError:
            return self._held
        listing.page(Query())  # the most frequent query is ready before the first reader sends it
        return listing

    def _own(self, view: View) -> Listing:
        """Read the fleet ourselves, now and then, where no scheduler is at work."""
        if self._held and 0 <= view.clock.now - self._held.at < OWN_MS:  # less than 0: the clock was set back
            return self._held
        return self._count(view)

    def _count(self, view: View) -> Listing:
        return Listing(view.clock.now, take_census(self._store, view).glances)
