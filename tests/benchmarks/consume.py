"""What is measured, each on real servers and in processes of its own."""

import re
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgpack
import zmq

from companion.bus.publisher import Publisher
from companion.simulator.redis import EmbeddedRedis, free_port
from companion.simulator.wire import notification
from companion.store.connection import Connection
from companion.store.keys import Keys
from companion.store.series import Row, Series, Streams, TimeSeries
from tests.benchmarks.publisher import ping_params

PHONES = 10_000
WEEK_SAMPLES = 5040
WEEK_MS = 7 * 86_400_000
PATIENCE_SECONDS = 120.0
BURST_SECONDS = 0.95
NODE = "bench"


@dataclass(frozen=True)
class Figure:
    """One line of the table: `value` as text, `of` the name of the figure it is to be compared with."""

    name: str
    value: str
    number: float = 0.0


@contextmanager
def bench_redis() -> Iterator[tuple[Path, EmbeddedRedis, Connection]]:
    """A Redis with TimeSeries, without persistence: what is measured is memory and CPU, not a disk."""
    with tempfile.TemporaryDirectory() as folder, EmbeddedRedis(Path(folder) / "redis", persistent=False) as redis:
        connection = Connection(redis.url)
        yield Path(folder), redis, connection
        connection.close()


@contextmanager
def process(*command: str) -> Iterator[subprocess.Popen[str]]:
    """A child with pipes, ended at the end whatever happens."""
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.communicate(timeout=15)
        except subprocess.TimeoutExpired:
            child.kill()
            child.communicate()


def wait_until(done: Callable[[], bool], what: str, pause: float = 0.01) -> float:
    """Wait for a condition and tell the time it came true; a benchmark that hangs says at what."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(pause)
    return time.monotonic()


def say(child: subprocess.Popen[str]) -> None:
    assert child.stdin is not None
    child.stdin.write("\n")
    child.stdin.flush()


def hear(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


def rows(count: int, key: Callable[[str], str], start: int) -> list[Row]:
    """`count` samples of PHONES devices, as a fleet's pings come in."""
    keys = [key(device_name(number)) for number in range(PHONES)]
    return [(keys[n % PHONES], start + n // PHONES, 40 + n * 7919 % 60) for n in range(count)]


def device_name(number: int) -> str:
    return f"user{number}/urn:uuid:6513270e-269e-0d37-f2a7-{number:012x}"


def ceiling(count: int) -> Figure:
    """The same samples through one connection's TS.MADD of 256 with nothing else."""
    with bench_redis() as (_, _, connection):
        series = TimeSeries(WEEK_MS, WEEK_MS)
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
    """What a user would write: one recv, one TS.ADD."""
    with bench_redis() as (_, _, connection):
        endpoint = f"tcp://127.0.0.1:{free_port()}"
        socket_: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.SUB)
        socket_.setsockopt(zmq.RCVHWM, 0)
        socket_.setsockopt(zmq.RCVTIMEO, 30_000)
        socket_.subscribe(b"E_UL_LATENCY_UPDATE")
        socket_.connect(endpoint)
        with process(*_publisher(endpoint, PHONES, count)) as publisher:
            hear(publisher)
            say(publisher)
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
    """Publisher, companion and Redis, a process each: from the first ping published to the last one stored."""
    with bench_redis() as (folder, redis, connection):
        endpoint = f"tcp://127.0.0.1:{free_port()}"
        with (
            process(*_consumer(folder, redis.url, endpoint)),
            process(*_publisher(endpoint, PHONES, count)) as publisher,
        ):
            hear(publisher)
            wait_until(lambda: _stored(connection, "E_UL_CONTACT_INSERT") == PHONES, "registrations")
            started = time.monotonic()
            say(publisher)
            ended = wait_until(lambda: _stored(connection, "E_UL_LATENCY_UPDATE") == count, "pings")
            samples = sum(_samples(connection, number) for number in range(PHONES))
            say(publisher)
    if samples != count:
        raise AssertionError(f"{count - samples} of {count} samples are missing")
    rate = count / (ended - started)
    return Figure("end to end, contact state included", f"{rate:,.0f} events/s, {samples:,} of {count:,} stored", rate)


def burst(count: int) -> list[Figure]:
    """A bridge process and `count` datagrams in a second, as when all phones of a partition answer; then flat out."""
    paced, flat_out = _burst(count, BURST_SECONDS), _burst(count, 0)
    return [
        Figure(
            f"burst of {count:,} datagrams in {paced.sent_in:.2f} s",
            f"{count - paced.received:,} lost; granted buffer {paced.granted:,} bytes",
        ),
        Figure(
            f"the same flat out, in {flat_out.sent_in:.2f} s",
            f"{count - flat_out.received:,} lost, {flat_out.drops:,} reported by the bridge",
        ),
        Figure("bridge, UDP to bus", f"{flat_out.rate:,.0f} events/s", flat_out.rate),
    ]


class Burst(NamedTuple):
    """How long sending took, what came out at what rate, the receive buffer granted and the drops it counted."""

    sent_in: float
    received: int
    rate: float
    granted: int
    drops: int


def _burst(count: int, seconds: float) -> Burst:
    endpoint, port = f"tcp://127.0.0.1:{free_port()}", free_port()
    subscriber: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.SUB)
    subscriber.setsockopt(zmq.RCVHWM, 0)
    subscriber.subscribe(b"")
    subscriber.connect(endpoint)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "config.toml"
        file.write_text(f'[bridge]\nnode = "{NODE}"\ndatagram = "udp:127.0.0.1:{port}"\npublish = "{endpoint}"\n')
        with process(sys.executable, "-m", "companion", "run", "bridge", "-c", str(file)) as bridge:
            granted = _granted(bridge)
            subscriber.recv_multipart()  # a heartbeat: we are subscribed
            sent_in = _send_burst(port, count, seconds)
            stamps: list[int] = []
            drops = 0
            while len(stamps) < count and subscriber.poll(5000):
                event, body = subscriber.recv_multipart()
                message = msgpack.unpackb(body)
                if event == b"E_UL_LATENCY_UPDATE":
                    stamps += [message["ts"], *(ts for ts, _ in message.get("more", []))]
                else:
                    drops = message["params"]["kernel_drops"]
                    if stamps and subscriber.poll(100) == 0:
                        break  # a heartbeat, and nothing behind it
    subscriber.close(0)
    return Burst(sent_in, len(stamps), 1000 * len(stamps) / (stamps[-1] - stamps[0]), granted, drops)


def bytes_per_sample() -> list[Figure]:
    """A week of pings every 120 s of one device, in either engine."""
    figures = []
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
            figures.append(Figure(f"bytes a sample, {engine.name}", f"{size:.1f}", size))
    return figures


def readable(pings: int, rate: int) -> list[Figure]:
    """How long after publishing a ping can be read from Redis, while others come in at `rate` a second."""
    times = []
    with bench_redis() as (folder, redis, connection):
        endpoint = f"tcp://127.0.0.1:{free_port()}"
        with process(*_consumer(folder, redis.url, endpoint)):
            publisher = Publisher(endpoint, NODE, high_water_mark=100_000)
            publisher._socket.poll(30_000)
            everyone = [ping_params(number, 50_000, int(time.time()) + 3600) for number in range(rate)]
            for turn in range(pings):
                for params in everyone[turn % 10 :: 10]:
                    publisher.publish("E_UL_LATENCY_UPDATE", params, int(time.time() * 1000))
                times.append(_until_readable(publisher, connection, turn))
            publisher.close()
    times.sort()
    return [
        Figure(f"event to readable at {rate:,} events/s, p50", f"{times[len(times) // 2] * 1000:.0f} ms"),
        Figure(f"event to readable at {rate:,} events/s, p99", f"{times[len(times) * 99 // 100] * 1000:.0f} ms"),
    ]


def _until_readable(publisher: Publisher, connection: Connection, turn: int) -> float:
    """Publish a ping of a device of its own, and wait till its sample is there; a tenth of a second at least."""
    ts = int(time.time() * 1000)
    started = time.monotonic()
    publisher.publish("E_UL_LATENCY_UPDATE", ping_params(1_000_000 + turn % 5, 50_000, int(time.time()) + 3600), ts)
    key = Keys("companion:", 1).latency(device_name(1_000_000 + turn % 5))

    def there() -> bool:
        last = connection.call("TS.GET", key) if connection.call("EXISTS", key) else None
        return last is not None and bool(last) and last[0] >= ts

    taken = wait_until(there, "a ping to be readable", pause=0.001) - started
    time.sleep(max(0.0, 0.1 - taken))
    return taken


def _send_burst(port: int, count: int, seconds: float) -> float:
    """Send in steps of a hundred, evenly over `seconds`; how long it took."""
    expires = int(time.time()) + 3600
    datagrams = [_datagram(number, expires) for number in range(count)]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect(("127.0.0.1", port))
        started = time.monotonic()
        for number, datagram in enumerate(datagrams):
            sender.send(datagram)
            if number % 100 == 0:
                time.sleep(max(0.0, started + seconds * number / count - time.monotonic()))
        return time.monotonic() - started


def _datagram(number: int, expires: int) -> bytes:
    return notification("E_UL_LATENCY_UPDATE", ping_params(number, 50_000, expires))


def _granted(bridge: subprocess.Popen[str]) -> int:
    """What the bridge says the kernel granted, once it is up."""
    assert bridge.stderr is not None
    granted = 0
    while select.select([bridge.stderr], [], [], 30)[0]:
        line = bridge.stderr.readline()
        if found := re.search(r"granted=(\d+)", line):
            granted = int(found[1])
        if "bridging" in line:
            break
    return granted


def _publisher(endpoint: str, phones: int, count: int) -> tuple[str, ...]:
    start = int(time.time() * 1000) - 60_000
    return (sys.executable, "-m", "tests.benchmarks.publisher", endpoint, str(phones), str(count), str(start))


def _consumer(folder: Path, url: str, endpoint: str) -> tuple[str, ...]:
    file = folder / "config.toml"
    file.write_text(f'[redis]\nurl = "{url}"\n[consumer]\nsubscribe = ["{endpoint}"]\nmax_pending = 1000000\n')
    return (sys.executable, "-m", "companion", "run", "consumer", "-c", str(file))


def _stored(connection: Connection, event: str) -> int:
    """Up to where this event's seq is stored: seq counts from 0."""
    return int(connection.call("HGET", Keys("companion:", 1).seqs(NODE), event) or -1) + 1


def _samples(connection: Connection, number: int) -> int:
    info = connection.call("TS.INFO", Keys("companion:", 1).latency(device_name(number)))
    return int(
        dict(zip(info[::2], info[1::2], strict=True))["totalSamples"]
        if isinstance(info, list)
        else info["totalSamples"]
    )
