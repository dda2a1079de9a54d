"""Read the metrics of the fleet, the feeds and Redis from the store, the same in each companion.

A metric that Redis does not give is absent, never an old number; `redis_up` says why.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from companion import metrics
from companion.config import Config
from companion.http.monitoring.single_read import SingleRead
from companion.http.monitoring.watch import Watch
from companion.query.readiness import REASONS
from companion.store.breakers import load_open_breakers
from companion.store.call_quality import load_call_quality
from companion.store.connection import NotNowError, ResponseError, Unreachable
from companion.store.jobs import load_job_runs
from companion.store.nodes import Feed, load_feeds
from companion.store.server import read_state
from companion.store.store import Store
from companion.store.summary import load_summary
from companion.store.sweeps import load_last_sweep
from companion.usrloc.contact import STATUSES

FRESH_SECONDS: Final = 3.0
"""Scrapes within this time get the same answer, so they cost Redis next to nothing."""
PATIENCE_SECONDS: Final = 0.5
"""A Redis that has not answered by then counts as away: all of /metrics answers within a second."""


Values = Mapping[str, float] | Mapping[tuple[str, ...], float] | float | None


class Family(NamedTuple):
    """Describe a metric: its name without the prefix, its help text, and its labels, spaces between."""

    name: str
    text: str
    labels: str = ""
    kind: Literal["gauge", "counter"] = "gauge"

    def of(self, values: Values) -> Metric:
        """Return the metric with values by label or labels, with one value, or without any."""
        family = CounterMetricFamily if self.kind == "counter" else GaugeMetricFamily
        metric = family(metrics.PREFIX + self.name, self.text, labels=self.labels.split())
        by_labels = values if isinstance(values, Mapping) else {} if values is None else {(): values}
        for labels, value in by_labels.items():
            metric.add_metric((labels,) if isinstance(labels, str) else labels, value)
        return metric


UP: Final = Family("redis_up", "1 when Redis answers, 0 when it does not.")
PING_INTERVAL: Final = Family("ping_interval_seconds", "How often OpenSIPS pings each device, as configured.")
MEMORY_USED: Final = Family("redis_memory_used_bytes", "Memory that Redis uses.")
MEMORY_MAX: Final = Family("redis_memory_max_bytes", "Memory that Redis may use; 0 when nothing limits it.")
EVICTED: Final = Family(
    "redis_evicted_keys_total", "Keys that Redis threw away because it was full, since its start.", kind="counter"
)
NOT_READY: Final = Family("not_ready", "1 for each reason why the companion is not ready, else 0.", "reason")
JOB_DONE: Final = Family("job_last_run_timestamp_seconds", "When a scheduled job last did its work.", "job_name")
DEVICES: Final = Family("devices", "Devices by status, when the fleet was last counted.", "status")
CONTACTS: Final = Family(
    "contacts",
    "Contacts by the node that pinged them last and by status, when the fleet was last counted.",
    "node status",
)
COUNTED: Final = Family("fleet_counted_timestamp_seconds", "When the fleet was last counted.")
SWEPT: Final = Family("swept_timestamp_seconds", "When it was last seen to who stopped answering.")
BREAKER: Final = Family(
    "breaker_open", "1 while a mass event keeps a node's contacts from being acted on, else 0.", "node"
)
LAST_EVENT: Final = Family("feed_last_event_timestamp_seconds", "When a node's last event was received.", "node")
LAST_HEARTBEAT: Final = Family(
    "feed_last_heartbeat_timestamp_seconds", "When a node's bridge was last heard of.", "node"
)
LEFT_OUT: Final = Family("contacts_left_out", "Contacts of a node that are too many to be taken in now.", "node")
COUNTS: Final = {
    "received": Family("feed_received_total", "JSON objects a node's bridge received.", "node", "counter"),
    "invalid": Family("feed_invalid_total", "What a node's bridge refused of them.", "node", "counter"),
    "kernel_drops": Family("feed_kernel_drops_total", "Datagrams the kernel dropped at a bridge.", "node", "counter"),
    "gaps": Family("feed_gaps_total", "Places where a node's events are missing on the bus.", "node", "counter"),
    "missed": Family("feed_missed_total", "Events of a node that never reached the store.", "node", "counter"),
    "silences": Family("feed_silences_total", "Times a node's heartbeat stopped.", "node", "counter"),
    "removals": Family(
        "feed_opensips_removals_total", "Contacts OpenSIPS itself removed behind lost pings.", "node", "counter"
    ),
}
"""The counters of a feed."""
HOUR_CALLS: Final = Family(
    "media_hour_calls", "Calls of the last hour by the band of their mean R, when they were last added up.", "band"
)
HOUR_MOS: Final = Family("media_hour_mos", "Percentiles of the mean MOS of each call of the last hour.", "percentile")
HOUR_RELAY: Final = Family("media_hour_relay_ratio", "Share of the calls of the last hour that went through a relay.")
HOUR_LOSS: Final = Family("media_hour_loss_ratio", "Mean share of packets that calls of the last hour lost.")
HOUR_COUNTED: Final = Family("media_hour_timestamp_seconds", "When the calls of the last hour were last added up.")
FAMILIES: Final = (
    *(UP, NOT_READY, PING_INTERVAL, MEMORY_USED, MEMORY_MAX, EVICTED),
    *(DEVICES, CONTACTS, COUNTED, SWEPT, BREAKER, JOB_DONE),
    *(LAST_EVENT, LAST_HEARTBEAT, LEFT_OUT, *COUNTS.values()),
    *(HOUR_CALLS, HOUR_MOS, HOUR_RELAY, HOUR_LOSS, HOUR_COUNTED),
)


class FleetCollector(Collector):
    """Collect what a SingleRead reads of Redis: a Redis that hangs holds up no scrape for long."""

    def __init__(self, config: Config, store: Store, watch: Watch) -> None:
        self._ping_interval = config.pings.interval
        self._store = store
        self._watch = watch
        self._shared = SingleRead("fleet-metrics", self._read, PATIENCE_SECONDS, FRESH_SECONDS)

    def describe(self) -> Iterator[Metric]:
        return (family.of(None) for family in FAMILIES)

    def begin(self) -> None:
        """Begin to read, for a caller that has something else to wait for first."""
        self._watch.start()
        self._shared.start()

    def collect(self) -> Iterator[Metric]:
        yield PING_INTERVAL.of(self._ping_interval)
        self._watch.start()
        try:
            yield from self._shared.wait()
        except TimeoutError:
            yield UP.of(0)
        names = {reason.name for reason in self._watch.judge_in_thread().reasons}
        yield NOT_READY.of({name: float(name in names) for name in REASONS})

    def _read(self) -> list[Metric]:
        try:
            with metrics.READ_SECONDS.labels("metrics").time():
                return [UP.of(1), *self._fleet(), *self._feeds(), *self._media(), *self._server()]
        except (*Unreachable, NotNowError, ResponseError):
            return [UP.of(0)]

    def _fleet(self) -> Iterator[Metric]:
        last = load_summary(self._store)
        if last:
            yield COUNTED.of(datetime.fromisoformat(last["at"]).timestamp())
            yield DEVICES.of(_by_status(last["devices"]))
            yield CONTACTS.of(_by_node_and_status(last["contacts_by_node"]))
        swept_at = load_last_sweep(self._store).get("at")
        if swept_at:
            yield SWEPT.of(int(swept_at) / 1000)
        yield JOB_DONE.of({name: run.at / 1000 for name, run in load_job_runs(self._store).items()})

    def _feeds(self) -> Iterator[Metric]:
        feeds = load_feeds(self._store)
        yield BREAKER.of(self._breakers(feeds))
        yield LAST_EVENT.of(_times((feed.node, feed.last_event_at) for feed in feeds.values()))
        yield LAST_HEARTBEAT.of(_times((feed.node, feed.heartbeat_at) for feed in feeds.values()))
        yield LEFT_OUT.of({node: feed.left_out for node, feed in feeds.items()})
        for count, family in COUNTS.items():
            yield family.of({node: getattr(feed, count) for node, feed in feeds.items()})

    def _breakers(self, feeds: Mapping[str, Feed]) -> dict[str, float]:
        are_open = load_open_breakers(self._store, list(feeds))
        return {node: float(node in are_open) for node in feeds}

    def _media(self) -> Iterator[Metric]:
        quality = load_call_quality(self._store)
        if quality:
            loss, relayed = quality["loss_percent"], quality["relay_share"]
            yield HOUR_COUNTED.of(datetime.fromisoformat(quality["at"]).timestamp())
            yield HOUR_CALLS.of(quality["bands"])
            yield HOUR_MOS.of({name: mos for name, mos in quality["mos"].items() if mos is not None})
            yield HOUR_RELAY.of(relayed)
            yield HOUR_LOSS.of(None if loss is None else loss / 100)

    def _server(self) -> Iterator[Metric]:
        server = read_state(self._store)
        if server:
            yield MEMORY_USED.of(server.used_bytes)
            yield MEMORY_MAX.of(server.max_bytes)
            yield EVICTED.of(server.evicted_keys)


def _by_status(counts: Mapping[str, Any]) -> dict[str, float]:
    return {status: counts[status] for status in STATUSES}


def _by_node_and_status(counts: Mapping[str, Mapping[str, Any]]) -> dict[tuple[str, ...], float]:
    return {(node, status): by_status[status] for node, by_status in counts.items() for status in STATUSES}


def _times(times: Iterable[tuple[str, int]]) -> dict[str, float]:
    """Convert epoch ms to seconds; leave out times that never were."""
    return {node: at / 1000 for node, at in times if at}
