"""Keep how far the runs of each node came, as heartbeats tell on a way that events can not block. No I/O."""

import time
from collections.abc import Callable
from typing import Final, NamedTuple

from companion.bus.envelope import Heartbeat

MOST_NODES: Final = 1000
MOST_RUNS: Final = 8
"""Runs of a node that are kept until the events behind them have arrived; of earlier ones the end stays unknown."""


class RunEnd(NamedTuple):
    """Hold the last seq of each event that a run has told, whether it ended with them, and when we heard it."""

    seqs: dict[str, int]
    is_end: bool
    heard_at: float


class RunEnds:
    """Keep the last heartbeat of each run, by node. It may be far ahead of the events that arrived."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._nodes: dict[str, dict[int, RunEnd]] = {}

    def hear(self, node: str, run: int, heartbeat: Heartbeat) -> None:
        """Take a heartbeat; nothing follows the one that says the end of its run."""
        runs = self._nodes.setdefault(node, {})
        if len(self._nodes) > MOST_NODES:
            del self._nodes[next(iter(self._nodes))]
        if run in runs and runs[run].is_end:
            return
        runs[run] = RunEnd(heartbeat.seqs, heartbeat.end, self._clock())
        if len(runs) > MOST_RUNS:
            del runs[next(iter(runs))]

    def find(self, node: str, run: int) -> RunEnd | None:
        """Return how far a run came, None when it told nothing."""
        return self._nodes.get(node, {}).get(run)

    def take_before(self, node: str, last: int, run: int) -> dict[int, RunEnd]:
        """Remove and return the run `last`, and those between it and the one that begins now."""
        runs = self._nodes.get(node, {})
        ended = [number for number in runs if number == last or last < number < run]
        return {number: runs.pop(number) for number in sorted(ended)}

    def is_quiet(self, end: RunEnd, seconds: float) -> bool:
        """Return whether no event of a run is to come: it said so, or it told nothing for so long."""
        return end.is_end or self._clock() - end.heard_at > seconds
