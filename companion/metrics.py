"""Every counter and gauge of the companion. Labels are bounded: never an AOR, a URI or a User-Agent."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

PREFIX = "opensips_companion_"
REGISTRY = CollectorRegistry()


def _counter(name: str, text: str, *labels: str) -> Counter:
    return Counter(PREFIX + name, text, labels, registry=REGISTRY)


def _gauge(name: str, text: str, *labels: str) -> Gauge:
    return Gauge(PREFIX + name, text, labels, registry=REGISTRY)


RECEIVED = _counter("received_total", "JSON objects received from OpenSIPS.", "transport")
INVALID = _counter("invalid_total", "Input refused, by where and why.", "where", "reason")
DROPPED = _counter("dropped_total", "What was lost at a bounded queue.", "queue")
PUBLISHED = _counter("published_total", "Events published on the bus.", "event")
CONNECTIONS = _gauge("stream_connections", "Open event_stream connections.")

EVENTS = _counter("events_total", "Events taken from the bus.", "node", "event")
MISSED = _counter("missed_total", "Events published that never reached this consumer.", "node", "event")
GAPS = _counter("gaps_total", "Places where events are missing on the bus.", "node")
RUNS = _counter("publisher_runs_total", "Publisher starts seen on the bus.", "node")
SILENCES = _counter("silences_total", "Times a node's heartbeat stopped.", "node")
DUPLICATES = _counter("duplicates_total", "Events that were stored already.", "node")
STORED = _counter("samples_stored_total", "Samples written to Redis.", "series")
IGNORED = _counter("ignored_total", "Events that say too little to change anything, by why.", "why")
REFUSED = _counter("samples_refused_total", "Samples Redis or the companion refused.", "reason")
BATCH_SIZE = Histogram(
    PREFIX + "batch_events",
    "Events a batch.",
    buckets=(1, 10, 100, 500, 1000, 2000, 5000, 10000),
    registry=REGISTRY,
)
WRITE_SECONDS = Histogram(PREFIX + "redis_write_seconds", "Time to write one batch to Redis.", registry=REGISTRY)
REDIS_ERRORS = _counter("redis_errors_total", "Batches that failed at Redis and were tried again.")

RECONCILED = _counter("reconciles_total", "Times a node's dump was compared with the store.", "node", "result")
CORRECTIONS = _counter("corrections_total", "What reconciling found wrong, and what became of it.", "kind", "outcome")

SUBSCRIBED = _counter("subscriptions_total", "Subscriptions to OpenSIPS' events made through MI.", "node", "result")

JOB_FAILURES = _counter("job_failures_total", "Scheduled jobs that failed.", "job")
JOB_SECONDS = Histogram(PREFIX + "job_seconds", "Time a scheduled job took.", ["job"], registry=REGISTRY)

CANDIDATES = _gauge("candidates", "Contacts that stopped answering and may be acted on.", "node")
BREAKER = _gauge("breaker_open", "1 while a mass event keeps a node's contacts from being acted on.", "node")
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
API_STREAMS = _gauge("api_streams", "Open streams of server-sent events.")
API_STREAMS_REFUSED = _counter("api_streams_refused_total", "Streams refused because too many were open.")


def total(counter: Counter, **labels: str) -> float:
    """The sum of a counter's values over the children whose labels include `labels`."""
    return sum(
        sample.value
        for metric in counter.collect()
        for sample in metric.samples
        if sample.name.endswith("_total") and labels.items() <= sample.labels.items()
    )
