"""Define every counter and gauge of this process; docs/metrics.md explains them, and those from the store too.

Labels are bounded: never an AOR, a URI or a User-Agent.
"""

import platform
import threading
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.metrics_core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from companion import __version__

PREFIX: Final = "opensips_companion_"
REGISTRY: Final = CollectorRegistry()
RTT_BOUNDS_MS: Final = (10, 20, 30, 50, 75, 100, 150, 200, 300, 400, 600, 800, 1000, 1500, 2000, 3000, 5000, 10_000)
"""The default bounds of the quality labels are among them."""

disable_created_metrics()  # type: ignore[no-untyped-call]  # the start time of each counter doubles the series and nothing uses it
ProcessCollector(registry=REGISTRY)


def _counter(name: str, text: str, *labels: str) -> Counter:
    return Counter(PREFIX + name, text, labels, registry=REGISTRY)


def _gauge(name: str, text: str, *labels: str) -> Gauge:
    return Gauge(PREFIX + name, text, labels, registry=REGISTRY)


Info(PREFIX + "build", "What runs here.", registry=REGISTRY).info(
    {"version": __version__, "python": platform.python_version()}
)

RECEIVED = _counter("received_total", "JSON objects received from OpenSIPS.", "transport")
INVALID = _counter("invalid_total", "Input refused, by where and why.", "where", "reason")
DROPPED = _counter("dropped_total", "What was lost at a bounded queue.", "queue")
for _queue in (
    "consumer",
    "kernel_udp",
    "stream",
    "stream_connections",
    "hep",
    "kernel_hep",
    "traces",
    "siblings",
    "rabbitmq",
):
    DROPPED.labels(_queue)  # create it at 0: a counter that begins at 1 does not show that it rose
QUEUE_MESSAGES = _gauge("queue_messages", "Messages that wait in the RabbitMQ queue of a node.", "node")
QUEUE_AGE = _gauge(
    "queue_age_seconds", "How old the message was that came last from the RabbitMQ queue of a node.", "node"
)
PUBLISHED = _counter("published_total", "Events published on the bus.", "event")
CONNECTIONS = _gauge("stream_connections", "Open event_stream connections.")

HANDSHAKES_FAILED = _counter(
    "bus_handshakes_failed_total", "Connections of the bus that failed, by why.", "side", "why"
)
for _why in ("client_key", "server_key", "encryption", "broken"):
    for _side in ("bridge", "consumer"):
        HANDSHAKES_FAILED.labels(_side, _why)
BEHIND = _gauge("consumer_behind_seconds", "How long the oldest event that is not stored yet has waited.")
DEVICES_HELD = _gauge("consumer_devices", "Devices in the consumer's memory, by form.", "form")
for _form in ("unpacked", "packed"):
    DEVICES_HELD.labels(_form)

EVENTS = _counter("events_total", "Events taken from the bus.", "node", "event")
MISSED = _counter("missed_total", "Events published that never reached this consumer.", "node", "event")
GAPS = _counter("gaps_total", "Places where events are missing on the bus.", "node")
RUNS = _counter("publisher_runs_total", "Publisher starts seen on the bus.", "node")
UNENDED_RUNS = _counter("unended_runs_total", "Runs of a bridge that ended without telling how far they came.", "node")
SILENCES = _counter("silences_total", "Times a node's heartbeat stopped.", "node")
DUPLICATES = _counter("duplicates_total", "Events that were stored already.", "node")
SUSPECT_REMOVALS = _counter("suspect_removals_total", "Removals whose phone registered again soon after.", "node")
PROBES = _counter("probes_total", "Contacts asked by an OPTIONS of ours, by what came of it.", "node", "result")
DOUBLED = _counter("pings_doubled_total", "Pings that arrived twice, by two transports or subscriptions.", "node")
STORED = _counter("samples_stored_total", "Samples written to Redis.", "series")
IGNORED = _counter("ignored_total", "Events that say too little to change anything, by why.", "why")
LEFT_OUT = _counter("left_out_total", "Events of contacts that are not taken in, by why.", "node", "why")
REFUSED = _counter("samples_refused_total", "Samples Redis or the companion refused.", "reason")
BATCH_SIZE = Histogram(
    PREFIX + "batch_events",
    "Events a batch.",
    buckets=(1, 10, 100, 500, 1000, 2000, 5000, 10000),
    registry=REGISTRY,
)
WRITE_SECONDS = Histogram(PREFIX + "redis_write_seconds", "Time to write one batch to Redis.", registry=REGISTRY)
READ_SECONDS = Histogram(
    PREFIX + "redis_read_seconds",
    "Time to read from Redis what somebody asked for, by what it was.",
    ["question"],
    registry=REGISTRY,
)
UNHEARD = _counter("nodes_unheard_total", "Times that the consumer of a node's cluster did not hear it.", "node")
FENCED = _counter("writes_fenced_total", "Batches refused because another consumer had taken over.")
ROLLBACKS = _counter("redis_rollbacks_total", "Times that Redis had lost what the consumer had written to it.")
FLEET_READS = _counter(
    "fleet_reads_total", "Times that all devices were read: at the start, or after a gap in what changed."
)
REDIS_ERRORS = _counter("redis_errors_total", "Batches that failed at Redis and were tried again.")

RECONCILED = _counter("reconciles_total", "Times a node's dump was compared with the store.", "node", "result")
CORRECTIONS = _counter("corrections_total", "What reconciling found wrong, and what became of it.", "kind", "outcome")

TRACE_PACKETS = _counter("trace_packets_total", "Mirrored SIP messages, by what came of them.", "result")
for _result in ("stored", "unmatched", "unrecorded", "trimmed"):
    TRACE_PACKETS.labels(_result)
RECORDINGS = _counter("recordings_total", "Recordings of devices, by what was done.", "action")

SUBSCRIBED = _counter("subscriptions_total", "Subscriptions to OpenSIPS' events made through MI.", "node", "result")

MI_RESULTS: Final = ("ok", "error", "refused", "unreachable")
MI_REQUESTS = _counter(
    "mi_requests_total", "Requests to OpenSIPS' MI; error: it answered with one.", "node", "method", "result"
)
MI_SECONDS = Histogram(
    PREFIX + "mi_request_seconds",
    "Time of one request to OpenSIPS' MI; of a dump also that of taking it.",
    ["node", "method"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
    registry=REGISTRY,
)

# not "job": Prometheus has a label of that name for what it scrapes
JOB_FAILURES = _counter("job_failures_total", "Scheduled jobs that failed.", "job_name")
JOB_SECONDS = Histogram(
    PREFIX + "job_seconds",
    "Time a scheduled job took.",
    ["job_name"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
    registry=REGISTRY,
)

CANDIDATES = _gauge("candidates", "Contacts that stopped answering and may be acted on.", "node")
REMEDIATIONS = _counter(
    "remediations_total", "Decisions, by what was done and what came of it.", "node", "action", "result"
)
WOKEN_SECONDS = Histogram(
    PREFIX + "woken_seconds",
    "From the first push to the device's answer.",
    buckets=(1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 3600),
    registry=REGISTRY,
)

API_DENIED = _counter("api_denied_total", "Requests that were not let through, by why.", "why")
API_LOGINS = _counter("api_logins_total", "Logins on the login page, by what came of them.", "result")
API_ERRORS = _counter("api_errors_total", "Requests that failed by a mistake of ours.")
WORKERS_ENDED = _counter("api_workers_ended_total", "Processes of the API that ended and were started anew.")
API_STREAMS = _gauge("api_streams", "Open streams of server-sent events.")
API_STREAMS_REFUSED = _counter("api_streams_refused_total", "Streams refused because too many were open.")

HTTP_CONNECTIONS = _gauge("http_connections", "Open HTTP connections, WebSockets too.")
HTTP_CLOSED = _counter("http_connections_closed_total", "HTTP connections that were refused or cut, by why.", "why")
for _why in ("head", "body", "answer", "idle", "gave_way", "refused", "invalid"):
    HTTP_CLOSED.labels(_why)

MEDIA_REPORTS = _counter("media_reports_total", "Reports of browsers on their calls, by what came of them.", "result")
MEDIA_REFUSED = _counter("media_refused_total", "Reports of browsers that were refused, by why.", "why")
MEDIA_ITEMS = _counter("media_items_stored_total", "Media samples and happenings written to Redis.", "kind")
MEDIA_DUPLICATES = _counter("media_items_duplicate_total", "Media samples and happenings that were stored already.")
MEDIA_MISSING = _counter("media_items_missing_total", "Media samples and happenings that never came.")
MEDIA_ADVICE = _counter("media_advice_total", "Times a page was advised anew how much to send, by why.", "why")
for _result in ("stored", "nothing_new", "refused"):
    MEDIA_REPORTS.labels(_result)
for _kind in ("sample", "happening"):
    MEDIA_ITEMS.labels(_kind)
MEDIA_CALLS = _gauge("media_calls", "Calls that go on and had a report within 15 s.")
MEDIA_MOS = Histogram(
    PREFIX + "media_mos",
    "Mean MOS of what each report tells, where it could be told.",
    buckets=(1.5, 2, 2.58, 3.1, 3.6, 4.03, 4.34, 4.5),
    registry=REGISTRY,
)
"""Bounds are those of the bands: the MOS of R 50, 60, 70, 80 and 90."""
MEDIA_SECONDS = Histogram(
    PREFIX + "media_ingest_seconds",
    "Time from a report's head to its answer.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
    registry=REGISTRY,
)


class RoundTrips(Collector):
    """Collect a histogram of round trips from whole batches: one by one, 50,000 a second would cost 1 µs each.

    Any thread may read while another adds.
    """

    def __init__(self, name: str, text: str) -> None:
        self._name = name
        self._text = text
        self._lock = threading.Lock()
        self._nodes: dict[str, list[int]] = {}
        """By node: how many took no longer than each bound, how many there were, and their sum in ms."""
        REGISTRY.register(self)

    def observe(self, node: str, latencies_ms: Iterable[int]) -> None:
        """Count answered pings of a node, in 0.1 µs a ping where there are many."""
        ordered = sorted(latencies_ms)
        counts = [bisect_right(ordered, bound) for bound in RTT_BOUNDS_MS]
        with self._lock:
            counted = self._nodes.get(node, [0] * (len(RTT_BOUNDS_MS) + 2))
            self._nodes[node] = [a + b for a, b in zip(counted, (*counts, len(ordered), sum(ordered)), strict=True)]

    def collect(self) -> Iterator[Metric]:
        family = HistogramMetricFamily(self._name, self._text, labels=["node"])
        bounds = [*(str(bound / 1000) for bound in RTT_BOUNDS_MS), "+Inf"]
        with self._lock:
            nodes = dict(self._nodes)
        for node, (*counts, sum_ms) in nodes.items():
            family.add_metric([node], list(zip(bounds, counts, strict=True)), sum_ms / 1000)
        yield family


PING_RTT: Final = RoundTrips(PREFIX + "ping_rtt_seconds", "Round trips of answered pings.")
PINGS_LOST = _counter("pings_lost_total", "Pings that nobody answered.", "node")


def count_pings(node: str, answered_ms: Iterable[int], lost: int) -> None:
    """Count a batch of a node's pings: the round trips of answered ones, and the number of lost ones.

    Both metrics exist from a node's first ping on, because a rate of losses needs a start at 0.
    """
    PING_RTT.observe(node, answered_ms)
    PINGS_LOST.labels(node).inc(lost)


def count_refused_report(why: str) -> None:
    """Count a browser's report that was refused; `why` is one of a few fixed words."""
    MEDIA_REPORTS.labels("refused").inc()
    MEDIA_REFUSED.labels(why).inc()


def total(counter: Counter, **labels: str) -> float:
    """Return the sum of a counter over its children with these labels."""
    return sum(
        sample.value
        for metric in counter.collect()
        for sample in metric.samples
        if sample.name.endswith("_total") and labels.items() <= sample.labels.items()
    )
