"""`make bench`: what the companion does in a second, as ratios inside one run: these machines are noisy."""

import os
import platform
import sys
from collections.abc import Iterator

from rich.console import Console

from tests.benchmarks import measure, reconcile
from tests.benchmarks.large import large
from tests.benchmarks.measure import Figure
from tests.benchmarks.sweep import sweep

EVENTS = 1_000_000
NAIVE_EVENTS = 20_000
BURST = 20_000
RECONCILED = 100_000
ROUNDS = 3


def main() -> None:
    """Show each figure as it is known."""
    console = Console(width=110)
    console.print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    for figure in large() if "--large" in sys.argv else _usual():
        console.print(f"{figure.name:<52} {figure.value}")


def _usual() -> Iterator[Figure]:
    ceiling, naive, whole = _compared()
    yield from (ceiling, naive, whole)
    yield Figure("  of the naive loop", f"{whole.number / naive.number:.1f} ×")
    yield Figure("  of the ceiling", f"{whole.number / ceiling.number:.0%}")
    yield from measure.burst(BURST)
    yield from measure.bytes_per_sample()
    yield from measure.readable(100, 1000)
    yield from reconcile.figures(RECONCILED)
    yield from sweep()


def _compared() -> tuple[Figure, Figure, Figure]:
    """The best of some rounds of each, taken in turn: a noisy neighbour slows a round, nothing speeds one up."""
    rounds = [(measure.ceiling(EVENTS), measure.naive(NAIVE_EVENTS), measure.end_to_end(EVENTS)) for _ in range(ROUNDS)]
    best = [max(column, key=lambda figure: figure.number) for column in zip(*rounds, strict=True)]
    return best[0], best[1], best[2]


if __name__ == "__main__":
    main()
