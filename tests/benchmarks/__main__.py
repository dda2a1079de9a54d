"""`make bench`: what the companion does in a second, as ratios inside one run: these machines are noisy."""

import argparse
import os
import platform
from collections.abc import Iterator
from dataclasses import fields

from rich.console import Console

from tests.benchmarks import consume, media, reconcile
from tests.benchmarks.consume import Figure
from tests.benchmarks.large import Plan, large
from tests.benchmarks.sweep import sweep

EVENTS = 1_000_000
NAIVE_EVENTS = 20_000
BURST = 20_000
RECONCILED = 100_000
ROUNDS = 3
WIDTH = 130
PLANNED = {
    "devices": "how many there are",
    "rate": "events a second while many read",
    "readers": "how many read at once",
    "think": "seconds a reader thinks between two pages, on average",
    "seconds": "for how long they read",
}


def main() -> None:
    """Show each figure as it is known."""
    asked = _asked()
    console = Console(width=WIDTH)
    console.print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    for figure in large(_plan(asked), console) if asked.large else _usual():
        console.print(f"{figure.name:<52} {figure.value}", highlight=False, soft_wrap=True)


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--large", action="store_true", help="what a large fleet costs, and how it is read")
    for field in fields(Plan):
        text = f"with --large: {PLANNED[field.name]} (%(default)s)"
        parser.add_argument(f"--{field.name}", type=type(field.default), default=field.default, help=text)
    return parser.parse_args()


def _plan(asked: argparse.Namespace) -> Plan:
    return Plan(**{field.name: getattr(asked, field.name) for field in fields(Plan)})


def _usual() -> Iterator[Figure]:
    ceiling, naive, whole = _compared()
    yield from (ceiling, naive, whole)
    yield Figure("  of the naive loop", f"{whole.number / naive.number:.1f} ×")
    yield Figure("  of the ceiling", f"{whole.number / ceiling.number:.0%}")
    yield from consume.burst(BURST)
    yield from consume.bytes_per_sample()
    yield from consume.readable(100, 1000)
    yield from reconcile.figures(RECONCILED)
    yield from sweep()
    yield from media.figures()


def _compared() -> tuple[Figure, Figure, Figure]:
    """The best of some rounds of each, taken in turn: a noisy neighbour slows a round, nothing speeds one up."""
    rounds = [(consume.ceiling(EVENTS), consume.naive(NAIVE_EVENTS), consume.end_to_end(EVENTS)) for _ in range(ROUNDS)]
    best = [max(column, key=lambda figure: figure.number) for column in zip(*rounds, strict=True)]
    return best[0], best[1], best[2]


if __name__ == "__main__":
    main()
