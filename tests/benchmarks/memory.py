"""Measure how much memory a sample takes in Redis, by engine."""

import time
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Final

from companion.store.connection import Connection
from companion.store.keys import Keys
from companion.store.series import Series, Streams, TimeSeries
from tests.benchmarks.figure import Figure
from tests.benchmarks.processes import bench_redis

INTERVALS_SECONDS: Final = (120, 30)
WEEK_MS: Final = 7 * 86_400_000


def figures() -> Iterator[Figure]:
    """Store a week of pings of one device, one every 120 s or 30 s, with each engine."""
    with bench_redis() as (_, _, connection):
        engines: Sequence[type[Series]] = (TimeSeries, Streams)
        for seconds, engine in product(INTERVALS_SECONDS, engines):
            size = _of_week(connection, engine, seconds)
            samples = WEEK_MS // 1000 // seconds
            if seconds == INTERVALS_SECONDS[0]:
                yield Figure(f"bytes a sample, {engine.name}", f"{size / samples:.1f}", size / samples)
            yield Figure(f"  a week of pings, one in {seconds} s, {engine.name}", f"{size / 1000:,.0f} kB", size)


def _of_week(connection: Connection, engine: type[Series], seconds: int) -> float:
    """Return the bytes of a week of pings of one device."""
    key, start = f"{engine.name}-{seconds}", int(time.time() * 1000) - WEEK_MS + 1000 * seconds
    week = range(WEEK_MS // 1000 // seconds)
    written = [(key, start + n * 1000 * seconds, 60 + n * 7919 % 80) for n in week]
    series = engine(WEEK_MS, WEEK_MS, Keys("companion:", 1))
    replies = connection.pipeline(series.commands(written), raise_on_error=False)
    series.settle(connection, "latency", written, replies)
    return float(connection.call("MEMORY", "USAGE", key, "SAMPLES", 0))
