"""Keep in memory what the recorder has read from the store and changed since. No I/O."""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import Final

from companion import log, metrics
from companion.config import Config
from companion.consumer.feeds import Feeds
from companion.consumer.ping_cache import PingCache
from companion.store.nodes import Feed
from companion.text import printable
from companion.times import HOUR_MS, now_ms
from companion.usrloc.admission import AdmissionLimits
from companion.usrloc.contact import Device
from companion.usrloc.picture import Usrloc

logger = log.get(__name__)

COLD_MS: Final = HOUR_MS
"""All phones of a node that we did not hear of for so long may be new to us, and for so long they may come in."""
UNPACKED_CONTACTS: Final = 50_000
"""Contacts that are ready for use, in about 4 kB each; the others are packed and take a fifth."""


class RecorderMemory:
    """Keep contacts and devices, the feeds of our nodes, and a ping cache for each of these."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self.feeds = Feeds()
        self._episodes = log.Episodes(logger)
        self.ping_caches: dict[str, PingCache] = {}
        self.usrloc = self._make_usrloc()

    def _make_usrloc(self) -> Usrloc:
        consumer, pings = self._config.consumer, self._config.pings
        limits = AdmissionLimits(
            contacts_per_aor=consumer.contacts_per_aor,
            devices_per_aor=consumer.devices_per_aor,
            new_aors_per_minute=consumer.new_aors_per_minute,
            stored_devices=consumer.max_stored_devices,
        )
        return Usrloc(pings.lost_after, pings.interval_ms, limits)

    def take_over(self, feed: Feed, seqs: Mapping[str, int]) -> None:
        """Resume a node from its stored feed and the stored seq of each event."""
        feed.cluster = self._config.cluster(feed.node)
        if now_ms() - feed.last_event_at > COLD_MS:
            feed.known_since = now_ms()
        if feed.cluster not in {one.cluster for one in self.feeds.held.values()}:
            self._drop_cluster(feed.cluster)  # another consumer may have changed what is in memory of it
        self.ping_caches[feed.node] = PingCache()
        self.usrloc.intervals.resume(feed.node, feed.interval_ms)
        self.feeds.take_over(feed, seqs)

    def put(self, devices: Iterable[Device]) -> None:
        """Put stored devices into memory."""
        self.usrloc.devices.put(devices, {feed.cluster for feed in self.feeds.held.values()})

    def hand_over(self, clusters: AbstractSet[str]) -> None:
        """Drop what is in memory of clusters that another consumer records from now on."""
        for node in [node for node, feed in self.feeds.held.items() if feed.cluster in clusters]:
            self.feeds.drop(node)
            del self.ping_caches[node]
        for cluster in clusters:
            self._drop_cluster(cluster)

    def _drop_cluster(self, cluster: str) -> None:
        dropped = self.usrloc.devices.drop_cluster(cluster)
        for cache in self.ping_caches.values():
            cache.forget(dropped)

    def note_stored(self, devices: int, *, is_full: bool) -> None:
        """Note how many devices Redis holds, and whether it is nearly full: both bound what is taken in."""
        admission, now = self.usrloc.admission, now_ms()
        admission.stored_devices, admission.is_redis_full = devices, is_full
        admission.cold_nodes = {node for node, feed in self.feeds.held.items() if now - feed.known_since < COLD_MS}

    def count_left_out(self) -> None:
        """Count and log the contacts that were left out, and put them into the feeds of their nodes."""
        admission = self.usrloc.admission
        since = now_ms() - 2 * self._config.pings.interval_ms
        for node, feed in self.feeds.held.items():
            left = admission.left_out(node, since)
            feed.left_out, feed.left_out_aor = left.contacts, left.aor
            feed.left_out_of_aor, feed.left_out_why = left.of_aor, left.why
        while admission.refused:
            (node, why), count = admission.refused.popitem()
            metrics.LEFT_OUT.labels(node, why).inc(count)
            aor = self.feeds.held[node].left_out_aor if node in self.feeds.held else ""
            self._episodes.warn(f"contacts are left out: {why}", node=node, aor=printable(aor))

    def drop_forgotten(self, stored: AbstractSet[str]) -> None:
        """Drop the silent nodes that are no longer `stored`."""
        for node in self.feeds.drop_forgotten(stored):
            del self.ping_caches[node]

    def evict(self) -> None:
        """Pack the oldest devices, and drop the oldest of all: their next event reads them from the store again."""
        devices = self.usrloc.devices
        packed = devices.pack_oldest(UNPACKED_CONTACTS, self._config.consumer.max_devices)
        for cache in self.ping_caches.values():
            cache.forget(packed)
        metrics.DEVICES_HELD.labels("unpacked").set(len(devices.by_id))
        metrics.DEVICES_HELD.labels("packed").set(devices.packed.count)

    def drop_contacts(self) -> None:
        """Drop the contacts, because they may differ from what is stored. The feeds stay."""
        self.usrloc = self._make_usrloc()
        for node, feed in self.feeds.held.items():
            self.usrloc.intervals.resume(node, feed.interval_ms)
            self.ping_caches[node] = PingCache()

    def clear(self) -> None:
        """Drop everything, because it may differ from what is stored."""
        self.usrloc = self._make_usrloc()
        self.feeds.clear()
        self.ping_caches.clear()
