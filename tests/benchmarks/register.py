"""Measure how fast the consumer takes the registrations of a fleet that is new to it, and what each device costs."""

import re
import time
from collections import defaultdict
from collections.abc import Generator, Iterator
from contextlib import closing
from typing import Final

from companion.opensips.events import INSERT, LATENCY
from companion.simulator.redis import find_free_port
from companion.store.connection import Connection
from companion.store.keys import Keys
from tests.benchmarks.consume import publisher_command
from tests.benchmarks.figure import Figure
from tests.benchmarks.processes import (
    WAIT_SECONDS,
    bench_redis,
    consumer_command,
    process,
    read_line,
    send_line,
    wait_until,
)
from tests.benchmarks.publisher import NODE
from tests.benchmarks.services import processor_seconds

PHONES: Final = 30_000
ROUNDS: Final = 3
LEAST_RATE: Final = 1000
"""Contacts a second below which a round has failed."""
SHARED: Final = ("devices", "answers", "expires", "failing", "writers")
"""Keys of a whole shard: each holds one entry of a device."""


def figures() -> Iterator[Figure]:
    """Take the best of some rounds: other work slows a round, nothing speeds one up."""
    rounds = [list(_of_round(PHONES)) for _ in range(ROUNDS)]
    yield from max(rounds, key=lambda figures: figures[0].number)


def cold_start(phones: int) -> Figure:
    """Register a large fleet once, and do nothing else with it. Fails when one registration is not stored."""
    with closing(_of_round(phones)) as figures:
        return next(figures)


def _of_round(phones: int) -> Generator[Figure]:
    """Register phones as fast as the consumer takes them, then ping each once."""
    with bench_redis() as (folder, redis, connection):
        endpoint = f"tcp://127.0.0.1:{find_free_port()}"
        with (
            process(*consumer_command(folder, redis.url, endpoint)) as consumer,
            process(*publisher_command(endpoint, phones, phones)) as publisher,
        ):
            server = int(connection.call("INFO", "server")["process_id"])
            wait_until(lambda: connection.call("HLEN", Keys("companion:", 1).consumers()), "the consumer")
            read_line(publisher)
            before = processor_seconds(consumer.pid), processor_seconds(server), _commands(connection)
            started = time.monotonic()
            patience = WAIT_SECONDS + phones / LEAST_RATE
            ended = wait_until(lambda: _stored(connection, INSERT) == phones, "registrations", seconds=patience)
            consumer_us = (processor_seconds(consumer.pid) - before[0]) / phones * 1e6
            redis_us = (processor_seconds(server) - before[1]) / phones * 1e6
            commands = (_commands(connection) - before[2]) / phones
            rate = phones / (ended - started)
            value = f"{rate:,.0f} contacts/s; of each {consumer_us:.0f} µs of CPU time in the consumer"
            yield Figure(
                f"registrations of {phones:,} new devices",
                f"{value}, {redis_us:.0f} µs and {commands:.1f} commands in Redis",
                rate,
            )
            send_line(publisher)
            read_line(publisher)
            wait_until(lambda: _stored(connection, LATENCY) == phones, "pings")
            yield from _of_keys(connection, phones)
            send_line(publisher)


def _of_keys(connection: Connection, phones: int) -> Iterator[Figure]:
    """Divide the memory of the keys of each kind by the number of devices."""
    sizes: dict[str, float] = defaultdict(float)
    keys: dict[str, list[str]] = defaultdict(list)
    for key in connection.redis.scan_iter("companion:*", count=1000):
        match = re.match(r"companion:\{\d+\}:([^:]+)", key)
        keys[match[1] if match else "other"].append(key)
    for kind, names in keys.items():
        some = names[:: max(1, len(names) // 1000)]
        used = connection.pipeline(("MEMORY USAGE", key, "SAMPLES", 0 if kind in SHARED else 5) for key in some)
        sizes[kind] = sum(filter(None, used)) / len(some) * len(names) / phones
    for kind, size in sorted(sizes.items(), key=lambda pair: -pair[1]):
        yield Figure(f"  {kind}", f"{size:,.0f} bytes", size)
    used_bytes = int(connection.call("INFO", "memory")["used_memory"])
    yield Figure("memory of Redis a device, all told", f"{used_bytes / phones:,.0f} bytes", used_bytes / phones)


def _commands(connection: Connection) -> int:
    """Return how many commands Redis has run, also those within scripts."""
    stats = connection.call("INFO", "commandstats")
    return sum(row["calls"] for name, row in stats.items() if name not in ("cmdstat_hget", "cmdstat_eval"))


def _stored(connection: Connection, event: str) -> int:
    """Return how many of an event are stored: seq counts from 0."""
    return int(connection.call("HGET", Keys("companion:", 1).seqs(NODE), event) or -1) + 1
