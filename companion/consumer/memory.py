"""Keep in memory what the recorder has read from the store and changed since. No I/O."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Final

from companion.config import Config
from companion.consumer.feeds import Feeds
from companion.consumer.ping_cache import PingCache
from companion.store.nodes import Feed
from companion.usrloc.picture import Usrloc

EVICTED_SHARE: Final = 20
"""One device of so many leaves memory when there are too many."""


class RecorderMemory:
    """Keep contacts and devices, the feeds of our nodes, and a ping cache for each of these."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self.feeds = Feeds()
        self.ping_caches: dict[str, PingCache] = {}
        self.usrloc = Usrloc(config.pings.lost_after, config.pings.interval_ms)

    def take_over(self, feed: Feed, seqs: Mapping[str, int]) -> None:
        """Resume a node from its stored feed and the stored seq of each event."""
        feed.cluster = self._config.cluster(feed.node)
        self.ping_caches[feed.node] = PingCache()
        self.feeds.take_over(feed, seqs)

    def drop_forgotten(self, stored: AbstractSet[str]) -> None:
        """Drop the silent nodes that are no longer `stored`."""
        for node in self.feeds.drop_forgotten(stored):
            del self.ping_caches[node]

    def evict(self) -> None:
        """Drop the oldest devices when there are too many; their next event reads them from the store again."""
        devices, changes = self.usrloc.devices.by_id, self.usrloc.changes
        if len(devices) > self._config.consumer.max_devices:
            unwritten = {device.id for device in changes.active} | {contact.device for contact in changes.contacts}
            for device in list(devices.values())[: len(devices) // EVICTED_SHARE + 1]:
                if device.id not in unwritten:
                    self.usrloc.devices.drop(device)
            for cache in self.ping_caches.values():
                cache.clear()

    def clear(self) -> None:
        """Drop everything, because it may differ from what is stored."""
        self.usrloc = Usrloc(self._config.pings.lost_after, self._config.pings.interval_ms)
        self.feeds.clear()
        self.ping_caches.clear()
