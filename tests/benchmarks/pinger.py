"""Publish the pings of a large fleet at a given pace, as a bridge does; a process of its own."""

import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Final

from companion.bridge.stamps import Stamps
from companion.bus.envelope import HEARTBEAT_SECONDS
from companion.bus.publisher import Publisher
from companion.config import BridgeSection
from companion.opensips.events import LATENCY
from tests.benchmarks.phones import Fleet
from tests.benchmarks.processes import process, read_line
from tests.benchmarks.publisher import NODE

STEP_SECONDS: Final = 0.005
"""As often as a bridge's event loop turns; the events of a turn are sent together."""


class Pinger:
    """Control the process, which has a subscriber and does not ping yet."""

    def __init__(self, child: subprocess.Popen[str]) -> None:
        self._child = child
        self.pid = child.pid
        self._read_count()

    def pace(self, rate: float) -> int:
        """Set the pings a second, 0 for none, and return how many were published since the start."""
        assert self._child.stdin is not None
        self._child.stdin.write(f"{rate}\n")
        self._child.stdin.flush()
        return self._read_count()

    def _read_count(self) -> int:
        published = read_line(self._child)
        if not published:
            raise RuntimeError(f"the publisher ended: {self._child.communicate()[1][-500:]}")
        return int(published)


@contextmanager
def pinger(endpoint: str, fleet: Fleet) -> Iterator[Pinger]:
    """Start the process and wait for a subscriber."""
    command = (sys.executable, "-m", "tests.benchmarks.pinger", endpoint, str(fleet.devices), str(fleet.expires))
    with process(*command) as child:
        yield Pinger(child)


# The process itself


def main() -> None:
    """Run the process: argv is endpoint, devices, expires (epoch s); stdin has paces, stdout counts of pings."""
    endpoint, devices, expires = sys.argv[1], *map(int, sys.argv[2:4])
    publisher = Publisher(endpoint, NODE, high_water_mark=BridgeSection().high_water_mark)
    publisher._socket.poll(60_000)
    run(publisher, Fleet(devices, 0, expires))
    publisher.close()


def run(publisher: Publisher, fleet: Fleet) -> None:
    """Publish at the paces from stdin; a process that falls behind catches up later."""
    pings, stamps = _pings(fleet), Stamps(_now)
    rate, published, since, done, beat_at = 0.0, 0, 0.0, 0, 0.0
    print(published, flush=True)
    while True:
        now = time.monotonic()
        if now >= beat_at:
            publisher.heartbeat(_now(), last_event_at=_now(), received=published)
            beat_at = now + HEARTBEAT_SECONDS
        due = int((now - since) * rate) - done
        for _ in range(due):
            params = next(pings)
            publisher.gather(LATENCY, params, stamps.next(str(params["aor"])))
        publisher.flush()
        published, done = published + due, done + due
        if select.select([sys.stdin], [], [], STEP_SECONDS)[0]:
            if not (pace := sys.stdin.readline()):
                return
            rate, since, done, beat_at = float(pace), time.monotonic(), 0, 0.0
            print(published, flush=True)


def _pings(fleet: Fleet) -> Iterator[dict[str, object]]:
    """Yield a ping of one phone after the other, in endless rounds."""
    for turn in count(2):  # each phone has had its first
        for one in fleet.pinged():
            yield one.params(one.ping_us(turn), fleet.expires)


def _now() -> int:
    return int(time.time() * 1000)


if __name__ == "__main__":
    main()
