"""Measure how many events a second go through RabbitMQ into Redis, beside ZeroMQ in the same run."""

import asyncio
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from companion.bus.rabbitmq_publisher import RabbitPublisher
from companion.store.connection import Connection
from companion.store.keys import Keys
from tests.benchmarks.consume import end_to_end
from tests.benchmarks.figure import Figure
from tests.benchmarks.processes import bench_redis, consumer_command, process, wait_until
from tests.benchmarks.publisher import NODE, ping_params
from tests.integration.rabbitmq_process import RabbitServer, find_rabbitmq

EVENTS: Final = 100_000
PHONES: Final = 10_000
UNDER_WAY: Final = 2000
"""Messages that RabbitMQ may lie behind: a bridge would drop none."""


def figures() -> Iterator[Figure]:
    """Publish the same pings over both, as fast as the consumer stores them."""
    if find_rabbitmq() is None:
        yield Figure("rabbitmq", "skipped: rabbitmq-server is missing")
        return
    zeromq = end_to_end(EVENTS)
    with tempfile.TemporaryDirectory() as folder, RabbitServer(Path(folder)) as server:
        rate = _through_rabbitmq(server.url)
    yield Figure("rabbitmq: publisher to Redis", f"{rate:,.0f} events/s, {rate / zeromq.number:.0%} of ZeroMQ", rate)


def _through_rabbitmq(url: str) -> float:
    """Return the events a second from the first ping published to the last one stored."""
    with bench_redis() as (folder, redis, connection), process(*consumer_command(folder, redis.url, url)):
        started = asyncio.run(_publish(url, connection))
        ended = wait_until(lambda: _stored(connection, "E_UL_LATENCY_UPDATE") == EVENTS, "pings")
    return EVENTS / (ended - started)


async def _publish(url: str, connection: Connection) -> float:
    """Publish registrations, then pings, and return when the pings began."""
    publisher = RabbitPublisher(url, NODE, high_water_mark=100_000)
    publisher.start()
    ts, expires = int(time.time() * 1000) - 60_000, int(time.time()) + 3600
    fleet = [ping_params(number, 0, expires) for number in range(PHONES)]
    for params in fleet:
        publisher.gather("E_UL_CONTACT_INSERT", params, ts)
    while _stored(connection, "E_UL_CONTACT_INSERT") < PHONES:
        publisher.heartbeat(ts)  # the consumer learns of the node by it
        await asyncio.sleep(0.2)
    started = time.monotonic()
    for number in range(EVENTS):
        params = fleet[number % PHONES]
        params["latency"] = 40_000 + number * 7919 % 60_000
        publisher.gather("E_UL_LATENCY_UPDATE", params, ts + 1 + number // PHONES)
        while publisher.backlog > UNDER_WAY:  # noqa: ASYNC110 - nothing else runs here
            await asyncio.sleep(0)
    await publisher.finish()
    return started


def _stored(connection: Connection, event: str) -> int:
    """Return how many of an event are stored: seq counts from 0."""
    return int(connection.call("HGET", Keys("companion:", 1).seqs(NODE), event) or -1) + 1
