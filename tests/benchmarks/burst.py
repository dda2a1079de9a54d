"""Measure how many datagrams the bridge takes when all phones of a partition answer at once."""

import re
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import msgpack
import zmq

from companion.simulator.redis import find_free_port
from companion.simulator.wire import encode_notification
from tests.benchmarks.figure import Figure
from tests.benchmarks.processes import process
from tests.benchmarks.publisher import NODE, ping_params

DATAGRAMS: Final = 20_000
SECONDS: Final = 0.95


def figures(count: int = DATAGRAMS) -> Iterator[Figure]:
    """Send `count` datagrams to a bridge process in a second, then as fast as possible."""
    paced, flat_out = _burst(count, SECONDS), _burst(count, 0)
    yield from (
        Figure(
            f"burst of {count:,} datagrams in {paced.sent_in:.2f} s",
            f"{count - paced.received:,} lost; granted buffer {paced.granted:,} bytes",
        ),
        Figure(
            f"the same flat out, in {flat_out.sent_in:.2f} s",
            f"{count - flat_out.received:,} lost, {flat_out.drops:,} reported by the bridge",
        ),
        Figure("bridge, UDP to bus", f"{flat_out.rate:,.0f} events/s", flat_out.rate),
    )


class Burst(NamedTuple):
    """Hold how long sending took, what came out at which rate, the granted receive buffer and the counted drops."""

    sent_in: float
    received: int
    rate: float
    granted: int
    drops: int


def _burst(count: int, seconds: float) -> Burst:
    endpoint, port = f"tcp://127.0.0.1:{find_free_port()}", find_free_port()
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


def _send_burst(port: int, count: int, seconds: float) -> float:
    """Send in steps of a hundred, evenly over `seconds`, and return how long it took."""
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
    return encode_notification("E_UL_LATENCY_UPDATE", ping_params(number, 50_000, expires))


def _granted(bridge: subprocess.Popen[str]) -> int:
    """Return the receive buffer that the kernel granted, once the bridge is up."""
    assert bridge.stderr is not None
    granted = 0
    while select.select([bridge.stderr], [], [], 30)[0]:
        line = bridge.stderr.readline()
        if match := re.search(r"granted=(\d+)", line):
            granted = int(match[1])
        if "bridging" in line:
            break
    return granted
