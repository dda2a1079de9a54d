"""Measure how much memory a sample takes in Redis, by engine."""

import time
from collections.abc import Iterator, Sequence
from typing import Final

from companion.store.series import Series, Streams, TimeSeries
from tests.benchmarks.figure import Figure
from tests.benchmarks.processes import bench_redis

WEEK_SAMPLES: Final = 5040
WEEK_MS: Final = 7 * 86_400_000


def figures() -> Iterator[Figure]:
    """Store a week of pings of one device, one every 120 s, with each engine."""
    with bench_redis() as (_, _, connection):
        start = int(time.time() * 1000) - WEEK_MS + 120_000
        week = [(start + n * 120_000, 60 + n * 7919 % 80) for n in range(WEEK_SAMPLES)]
        engines: Sequence[type[Series]] = (TimeSeries, Streams)
        for engine in engines:
            series = engine(WEEK_MS, WEEK_MS)
            written = [(engine.name, ts, value) for ts, value in week]
            replies = connection.pipeline(series.commands(written), raise_on_error=False)
            series.settle(connection, "latency", written, replies)
            size = connection.call("MEMORY", "USAGE", engine.name, "SAMPLES", 0) / WEEK_SAMPLES
            yield Figure(f"bytes a sample, {engine.name}", f"{size:.1f}", size)
