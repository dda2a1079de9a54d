"""What is known of each node's feed whose events we record: how it is, what is missing, up to where it is stored.

No I/O: the recorder reads a feed when it takes a node over, and writes what is told here with each batch.
"""

from collections.abc import Mapping, MutableMapping
from collections.abc import Set as AbstractSet

from companion import log, metrics
from companion.bus.envelope import HEARTBEAT, Heartbeat, Message
from companion.bus.sequences import Sequences
from companion.opensips.events import KNOWN
from companion.store.connection import Command
from companion.store.keys import Keys
from companion.store.nodes import DEAD_AFTER_MS, Feed, prepare_feed, prepare_seqs_removal
from companion.times import now_ms
from companion.usrloc.intervals import Intervals

logger = log.get(__name__)


class Feeds:
    """The feeds of the nodes whose lease we hold, by node in `held`."""

    def __init__(self) -> None:
        self.held: dict[str, Feed] = {}
        self._held_since: dict[str, int] = {}
        self._sequences = Sequences()
        self._touched: set[str] = set()
        self._new_runs: set[str] = set()
        self._silent: set[str] = set()
        self._episodes = log.Episodes(logger)

    def take_over(self, feed: Feed, seqs: Mapping[str, int]) -> None:
        """Go on from what is stored of a node's feed, and up to which seq of each event."""
        node = feed.node
        self.held[node] = feed
        self._held_since[node] = now_ms()
        if feed.run:
            self._sequences.resume(node, feed.run, seqs)
        if not feed.is_alive(self._held_since[node]):
            self.unsettle(node)
        logger.info("recording", node=node, cluster=feed.cluster)

    def clear(self) -> None:
        self.held.clear()
        self._sequences = Sequences()
        self._silent.clear()
        self._touched.clear()
        self._new_runs.clear()

    def let_go(self, known: AbstractSet[str]) -> AbstractSet[str]:
        """Hold no longer those silent ones that are not known any more: somebody had them forgotten. Tells which."""
        forgotten = self._silent - self._touched - known
        for node in forgotten:
            del self.held[node], self._held_since[node]
            self._silent.discard(node)
            self._sequences.forget(node)
            logger.info("a node was forgotten", node=node)
        return forgotten

    # What messages say

    def see(self, message: Message) -> int:
        """Note what is missing before a message; how many of its first events are not new."""
        sight, node = self._sequences.see(message), message.node
        if sight.repeated:
            metrics.DUPLICATES.labels(node).inc(sight.repeated)
            self._episodes.warn("events were there already: do two bridges share a node's name?", node=node)
        if sight.repeated == len(message.said):
            return sight.repeated
        self._touched.add(node)
        if sight.new_run:
            self._new_runs.add(node)
            self.held[node].run = message.run
            self.unsettle(node)
            metrics.RUNS.labels(node).inc()
        if sight.missed and message.event != HEARTBEAT:
            self._count_missed(node, message.event, sight.missed)
        return sight.repeated

    def beat(self, node: str, said: Heartbeat, ts: int) -> None:
        """The bridge lives, says how it is, and how far its events have come."""
        feed = self.held[node]
        if node in self._silent or said.kernel_drops > feed.kernel_drops:
            self.unsettle(node)
        feed.heartbeat_at, feed.said_at = now_ms(), ts
        feed.transports = said.transports
        feed.received, feed.invalid, feed.kernel_drops = said.received, said.invalid, said.kernel_drops
        known = {event: seq for event, seq in said.seqs.items() if event in KNOWN}
        for event, missed in self._sequences.tail(node, known).items():
            self._count_missed(node, event, missed)
        self._silent.discard(node)

    def refuse(self, node: str) -> None:
        """An event was of the future."""
        metrics.REFUSED.labels("ahead").inc()
        self.unsettle(node)
        self._episodes.warn("events from the future are refused: check the clocks", node=node)

    def _count_missed(self, node: str, event: str, missed: int) -> None:
        metrics.MISSED.labels(node, event).inc(missed)
        metrics.GAPS.labels(node).inc()
        self.held[node].missed += missed
        self.held[node].gaps += 1
        self.unsettle(node)
        self._episodes.warn("events are missing on the bus", node=node, event_name=event, missed=missed)

    def _count_doubled(self, node: str, doubled: int) -> None:
        if doubled:
            self.held[node].doubled += doubled
            metrics.DOUBLED.labels(node).inc(doubled)
            self.unsettle(node)
            self._episodes.warn("pings arrive twice: subscribe each event once, over one transport", node=node)

    def unsettle(self, node: str) -> None:
        """Events may be missing: what is known of the node's contacts may be wrong until they are pinged again."""
        self.held[node].steady_since = now_ms()

    # What only time tells

    def watch(self, now: int) -> bool:
        """Whether all our feeds live; each that fell silent is counted once."""
        for node, feed in self.held.items():
            silent_ms = now - max(feed.heartbeat_at, self._held_since[node])
            if feed.heartbeat_at and silent_ms > DEAD_AFTER_MS and node not in self._silent:
                self._silent.add(node)
                self._sequences.fell_silent(node)
                self._touched.add(node)
                feed.silences += 1
                metrics.SILENCES.labels(node).inc()
                logger.warning("the bridge is silent", node=node, for_ms=silent_ms, limit_ms=DEAD_AFTER_MS)
        return bool(self.held) and not self._silent

    # Writing

    def progress(self, keys: Keys, removals: MutableMapping[str, int], intervals: Intervals) -> list[Command]:
        """Each touched node's feed, and up to where its events are stored once this stands.

        `removals`: what OpenSIPS itself removed since the last time, by node; it goes into the feeds.
        """
        commands: list[Command] = []
        for node in self._touched:
            self.held[node].removals += removals.pop(node, 0)
            self.held[node].interval_ms = intervals.observe(node)
            self._count_doubled(node, intervals.doubled.pop(node, 0))
            if node in self._new_runs:
                commands.append(prepare_seqs_removal(keys, node))
            commands += prepare_feed(keys, self.held[node], self._sequences.seqs.get(node, {}))
        self._touched.clear()
        self._new_runs.clear()
        return commands
