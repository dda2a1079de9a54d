"""Measure what two consumers take that share eight nodes, beside one that has them all.

Two cores are too few for two consumers, a publisher and Redis. So they are compared at half speed too: each consumer
runs half of the time, as on a core half as fast, and the others have the rest.
"""

import itertools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from companion.simulator.redis import EmbeddedRedis, find_free_port
from companion.store.connection import Connection
from companion.store.keys import Keys
from tests.benchmarks.figure import Figure
from tests.benchmarks.processes import bench_redis, process, read_line, send_line, wait_until
from tests.benchmarks.services import processor_seconds

NODES: Final = [f"bench-{number}" for number in range(8)]
PHONES: Final = 10_000
ROUNDS: Final = 2
EVENTS: Final = 256 * len(NODES) * 300
KEYS: Final = Keys("companion:", 1)
TURN_SECONDS: Final = 0.01
"""How long a consumer of half speed runs and stands, in turn."""


class Run(NamedTuple):
    """Hold the seconds of one run, and the CPU seconds of its processes."""

    seconds: float
    consumers: list[float]
    publisher: float
    redis: float

    @property
    def per_processor_second(self) -> float:
        """Return the events that were stored for each CPU second of the busiest consumer."""
        return EVENTS / max(self.consumers)


def figures() -> Iterator[Figure]:
    """Compare one consumer with two, the best of some rounds. CPU time counts where cores are too few."""
    rounds = [(run(1), run(2)) for _ in range(ROUNDS)]
    one, two = (max(column, key=lambda result: result.per_processor_second) for column in zip(*rounds, strict=True))
    for name, result in (("one consumer, eight nodes", one), ("two consumers, four nodes each", two)):
        cpu = " and ".join(f"{seconds / EVENTS * 1e6:.1f}" for seconds in result.consumers)
        others = f"publisher {result.publisher:.1f} s, Redis {result.redis:.1f} s of {result.seconds:.1f} s"
        yield Figure(name, f"{EVENTS / result.seconds:,.0f} events/s, {cpu} µs of CPU time for each event; {others}")
    yield from _gains("here", one, two)
    yield from _gains("with consumers of half speed", run(1, at_half_speed=True), run(2, at_half_speed=True))


def _gains(where: str, one: Run, two: Run) -> Iterator[Figure]:
    gain = two.per_processor_second / one.per_processor_second
    yield Figure(f"  events for each CPU second of a consumer {where}", f"{gain:.2f} ×")
    yield Figure(f"  events for each second {where}", f"{one.seconds / two.seconds:.2f} ×")


def run(count: int, *, at_half_speed: bool = False) -> Run:
    """Let so many consumers store the same events."""
    with bench_redis() as (folder, redis, connection), ExitStack() as stack:
        endpoints = [f"tcp://127.0.0.1:{find_free_port()}" for _ in NODES]
        command = _consumer_command(folder, redis, endpoints)
        consumers = [stack.enter_context(process(*command)) for _ in range(count)]
        publisher = stack.enter_context(process(*_publisher_command(endpoints)))
        read_line(publisher)
        wait_until(lambda: _stored(connection, "E_UL_CONTACT_INSERT") == PHONES, "registrations")
        wait_until(lambda: _are_shared(connection, count), "even shares")
        if at_half_speed:
            stack.enter_context(_half_speed([consumer.pid for consumer in consumers]))
        return _measure(connection, redis, publisher, consumers)


def _measure(
    connection: Connection,
    redis: EmbeddedRedis,
    publisher: subprocess.Popen[str],
    consumers: list[subprocess.Popen[str]],
) -> Run:
    pids = [publisher.pid, redis.pid, *(consumer.pid for consumer in consumers)]
    before = [processor_seconds(pid) for pid in pids]
    started = wait_until(lambda: True, "")
    send_line(publisher)
    ended = wait_until(lambda: _stored(connection, "E_UL_LATENCY_UPDATE") == EVENTS, "pings", pause=0.05)
    publishing, storing, *own = (processor_seconds(pid) - at for pid, at in zip(pids, before, strict=True))
    send_line(publisher)
    return Run(ended - started, own, publishing, storing)


@contextmanager
def _half_speed(pids: Sequence[int]) -> Iterator[None]:
    """Let each process run half of the time, two of them in turn."""
    ended = threading.Event()

    def take_turns() -> None:
        for turn in itertools.count():
            for place, pid in enumerate(pids):
                os.kill(pid, signal.SIGCONT if (turn + place) % 2 else signal.SIGSTOP)
            if ended.wait(TURN_SECONDS):
                return

    thread = threading.Thread(target=take_turns)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def _consumer_command(folder: Path, redis: EmbeddedRedis, endpoints: list[str]) -> tuple[str, ...]:
    file = folder / "config.toml"
    buses = ", ".join(f'"{endpoint}"' for endpoint in endpoints)
    file.write_text(f'[redis]\nurl = "{redis.url}"\n[consumer]\nsubscribe = [{buses}]\nmax_pending = 1000000\n')
    return (sys.executable, "-m", "companion", "run", "consumer", "-c", str(file))


def _publisher_command(endpoints: list[str]) -> tuple[str, ...]:
    return (sys.executable, "-m", "tests.benchmarks.nodes_publisher", str(PHONES), str(EVENTS), *endpoints)


def _stored(connection: Connection, event: str) -> int:
    """Return how many of an event are stored of all nodes: seq counts from 0."""
    return sum(int(seq or -1) + 1 for seq in connection.pipeline(("HGET", KEYS.seqs(node), event) for node in NODES))


def _are_shared(connection: Connection, consumers: int) -> bool:
    """Return whether so many consumers hold the nodes, each as many."""
    tokens = connection.pipeline(("GET", KEYS.lease(node)) for node in NODES)
    owners = [token.rpartition("/")[0] if token else "" for token in tokens]
    return len(set(owners)) == consumers and all(owners.count(one) == len(NODES) // consumers for one in owners)
