"""Let a fleet's events come in at a pace, and tell how many of them were stored."""

import time
from collections.abc import Iterable
from itertools import islice
from typing import Final, NamedTuple

from companion.opensips.events import LATENCY, UPDATE
from companion.store.nodes import load_feed
from companion.store.store import Store
from companion.times import now_ms
from tests.benchmarks.pinger import Pinger
from tests.benchmarks.publisher import NODE
from tests.benchmarks.services import Services

COUNTED_AT_ONCE: Final = 2000
STORED_SECONDS: Final = 900.0
"""How long all events of a storm over a large fleet may take on busy cores."""


class Quiet(NamedTuple):
    """Hold the events published and missed up to a moment `at` (epoch ms) when none was under way."""

    published: int
    missed: int
    at: int


class Intake:
    """Hold a publisher, and the consumer and store that its events come to."""

    def __init__(self, store: Store, companion: Services, publisher: Pinger) -> None:
        self._store = store
        self._companion = companion
        self.publisher = publisher

    def stop(self) -> Quiet:
        """Stop the events and wait until all are stored; from `at` on there are none."""
        published = self.publisher.pace(0)
        self._companion.wait_until(lambda: self._applied() == published, "all events to be stored", STORED_SECONDS)
        time.sleep(0.1)  # a bridge's times may be some milliseconds ahead
        return Quiet(published, load_feed(self._store, NODE)[0].missed, now_ms())

    def measure_delay_ms(self) -> int:
        """Return the age of the newest stored event."""
        return now_ms() - load_feed(self._store, NODE)[0].last_event_at

    def count_samples(self, devices: Iterable[str], at: int) -> int:
        """Return how many samples the series of these devices have since `at` (epoch ms)."""
        keys, rest, samples = self._store.keys, iter(devices), 0
        while chunk := list(islice(rest, COUNTED_AT_ONCE)):
            commands = [("TS.RANGE", key(device), at, "+") for device in chunk for key in (keys.latency, keys.lost)]
            replies = self._store.connection.pipeline(commands, raise_on_error=False)
            samples += sum(len(points) for points in replies if isinstance(points, list))
        return samples

    def _applied(self) -> int:
        """Return how many events were stored or counted as missing: seq counts from 0."""
        seqs = load_feed(self._store, NODE)[1]
        return sum(seqs.get(event, -1) + 1 for event in (LATENCY, UPDATE))
