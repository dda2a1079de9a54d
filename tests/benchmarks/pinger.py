"""A publisher process: as a bridge would, it publishes the pings of a large fleet, at a pace that it is told."""

import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Final

from companion.bridge.clock import Stamps
from companion.bus.envelope import HEARTBEAT_SECONDS
from companion.bus.publisher import Publisher
from companion.config import BridgeSection
from companion.opensips.events import LATENCY
from tests.benchmarks.phones import Fleet
from tests.benchmarks.processes import process, read_line
from tests.benchmarks.publisher import NODE

STEP_SECONDS: Final = 0.005
"""As often as a bridge's event loop turns; what came in a turn goes out together."""


class Pinger:
    """The process, as who started it sees it. It has a subscriber, and pings nobody yet."""

    def __init__(self, child: subprocess.Popen[str]) -> None:
        self._child = child
        self.pid = child.pid
        self._hear()

    def pace(self, rate: float) -> int:
        """Go on with so many pings a second, 0 for none; how many were published since its start."""
        assert self._child.stdin is not None
        self._child.stdin.write(f"{rate}\n")
        self._child.stdin.flush()
        return self._hear()

    def _hear(self) -> int:
        said = read_line(self._child)
        if not said:
            raise RuntimeError(f"the publisher ended: {self._child.communicate()[1][-500:]}")
        return int(said)


@contextmanager
def pinger(endpoint: str, fleet: Fleet) -> Iterator[Pinger]:
    """Start it, and wait till somebody subscribes."""
    command = (sys.executable, "-m", "tests.benchmarks.pinger", endpoint, str(fleet.devices), str(fleet.expires))
    with process(*command) as child:
        yield Pinger(child)


# The process itself


def main() -> None:
    """argv: endpoint, devices, expires (epoch s). stdin: paces, a line each. stdout: how many it published so far."""
    endpoint, devices, expires = sys.argv[1], *map(int, sys.argv[2:4])
    publisher = Publisher(endpoint, NODE, high_water_mark=BridgeSection().high_water_mark)
    publisher._socket.poll(60_000)
    run(publisher, Fleet(devices, 0, expires))
    publisher.close()


def run(publisher: Publisher, fleet: Fleet) -> None:
    """Publish as stdin tells; a process that can not keep the pace makes up for it later."""
    pings, stamps = _pings(fleet), Stamps(_now)
    rate, published, since, done, beat_at = 0.0, 0, 0.0, 0, 0.0
    _say(published)
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
            if not (wish := sys.stdin.readline()):
                return
            rate, since, done, beat_at = float(wish), time.monotonic(), 0, 0.0
            _say(published)


def _pings(fleet: Fleet) -> Iterator[dict[str, object]]:
    """One phone after the other, again and again."""
    for turn in count(2):  # each phone has had its first
        for one in fleet.pinged():
            yield one.params(one.ping_us(turn), fleet.expires)


def _say(published: int) -> None:
    print(published, flush=True)


def _now() -> int:
    return int(time.time() * 1000)


if __name__ == "__main__":
    main()
