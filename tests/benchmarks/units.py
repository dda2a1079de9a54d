"""Measure what each thing costs in memory, in Redis and in the companion: a device, a contact, a page, a stream."""

import gc
import http.client
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Final
from urllib.parse import quote

from companion.bus.publisher import Publisher
from companion.opensips.events import DELETE, INSERT, LATENCY
from companion.store.connection import Connection
from companion.store.keys import Keys
from tests.benchmarks.figure import Figure
from tests.benchmarks.processes import bench_redis
from tests.benchmarks.publisher import NODE, device_name, ping_params
from tests.benchmarks.readers import is_answered
from tests.benchmarks.services import Services, open_services, resident_bytes

DEVICES: Final = 60_000
OPEN: Final = 100
WARM: Final = 20
"""Pages and streams that are opened first: they load modules and fill caches."""
STEP_MS: Final = 30_000


class Fleet:
    """Publish events of phones, and wait until the consumer has stored them."""

    def __init__(self, companion: Services, connection: Connection) -> None:
        self._companion = companion
        self._connection = connection
        self._publisher = Publisher(companion.endpoint, NODE, high_water_mark=1_000_000)
        self._ts = int(time.time() * 1000) - 600_000
        self._expires = int(time.time()) + 3600
        self._published = 0

    def start(self) -> None:
        self._publisher._socket.poll(60_000)

    def send(self, event: str, numbers: Sequence[int], **changes: object) -> None:
        """Send an event of each phone."""
        self._ts += STEP_MS
        for number in numbers:
            params = ping_params(number, 40_000 + number % 60_000, self._expires) | changes
            if uri := changes.get("uri"):
                params["uri"] = f"sip:user{number}@{uri}.invalid;transport=ws"
                params["callid"] = f"{uri}{number}"
            self._publisher.gather(event, params, self._ts)
        self._publisher.heartbeat(self._ts)
        self._published += len(numbers)
        self._companion.wait_until(self._is_stored, f"{self._published} events")
        time.sleep(1.0)  # the last batch's answer is freed

    def _is_stored(self) -> bool:
        seqs = self._connection.call("HGETALL", Keys("companion:", 1).seqs(NODE))
        return sum(int(seq) + 1 for event, seq in seqs.items() if event != "HEARTBEAT") >= self._published

    def close(self) -> None:
        self._publisher.close()


def figures() -> Iterator[Figure]:
    """Measure devices and contacts, then pages and streams."""
    with bench_redis() as (folder, redis, connection), ExitStack() as stack:
        companion = stack.enter_context(open_services(folder, redis.url))
        fleet = Fleet(companion, connection)
        stack.callback(fleet.close)
        companion.start("consumer")
        fleet.start()
        yield from _of_contacts(companion, fleet, connection)
        companion.start("api")
        companion.wait_until(lambda: is_answered(companion.port, "/healthz"), "the API")
        yield from _of_api(companion)


def _of_contacts(companion: Services, fleet: Fleet, connection: Connection) -> Iterator[Figure]:
    pid = companion.services["consumer"].pid
    fleet.send(INSERT, range(1000))
    for _ in range(5):
        fleet.send(LATENCY, [*range(1000)] * (DEVICES // 1000))  # a burst of this size takes memory that stays
    every = range(1000, 1000 + DEVICES)
    steps: Sequence[tuple[str, Sequence[tuple[str, dict[str, object]]]]] = (
        ("a device with one contact, pinged", ((INSERT, {}), (LATENCY, {}))),
        ("  a further contact, pinged", ((INSERT, {"uri": "second"}), (LATENCY, {"uri": "second"}))),
        ("  a contact that ended", ((INSERT, {"uri": "third"}), (DELETE, {"uri": "third"}))),
    )
    for name, events in steps:
        before = resident_bytes(pid), _used(connection)
        for event, changes in events:
            fleet.send(event, every, **changes)
        grown, stored = resident_bytes(pid) - before[0], _used(connection) - before[1]
        yield Figure(name, f"{grown / DEVICES:,.0f} bytes in the consumer, {stored / DEVICES:,.0f} bytes in Redis")


def _of_api(companion: Services) -> Iterator[Figure]:
    pid = companion.services["api"].pid
    device = quote(device_name(5), safe="")
    for name, path in (
        ("a page of a device, opened", f"/devices/{device}"),
        ("an open stream", f"/api/v1/events?device={device}"),
    ):
        connections = [_open(companion.port, path) for _ in range(WARM)]
        time.sleep(2.0)
        gc.collect()
        before = resident_bytes(pid)
        connections += [_open(companion.port, path) for _ in range(OPEN)]
        time.sleep(2.0)
        yield Figure(name, f"{(resident_bytes(pid) - before) / OPEN / 1000:,.0f} kB in the API")
        for connection in connections:
            connection.close()


def _open(port: int, path: str) -> http.client.HTTPConnection:
    """Ask for a page, or begin to read a stream."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path, headers={"Accept": "text/html, text/event-stream"})
    answer = connection.getresponse()
    if answer.status != http.client.OK:
        raise RuntimeError(f"{path}: {answer.status}")
    if "event-stream" not in answer.headers["content-type"]:
        answer.read()
    return connection


def _used(connection: Connection) -> int:
    return int(connection.call("INFO", "memory")["used_memory"])
