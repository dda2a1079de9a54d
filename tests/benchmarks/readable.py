"""Measure how long after its publication a ping can be read from Redis."""

import time
from collections.abc import Iterator
from typing import Final

from companion.bus.publisher import Publisher
from companion.simulator.redis import find_free_port
from companion.store.connection import Connection
from companion.store.keys import Keys
from tests.benchmarks.figure import Figure
from tests.benchmarks.processes import bench_redis, consumer_command, process, wait_until
from tests.benchmarks.publisher import NODE, device_name, ping_params

PINGS: Final = 100
RATE: Final = 1000


def figures(pings: int = PINGS, rate: int = RATE) -> Iterator[Figure]:
    """Publish pings and wait until each is readable, while others come in at `rate` a second."""
    times = []
    with bench_redis() as (folder, redis, connection):
        endpoint = f"tcp://127.0.0.1:{find_free_port()}"
        with process(*consumer_command(folder, redis.url, endpoint)):
            publisher = Publisher(endpoint, NODE, high_water_mark=100_000)
            publisher._socket.poll(30_000)
            everyone = [ping_params(number, 50_000, int(time.time()) + 3600) for number in range(rate)]
            for turn in range(pings):
                for params in everyone[turn % 10 :: 10]:
                    publisher.publish("E_UL_LATENCY_UPDATE", params, int(time.time() * 1000))
                times.append(_until_readable(publisher, connection, turn))
            publisher.close()
    times.sort()
    yield from (
        Figure(f"event to readable at {rate:,} events/s, p50", f"{times[len(times) // 2] * 1000:.0f} ms"),
        Figure(f"event to readable at {rate:,} events/s, p99", f"{times[len(times) * 99 // 100] * 1000:.0f} ms"),
    )


def _until_readable(publisher: Publisher, connection: Connection, turn: int) -> float:
    """Publish a ping of a device of its own, wait at least 0.1 s until it is stored, and return the time it took."""
    ts = int(time.time() * 1000)
    started = time.monotonic()
    publisher.publish("E_UL_LATENCY_UPDATE", ping_params(1_000_000 + turn % 5, 50_000, int(time.time()) + 3600), ts)
    key = Keys("companion:", 1).latency(device_name(1_000_000 + turn % 5))

    def there() -> bool:
        last = connection.call("TS.GET", key) if connection.call("EXISTS", key) else None
        return last is not None and bool(last) and last[0] >= ts

    delay = wait_until(there, "a ping to be readable", pause=0.001) - started
    time.sleep(max(0.0, 0.1 - delay))
    return delay
