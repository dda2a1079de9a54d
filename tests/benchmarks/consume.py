"""Measure how many events a second the consumer stores, beside Redis alone and a naive loop."""

import sys
import time
from collections.abc import Callable, Iterator
from typing import Final

import msgpack
import zmq

from companion.simulator.redis import find_free_port
from companion.store.connection import Connection
from companion.store.keys import Keys
from companion.store.series import Row, TimeSeries
from tests.benchmarks.figure import Figure
from tests.benchmarks.processes import bench_redis, consumer_command, process, read_line, send_line, wait_until
from tests.benchmarks.publisher import NODE, device_name
from tests.benchmarks.services import processor_seconds

EVENTS: Final = 1_000_000
NAIVE_EVENTS: Final = 20_000
ROUNDS: Final = 3
PHONES: Final = 10_000
WEEK_MS: Final = 7 * 86_400_000


def figures() -> Iterator[Figure]:
    """Compare the best of some rounds, taken in turn: other work slows a round, nothing speeds one up."""
    rounds = [(ceiling(EVENTS), naive(NAIVE_EVENTS), end_to_end(EVENTS)) for _ in range(ROUNDS)]
    best_ceiling, best_naive, whole = (max(column, key=lambda one: one.number) for column in zip(*rounds, strict=True))
    yield from (best_ceiling, best_naive, whole)
    yield Figure("  of the naive loop", f"{whole.number / best_naive.number:.1f} ×")
    yield Figure("  of the ceiling", f"{whole.number / best_ceiling.number:.0%}")


def rows(count: int, key: Callable[[str], str], start: int) -> list[Row]:
    """Return `count` samples of PHONES devices in the order of a fleet's pings."""
    keys = [key(device_name(number)) for number in range(PHONES)]
    return [(keys[n % PHONES], start + n // PHONES, 40 + n * 7919 % 60) for n in range(count)]


def ceiling(count: int) -> Figure:
    """Measure the same samples through TS.MADD of 256 on one connection, with nothing else."""
    with bench_redis() as (_, _, connection):
        series = TimeSeries(WEEK_MS, WEEK_MS, Keys("companion:", 1))
        now = int(time.time() * 1000)
        first = rows(PHONES, Keys("companion:", 1).latency, now - 10_000)
        series.settle(connection, "latency", first, connection.pipeline(series.commands(first), raise_on_error=False))
        commands = series.commands(rows(count, Keys("companion:", 1).latency, now - 5_000))
        started = time.monotonic()
        for command in commands:
            connection.call(*command)
        rate = count / (time.monotonic() - started)
    return Figure("ceiling: TS.MADD of 256, nothing else", f"{rate:,.0f} samples/s", rate)


def naive(count: int) -> Figure:
    """Measure what a user would write first: one recv, one TS.ADD."""
    with bench_redis() as (_, _, connection):
        endpoint = f"tcp://127.0.0.1:{find_free_port()}"
        socket_: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.SUB)
        socket_.setsockopt(zmq.RCVHWM, 0)
        socket_.setsockopt(zmq.RCVTIMEO, 30_000)
        socket_.subscribe(b"E_UL_LATENCY_UPDATE")
        socket_.connect(endpoint)
        with process(*publisher_command(endpoint, PHONES, count)) as publisher:
            read_line(publisher)
            send_line(publisher)
            started = 0.0
            stored = 0
            while stored < count:
                _, body = socket_.recv_multipart()
                started = started or time.monotonic()
                envelope = msgpack.unpackb(body)
                for ts, params in [(envelope["ts"], envelope["params"]), *envelope.get("more", [])]:
                    connection.call("TS.ADD", f"{params['aor']}/{params['attr']}", ts, params["latency"] // 1000)
                    stored += 1
            rate = count / (time.monotonic() - started)
        socket_.close(0)
    return Figure("naive loop: one recv, one TS.ADD", f"{rate:,.0f} events/s", rate)


def end_to_end(count: int) -> Figure:
    """Measure publisher, consumer and Redis, a process each, from the first ping published to the last one stored."""
    with bench_redis() as (folder, redis, connection):
        endpoint = f"tcp://127.0.0.1:{find_free_port()}"
        with (
            process(*consumer_command(folder, redis.url, endpoint)) as consumer,
            process(*publisher_command(endpoint, PHONES, count)) as publisher,
        ):
            read_line(publisher)
            wait_until(lambda: _stored(connection, "E_UL_CONTACT_INSERT") == PHONES, "registrations")
            started, cpu_before = time.monotonic(), processor_seconds(consumer.pid)
            send_line(publisher)
            ended = wait_until(lambda: _stored(connection, "E_UL_LATENCY_UPDATE") == count, "pings")
            cpu_us = (processor_seconds(consumer.pid) - cpu_before) / count * 1e6
            samples = sum(_samples(connection, number) for number in range(PHONES))
            send_line(publisher)
    if samples != count:
        raise AssertionError(f"{count - samples} of {count} samples are missing")
    rate = count / (ended - started)
    value = f"{rate:,.0f} events/s, {cpu_us:.1f} µs of CPU time each, {samples:,} of {count:,} stored"
    return Figure("end to end, contact state included", value, rate)


def publisher_command(endpoint: str, phones: int, count: int) -> tuple[str, ...]:
    start = int(time.time() * 1000) - 60_000
    return (sys.executable, "-m", "tests.benchmarks.publisher", endpoint, str(phones), str(count), str(start))


def _stored(connection: Connection, event: str) -> int:
    """Return how many of an event are stored: seq counts from 0."""
    return int(connection.call("HGET", Keys("companion:", 1).seqs(NODE), event) or -1) + 1


def _samples(connection: Connection, number: int) -> int:
    info = connection.call("TS.INFO", Keys("companion:", 1).latency(device_name(number)))
    return int(
        dict(zip(info[::2], info[1::2], strict=True))["totalSamples"]
        if isinstance(info, list)
        else info["totalSamples"]
    )
