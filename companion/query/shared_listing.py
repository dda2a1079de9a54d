"""Share one listing of all devices among the readers of this process."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import Final

from companion.errors import FleetNotReadError
from companion.query.fleet_follower import FleetFollower
from companion.query.listing import Listing, Page, Query
from companion.query.now import View
from companion.query.row import Glance
from companion.store.devices import count_devices
from companion.store.store import Store
from companion.text import Json
from companion.times import now_ms

SMALL: Final = 1000
"""Devices that are listed in no time a person notices."""
LOOK_SECONDS: Final = 1.0
"""How often what changed in a large fleet is taken in."""
FIRST_SECONDS: Final = 2.0
"""How long a reader waits for the first listing."""
SO_FAR_SECONDS: Final = 0.2
"""How long a reader waits for it who is content with the devices that are read so far."""
RESTS: Final = 20
"""A listing of a large fleet serves so many times as long as it took to make: 5 % of a core."""
LONGEST_SECONDS: Final = 6.0
"""Nor longer than until it is so old: where all devices change at once, lists are worth more than their cost."""


class SharedListing:
    """Hold the last listing of all devices, for any thread.

    A small fleet is listed anew for each page. Of a large one a listing is made now and then, in a thread of its own;
    meanwhile the one before serves.
    """

    def __init__(self, store: Store, load_view: Callable[[], View]) -> None:
        self._store = store
        self._load_view = load_view
        self._fleet = FleetFollower(store)
        self._lock = Lock()
        self._thread = ThreadPoolExecutor(1, "listing")
        self._making: Future[Listing] | None = None
        self._held: Listing | None = None
        self._due_at = self._checked_at = 0.0

    @property
    def is_large(self) -> bool:
        """Return whether the last listing is that of a large fleet."""
        return self._held is not None and len(self._held) > SMALL

    def page(self, query: Query) -> tuple[Page, list[Glance]]:
        """Return the page of devices that a query selects, and the glances at them, which may be later than it.

        Raises FleetNotReadError while a large fleet is read for the first time.
        """
        return self._look_up(self._find(FIRST_SECONDS), query)

    def page_so_far(self, query: Query) -> tuple[Page, list[Glance]]:
        """Return what `page` returns, of the devices that are read so far: their order is made anew for each call."""
        try:
            listing = self._find(SO_FAR_SECONDS)
        except FleetNotReadError:
            listing = Listing(now_ms(), self._fleet.glances())
        return self._look_up(listing, query)

    def is_read(self) -> bool:
        """Return whether all devices were read once."""
        return self._held is not None

    def count_devices(self) -> Json:
        """Return the number of devices by status, as far as they are read."""
        return self._fleet.count_devices()

    def _look_up(self, listing: Listing, query: Query) -> tuple[Page, list[Glance]]:
        page = listing.page(query)
        return page, self._fleet.glances_of(page.devices)

    def begin(self) -> Future[Listing]:
        """Begin to follow what changed if that is due; return the listing that is made, or was made last."""
        with self._lock:
            if self._making is None or (self._making.done() and self._is_due()):
                self._checked_at = time.monotonic()
                self._making = self._thread.submit(self._make)
            return self._making

    def _find(self, patience_seconds: float) -> Listing:
        making, listing = self.begin(), self._held
        if listing is not None and self.is_large and not making.done():
            return listing
        try:
            return making.result(patience_seconds)
        except TimeoutError:
            raise FleetNotReadError(len(self._fleet), count_devices(self._store)) from None

    def _is_due(self) -> bool:
        return not self.is_large or time.monotonic() - self._checked_at >= LOOK_SECONDS

    def _make(self) -> Listing:
        """Return a listing as of now, or the one before while that is new enough."""
        view = self._fleet.catch_up(self._load_view)
        if self._held is None:  # to look at all of them for the first time takes seconds
            self._fleet.glances()
            view = self._fleet.catch_up(self._load_view)
        started = time.monotonic()
        if self._held is None or not self.is_large or started >= self._due_at:
            listing = Listing(view.clock.now, self._fleet.glances())
            listing.page(Query())  # the most frequent query is ready before the first reader sends it
            self._held = listing
            seconds = time.monotonic() - started
            self._due_at = started + seconds + min(RESTS * seconds, max(LOOK_SECONDS, LONGEST_SECONDS - seconds))
        return self._held
