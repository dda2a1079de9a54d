"""Publish the pings or registrations of a large fleet at a given pace, as a bridge does; a process of its own."""

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
from companion.opensips.events import LATENCY, UPDATE
from tests.benchmarks.phones import Fleet, Phone
from tests.benchmarks.processes import process, read_line
from tests.benchmarks.publisher import NODE

STEP_SECONDS: Final = 0.005
"""As often as a bridge's event loop turns; the events of a turn are sent together."""
RENEWED_SECONDS: Final = 3600
"""How much later a registration ends than the one before it."""


class Pinger:
    """Control the process, which has a subscriber and publishes nothing yet."""

    def __init__(self, child: subprocess.Popen[str]) -> None:
        self._child = child
        self.pid = child.pid
        self._read_count()

    def pace(self, rate: float, event: str = LATENCY) -> int:
        """Set the events a second, 0 for none; return how many were published since the start, of both names."""
        assert self._child.stdin is not None
        self._child.stdin.write(f"{rate} {event}\n")
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
    """Run the process: argv is endpoint, devices, expires (epoch s); stdin has paces, stdout counts of events."""
    endpoint, devices, expires = sys.argv[1], *map(int, sys.argv[2:4])
    publisher = Publisher(endpoint, NODE, high_water_mark=BridgeSection().high_water_mark)
    publisher._socket.poll(60_000)
    run(publisher, Fleet(devices, 0, expires))
    publisher.close()


def run(publisher: Publisher, fleet: Fleet) -> None:
    """Publish at the paces from stdin; a process that falls behind catches up later."""
    sources, stamps = Sources(fleet), Stamps(_now)
    event, rate, published, since, done, beat_at = LATENCY, 0.0, 0, 0.0, 0, 0.0
    print(published, flush=True)
    while True:
        now = time.monotonic()
        if now >= beat_at:
            publisher.heartbeat(_now(), last_event_at=_now(), received=published)
            beat_at = now + HEARTBEAT_SECONDS
        due = int((now - since) * rate) - done
        for _ in range(due):
            params = next(sources.by_event[event])
            publisher.gather(event, params, stamps.next(str(params["aor"])))
        publisher.flush()
        published, done = published + due, done + due
        if select.select([sys.stdin], [], [], STEP_SECONDS)[0]:
            if not (pace := sys.stdin.readline()):
                return
            (text, event), since, done, beat_at = pace.split(), time.monotonic(), 0, 0.0
            rate = float(text)
            print(published, flush=True)


class Sources:
    """Yield what OpenSIPS says of the phones, in endless rounds. A ping tells of the last registration."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._renewed = [0] * fleet.devices
        self.by_event = {LATENCY: self._pings(), UPDATE: self._registrations()}

    def _pings(self) -> Iterator[dict[str, object]]:
        for turn in count(2):  # each phone has had its first
            for one in self._fleet.pinged():
                yield self._params(one, one.ping_us(turn))

    def _registrations(self) -> Iterator[dict[str, object]]:
        while True:
            for one in self._fleet.registering():
                self._renewed[one.number] += 1
                yield self._params(one, 0)

    def _params(self, one: Phone, latency_us: int) -> dict[str, object]:
        renewed = self._renewed[one.number]
        return one.params(latency_us, self._fleet.expires + renewed * RENEWED_SECONDS, 1 + renewed)


def _now() -> int:
    return int(time.time() * 1000)


if __name__ == "__main__":
    main()
