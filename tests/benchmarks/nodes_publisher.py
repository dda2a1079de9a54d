"""Publish registrations and pings of several nodes as fast as possible, as their bridges do; a process of its own."""

import select
import sys
import time
from collections.abc import Sequence
from typing import Final

from companion.bus.publisher import Publisher
from tests.benchmarks.publisher import HIGH_WATER_MARK, ping_params

TOGETHER: Final = 256
"""Events of a node before it is the next one's turn."""
BEAT_SECONDS: Final = 1.0


class Fleet:
    """Hold the publishers of some nodes, each with its own phones."""

    def __init__(self, endpoints: Sequence[str], phones: int) -> None:
        self._ts = int(time.time() * 1000) - 60_000
        self._nodes = [
            Publisher(endpoint, f"bench-{number}", high_water_mark=HIGH_WATER_MARK)
            for number, endpoint in enumerate(endpoints)
        ]
        expires, share = int(time.time()) + 3600, phones // len(endpoints)
        numbers = [range(node * share, (node + 1) * share) for node in range(len(endpoints))]
        self._phones = [[ping_params(number, 0, expires) for number in own] for own in numbers]
        self._beat_at = 0.0

    def register(self) -> None:
        """Publish a registration of each phone."""
        for node, phones in zip(self._nodes, self._phones, strict=True):
            node._socket.poll(60_000)
            for params in phones:
                node.gather("E_UL_CONTACT_INSERT", params, self._ts)
        self.beat(time.monotonic())

    def ping(self, events: int) -> None:
        """Publish so many pings of all nodes in turn."""
        for number in range(0, events, TOGETHER):
            node, turn = number // TOGETHER % len(self._nodes), number // (TOGETHER * len(self._nodes))
            self._ping_some(node, turn * TOGETHER)
            if (now := time.monotonic()) >= self._beat_at:
                self.beat(now)
        self.beat(time.monotonic())

    def beat(self, now: float) -> None:
        """Publish a heartbeat of each node."""
        self._beat_at = now + BEAT_SECONDS
        for node in self._nodes:
            node.heartbeat(self._ts)

    def wait(self) -> None:
        """Publish heartbeats until a line comes."""
        while not select.select([sys.stdin], [], [], BEAT_SECONDS)[0]:
            self.beat(time.monotonic())
        sys.stdin.readline()

    def close(self) -> None:
        """End the runs of all nodes."""
        for node in self._nodes:
            node.close()

    def _ping_some(self, node: int, first: int) -> None:
        phones, publisher = self._phones[node], self._nodes[node]
        for number in range(first, first + TOGETHER):
            params = phones[number % len(phones)]
            params["latency"] = 40_000 + number * 7919 % 60_000
            publisher.gather("E_UL_LATENCY_UPDATE", params, self._ts + 1 + number // len(phones))


def main() -> None:
    """Register, wait for a line, publish, wait for another; argv: phones, events, endpoints."""
    phones, events = map(int, sys.argv[1:3])
    fleet = Fleet(sys.argv[3:], phones)
    fleet.register()
    print("registered", flush=True)
    fleet.wait()
    fleet.ping(events)
    print("published", flush=True)
    fleet.wait()
    fleet.close()


if __name__ == "__main__":
    main()
