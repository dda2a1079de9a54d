"""Keep the state of the feeds that we record: their health, what is missing, and up to which seq they are stored.

No I/O: the recorder reads a feed when it takes a node over, and writes these commands with each batch.
"""

from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from collections.abc import Set as AbstractSet

from companion import log, metrics
from companion.bus.envelope import HEARTBEAT, Heartbeat, Message
from companion.bus.run_ends import RunEnds
from companion.bus.sequences import Sequences
from companion.errors import InvalidEventError
from companion.opensips.events import EVENT_NAMES
from companion.steady_clock import steady_ms
from companion.store.connection import Command
from companion.store.keys import Keys
from companion.store.nodes import DEAD_AFTER_MS, Feed, prepare_feed
from companion.times import now_ms
from companion.usrloc.intervals import Intervals

logger = log.get(__name__)


class Feeds:
    """Keep the feeds of the nodes that we hold the lease of, by node in `held`."""

    def __init__(self) -> None:
        self.held: dict[str, Feed] = {}
        self.queued: set[str] = set()
        """Nodes whose messages come by a queue that keeps them, and may be old."""
        self.ends = RunEnds()
        self._alive_at: dict[str, int] = {}
        """When we took a node over or last took a heartbeat of it, by `steady_ms`."""
        self._sequences = Sequences()
        self._touched: set[str] = set()
        self._new_runs: set[str] = set()
        self._silent: set[str] = set()
        self.late: set[str] = set()
        """Nodes whose queue holds what is old, or may hold it."""
        self._episodes = log.Episodes(logger)

    def take_over(self, feed: Feed, seqs: Mapping[str, int]) -> None:
        """Resume a node's feed from its stored state and the stored seq of each event."""
        node = feed.node
        self.held[node] = feed
        self._alive_at[node] = steady_ms()
        if node in self.queued:
            self.late.add(node)  # until a heartbeat tells
        if feed.run:
            self._sequences.resume(node, feed.run, seqs)
        if not feed.is_alive(now_ms()):
            self.unsettle(node)
        logger.info("recording", node=node, cluster=feed.cluster)

    def clear(self) -> None:
        self.held.clear()
        self._sequences = Sequences()
        self._silent.clear()
        self._touched.clear()
        self._new_runs.clear()

    def drop(self, node: str) -> None:
        """Drop a node, all of which is stored."""
        del self.held[node], self._alive_at[node]
        self._silent.discard(node)
        self._touched.discard(node)
        self._new_runs.discard(node)
        self._sequences.forget(node)

    def drop_forgotten(self, stored: AbstractSet[str]) -> AbstractSet[str]:
        """Drop and return the silent nodes that are no longer `stored`: an administrator had them forgotten."""
        forgotten = self._silent - self._touched - stored
        for node in forgotten:
            self.drop(node)
            logger.info("a node was forgotten", node=node)
        return forgotten

    # Messages

    def drop_repeats(self, messages: Iterable[Message]) -> list[Message]:
        """Return the messages of nodes just taken over without those that the consumer before has stored.

        That is most of what was kept. To decode it would keep us from what is new.
        """
        kept = []
        for message in messages:
            if self._sequences.is_repeat(message):
                metrics.DUPLICATES.labels(message.node).inc(len(message.events))
            else:
                kept.append(message)
        return kept

    def check(self, message: Message) -> int:
        """Count what is missing before a message and return how many of its first events are repeats."""
        if self._sequences.begins_run(message):
            self._end_runs_before(message)
        node = message.node
        is_catching_up = self._sequences.is_catching_up(node)
        check = self._sequences.check(message)
        if check.repeated:
            metrics.DUPLICATES.labels(node).inc(check.repeated)
            if not is_catching_up and node not in self.queued:  # a queue may bring anything twice
                self._warn_of_repeats(message)
        if check.repeated == len(message.events):
            return check.repeated
        self._touched.add(node)
        if check.new_run:
            self._new_runs.add(node)
            self.held[node].run = message.run
            self.unsettle(node)
            metrics.RUNS.labels(node).inc()
        if check.missed and message.name != HEARTBEAT:
            self._count_missed(node, message.name, check.missed)
        return check.repeated

    def _warn_of_repeats(self, message: Message) -> None:
        if message.run < self._sequences.runs[message.node]:
            problem = "repeated events were ignored: check that no two bridges have the same [bridge] node"
        else:
            problem = "repeated events were ignored: check that [consumer] subscribe names each bridge once"
        self._episodes.warn(problem, node=message.node)

    def take_heartbeat(self, node: str, heartbeat: Heartbeat, ts: int) -> None:
        """Update a feed with the counts of its bridge and count the events that its seqs show to be missing."""
        feed = self.held[node]
        if node in self._silent or heartbeat.stream_down or _is_worse(feed, heartbeat):
            self.unsettle(node)
        if heartbeat.kernel_drops > feed.kernel_drops:
            feed.lost_at = now_ms()
        self._alive_at[node] = steady_ms()
        feed.heartbeat_at, feed.said_at = self._read_time(node, ts), ts
        feed.stream_breaks = heartbeat.stream_breaks
        feed.received, feed.invalid, feed.kernel_drops = heartbeat.received, heartbeat.invalid, heartbeat.kernel_drops
        self._count_tail(node, heartbeat.seqs)
        if heartbeat.end:
            feed.ended_run = feed.run
        self._silent.discard(node)

    def _read_time(self, node: str, ts: int) -> int:
        """Return when a feed was alive, by a heartbeat.

        An old one out of a queue says how the node was then. Until the queue is read, no contact of it is sure: an
        answer may wait behind its lost pings.
        """
        now = now_ms()
        if node in self.queued and now - ts > DEAD_AFTER_MS:
            self.late.add(node)
            self.unsettle(node)
            return ts
        self.late.discard(node)
        return now

    def take_refusals(self, node: str, refusals: Sequence[InvalidEventError]) -> None:
        """Count events that can not be taken, and keep the last AOR of one: its phone may not be shown."""
        if refusals:
            feed = self.held[node]
            feed.refused += len(refusals)
            feed.refused_aor, feed.refused_why = refusals[-1].aor, refusals[-1].reason
            feed.refused_at = now_ms()
            self.unsettle(node)

    def refuse(self, node: str) -> None:
        """Count an event with a time too far in the future."""
        metrics.REFUSED.labels("ahead").inc()
        feed = self.held[node]
        feed.refused += 1
        feed.refused_at, feed.refused_aor, feed.refused_why = now_ms(), "", "ahead"
        self.unsettle(node)
        self._episodes.warn(
            "events from the future are refused: synchronize the clocks of both machines (NTP)", node=node
        )

    def _count_missed(self, node: str, event: str, missed: int) -> None:
        metrics.MISSED.labels(node, event).inc(missed)
        metrics.GAPS.labels(node).inc()
        self.held[node].missed += missed
        self.held[node].gaps += 1
        self.held[node].lost_at = now_ms()
        self.unsettle(node)
        self._episodes.warn("events are missing on the bus", node=node, event_name=event, missed=missed)

    def _count_tail(self, node: str, seqs: Mapping[str, int]) -> None:
        for event, missed in self._sequences.check_tail(node, _events_of(seqs)).items():
            self._count_missed(node, event, missed)

    def _end_runs_before(self, message: Message) -> None:
        """Count what never arrived of the run before this message, and of runs of which nothing arrived."""
        node, last = message.node, self._sequences.runs[message.node]
        ends = self.ends.take_before(node, last, message.run)
        for run, end in ends.items():
            if run == last:
                self._count_tail(node, end.seqs)
            else:
                for event, seq in _events_of(end.seqs).items():
                    self._count_missed(node, event, seq + 1)
        with_end = {run for run, end in ends.items() if end.is_end} | {self.held[node].ended_run}
        self._count_unknown_ends(node, len({last, *ends} - with_end))

    def _count_unknown_ends(self, node: str, count: int) -> None:
        if count:
            metrics.UNENDED_RUNS.labels(node).inc(count)
            self._episodes.warn("a bridge ended without telling how far it came: events may be missing", node=node)

    def _end_silent_run(self, node: str) -> None:
        """Count what never arrived of the run of a silent node, once nothing of it can follow."""
        feed = self.held[node]
        end = self.ends.find(node, feed.run)
        if end is None or feed.ended_run == feed.run or not self.ends.is_quiet(end, DEAD_AFTER_MS / 1000):
            return
        missed = feed.missed
        self._count_tail(node, end.seqs)
        if end.is_end:
            feed.ended_run = feed.run
        if end.is_end or feed.missed > missed:
            self._touched.add(node)

    def _count_doubled(self, node: str, doubled: int) -> None:
        if doubled:
            self.held[node].doubled += doubled
            metrics.DOUBLED.labels(node).inc(doubled)
            self.unsettle(node)
            self._episodes.warn("pings arrive twice: subscribe each event once, over one transport", node=node)

    def unsettle(self, node: str) -> None:
        """Mark that events may be missing: the node's contacts may be wrong until they are pinged again."""
        self.held[node].steady_since = now_ms()

    def note_rollback(self) -> None:
        """Note that Redis lost what was written: any node may lack events, and all feeds are to be written anew."""
        for node, feed in self.held.items():
            self.unsettle(node)
            feed.lost_at = now_ms()
            feed.batch = 0
        self._touched.update(self.held)

    # Time

    def watch(self, now: int) -> bool:
        """Count each feed that fell silent, once, and return whether all feeds live; `now` is by `steady_ms`."""
        for node, feed in self.held.items():
            silent_ms = now - self._alive_at[node]
            if feed.heartbeat_at and silent_ms > DEAD_AFTER_MS and node not in self._silent:
                self._silent.add(node)
                self._sequences.fell_silent(node)
                self._touched.add(node)
                feed.silences += 1
                metrics.SILENCES.labels(node).inc()
                logger.warning("the bridge is silent", node=node, for_ms=silent_ms, limit_ms=DEAD_AFTER_MS)
            if node in self._silent:
                self._end_silent_run(node)
        return bool(self.held) and not self._silent and not self.late & self.held.keys()

    # Writing

    def progress(
        self, keys: Keys, removals: MutableMapping[str, int], intervals: Intervals, tokens: Mapping[str, str]
    ) -> list[Command]:
        """Return the commands that store the changed feeds, and the seqs up to which their events are stored.

        `removals`: how many contacts OpenSIPS itself removed since the last call, by node; they move into the feeds.
        `tokens`: those of our leases, by node.
        """
        commands: list[Command] = []
        for node in self._touched:
            self.held[node].removals += removals.pop(node, 0)
            self.held[node].interval_ms = intervals[node].observe() or self.held[node].interval_ms
            self._count_doubled(node, intervals.take_doubled(node))
            self.held[node].batch += 1
            seqs, new_run = self._sequences.seqs.get(node, {}), node in self._new_runs
            feed = self.held[node]
            commands += prepare_feed(keys, feed, seqs, new_run=new_run, token=tokens[node])
        self._touched.clear()
        self._new_runs.clear()
        return commands


def _events_of(seqs: Mapping[str, int]) -> dict[str, int]:
    return {event: seq for event, seq in seqs.items() if event in EVENT_NAMES}


def _is_worse(feed: Feed, heartbeat: Heartbeat) -> bool:
    """Return whether the bridge lost or refused events since its last heartbeat: one may have been an answer."""
    return (
        heartbeat.kernel_drops > feed.kernel_drops
        or heartbeat.invalid > feed.invalid
        or heartbeat.stream_breaks > feed.stream_breaks
    )
