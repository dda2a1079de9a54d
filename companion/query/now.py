"""Derive the present status of a contact from its record, the clock and the feeds."""

from dataclasses import dataclass

from companion import quality
from companion.config import Config
from companion.store.nodes import Feed, load_feeds
from companion.store.store import Store
from companion.times import now_ms
from companion.usrloc.contact import Clock, Contact, Status, status
from companion.usrloc.ghosts import is_ghost


@dataclass(frozen=True, slots=True)
class View:
    """Hold what a status depends on besides the record: the clock, the health of the feeds, the bounds of latencies."""

    clock: Clock
    feeds: dict[str, Feed]
    bounds: quality.Bounds

    def status(self, contact: Contact) -> Status:
        feed = self.feeds.get(contact.node)
        return status(contact, self.clock, feed_alive=feed is not None and feed.is_alive(self.clock.now))

    def is_ghost(self, contact: Contact) -> bool:
        return is_ghost(contact, self.clock.lost_after)


def load_view(config: Config, store: Store) -> View:
    """Return the present view: now, and the feeds as they are stored."""
    return make_view(config, load_feeds(store))


def make_view(config: Config, feeds: dict[str, Feed]) -> View:
    """Return the view of now with these feeds."""
    clock = Clock(now_ms(), config.pings.interval_ms, config.pings.lost_after)
    return View(clock, feeds, config.quality.bounds)
