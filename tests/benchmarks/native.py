"""Measure event_zeromq against event_datagram and the bridge, on a real OpenSIPS (OPENSIPS_SRC)."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from companion.opensips.events import LATENCY
from companion.simulator.redis import find_free_port
from companion.store.connection import Connection
from companion.store.keys import Keys
from tests.acceptance.conftest import BUILD_MODULE, NO_SOURCE, Build, build_module, find_build
from tests.acceptance.event_zeromq import Listener, Node, find_children, listening
from tests.benchmarks.figure import Figure
from tests.benchmarks.processes import bench_redis, consumer_command, process, wait_until
from tests.benchmarks.publisher import device_name, ping_params
from tests.benchmarks.services import processor_seconds

ROUNDS: Final = 3
EVENTS: Final = 10_000
"""In one burst: the bridge's receive buffer takes so many."""
BURSTS: Final = 10
PINGS: Final = 100
WAITS: Final = ((1, 100_000, 256), (8, 50_000, 512), (8, 50_000, 1))
"""Workers, events of each, MB of the ring."""
PARTS: Final = ("pack.c", "message.c", "ring.c", "stamps.c")


class Way(NamedTuple):
    """Hold an OpenSIPS, the process between it and the bus, and the bus."""

    node: Node
    between: int
    bus: str


def figures() -> Iterator[Figure]:
    """Compare the best of some rounds, taken in turn."""
    build = find_build()
    if not build or not os.environ.get("OPENSIPS_SRC"):
        yield Figure("event_zeromq", NO_SOURCE)
        return
    with tempfile.TemporaryDirectory() as folder:
        module = build_module(build, Path(folder))
        rounds: dict[str, list[Burst]] = {"event_zeromq": [], "event_datagram + bridge": []}
        for number in range(ROUNDS):
            for native, name in enumerate(reversed(rounds)):
                with _way(build, Path(folder, f"{number}{native}"), module, native=bool(native)) as way:
                    rounds[name].append(_burst(way))
        for name, bursts in rounds.items():
            yield from _figures_of(name, bursts)
        for native, name in enumerate(reversed(rounds)):
            yield from _readable(build, Path(folder, f"readable{native}"), module, name, native=bool(native))
        yield from _waits(Path(folder))


class Burst(NamedTuple):
    """Hold µs of CPU for an event, in OpenSIPS and between it and the bus, events a second, and how many were lost."""

    worker_us: float
    between_us: float
    rate: float
    lost: int


def _figures_of(name: str, bursts: list[Burst]) -> Iterator[Figure]:
    worker_us, between_us = min(one.worker_us for one in bursts), min(one.between_us for one in bursts)
    rate, lost = max(one.rate for one in bursts), sum(one.lost for one in bursts)
    yield Figure(f"{name}: CPU of an event in the SIP worker", f"{worker_us:.1f} µs, with its script", worker_us)
    yield Figure("  between it and the bus", f"{between_us:.1f} µs", between_us)
    yield Figure("  flat out", f"{rate:,.0f} events/s, {lost:,} of {ROUNDS * BURSTS * EVENTS:,} lost", rate)


@contextmanager
def _way(build: Build, folder: Path, module: Path, *, native: bool, event: str = "E_COMPANION_TEST") -> Iterator[Way]:
    """Start an OpenSIPS that raises events, with the module or with a bridge, which takes only OpenSIPS' events."""
    folder.mkdir()
    if native:
        with Node(build, folder, module, event=event) as node:
            yield Way(node, node.publisher, node.bus)
        return
    port, bus = find_free_port(), f"tcp://127.0.0.1:{find_free_port()}"
    file = folder / "config.toml"
    file.write_text(f'[bridge]\nnode = "sip1"\ndatagram = "udp:127.0.0.1:{port}"\npublish = "{bus}"\n')
    with (
        process(sys.executable, "-m", "companion", "run", "bridge", "-c", str(file)) as bridge,
        Node(build, folder, module, event=LATENCY, socket=f"udp:127.0.0.1:{port}") as node,
    ):
        yield Way(node, bridge.pid, bus)


def _burst(way: Way) -> Burst:
    """Raise bursts of events in one worker, each when the one before has arrived."""
    with listening(way.bus) as bus:
        wait_until(lambda: bool(bus.hear().heartbeats), "a heartbeat")
        opensips = _opensips(way)
        before, between = sum(map(processor_seconds, opensips)), processor_seconds(way.between)
        seconds = sum(_one_burst(way, bus, number) for number in range(1, BURSTS + 1))
        count = BURSTS * EVENTS
        worker_us = (sum(map(processor_seconds, opensips)) - before) / count * 1e6
        between_us = (processor_seconds(way.between) - between) / count * 1e6
        return Burst(worker_us, between_us, count / seconds, count - bus.received)


def _one_burst(way: Way, bus: Listener, number: int) -> float:
    """Return the seconds until all events were before, or nothing more came."""
    started = last_at = time.monotonic()
    before = bus.received
    way.node.flood(EVENTS)
    while bus.hear().received < EVENTS + before and time.monotonic() - last_at < 3:
        if bus.received > before:
            last_at = time.monotonic()
        time.sleep(0.001)
    way.node.await_floods(number)
    return time.monotonic() - started


def _opensips(way: Way) -> list[int]:
    children = find_children()
    return [pid for pid in children[way.node.pid] if pid != way.between]


def _readable(build: Build, folder: Path, module: Path, name: str, *, native: bool) -> Iterator[Figure]:
    """Raise pings one by one over MI, and wait until each is readable in Redis."""
    with (
        bench_redis() as (place, redis, connection),
        _way(build, folder, module, native=native, event=LATENCY) as way,
        process(*consumer_command(place, redis.url, way.bus)),
    ):
        wait_until(lambda: _raise_ping(way, PINGS) and _is_readable(connection, PINGS), "the consumer", pause=0.1)
        times = sorted(_until_readable(way, connection, number) for number in range(PINGS))
    p50, p99 = times[len(times) // 2] * 1000, times[len(times) * 99 // 100] * 1000
    yield Figure(f"{name}: raised over MI to readable", f"p50 {p50:.0f} ms, p99 {p99:.0f} ms")


def _until_readable(way: Way, connection: Connection, number: int) -> float:
    started = time.monotonic()
    _raise_ping(way, number)
    return wait_until(lambda: _is_readable(connection, number), "a ping to be readable", pause=0.001) - started


def _raise_ping(way: Way, number: int) -> bool:
    """Raise a ping of a phone of its own over MI, which takes a millisecond."""
    params = {**ping_params(number, 50_000, int(time.time()) + 3600), "path": ""}
    return bool(way.node.call("raise_event", event=LATENCY, params=json.dumps(params)))


def _is_readable(connection: Connection, number: int) -> bool:
    return bool(connection.call("EXISTS", Keys("companion:", 1).latency(device_name(number))))


def _waits(folder: Path) -> Iterator[Figure]:
    """Measure how long an event holds up a worker while the publisher is stopped."""
    source = BUILD_MODULE.parent
    program = folder / "latency"
    files = [str(source / name) for name in ("tests/latency.c", *PARTS)]
    subprocess.run(["cc", "-O2", "-std=gnu11", "-I", str(source), *files, "-lpthread", "-o", str(program)], check=True)
    for workers, events, size_mb in WAITS:
        command = [str(program), str(workers), str(events), str(size_mb)]
        line = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        p50, p99, p999, _, lost = (int(number) for number in line.split())
        full = f", ring full ({lost:,} lost)" if lost else ""
        yield Figure(
            f"event_zeromq stopped, {workers} workers{full}",
            f"p50 {p50 / 1000:.1f} µs, p99 {p99 / 1000:.1f} µs, p99.9 {p999 / 1000:.1f} µs",
        )
