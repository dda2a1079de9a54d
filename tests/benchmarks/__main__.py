"""Measure what the companion does in a second (`make bench`) or with a large fleet (`make bench-large`)."""

import argparse
import os
import platform
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Final

from rich.console import Console

from tests.benchmarks import (
    burst,
    consume,
    flood,
    media,
    memory,
    migrate,
    native,
    rabbitmq,
    readable,
    reconcile,
    register,
    share,
    sweep,
    units,
)
from tests.benchmarks.figure import Figure
from tests.benchmarks.large import Plan, large

WIDTH: Final = 130
BENCHMARKS: Final[dict[str, Callable[[], Iterator[Figure]]]] = {
    "consume": consume.figures,
    "share": share.figures,
    "burst": burst.figures,
    "flood": flood.figures,
    "register": register.figures,
    "memory": memory.figures,
    "readable": readable.figures,
    "reconcile": reconcile.figures,
    "sweep": sweep.figures,
    "migrate": migrate.figures,
    "media": media.figures,
    "units": units.figures,
    "native": native.figures,
    "rabbitmq": rabbitmq.figures,
}
"""In the order in which they run."""
PLAN_HELP: Final = {
    "devices": "number of devices",
    "rate": "events a second during the reading",
    "readers": "number of simultaneous readers",
    "think": "mean seconds between two pages of a reader",
    "seconds": "seconds of reading",
    "hours": "hours of pings that most devices have",
}


def main() -> None:
    """Print each figure as soon as it is measured."""
    arguments = _parse_arguments()
    console = Console(width=WIDTH)
    console.print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    figures = large(_plan(arguments), console) if arguments.large else _figures(arguments.only or list(BENCHMARKS))
    for figure in figures:
        console.print(f"{figure.name:<52} {figure.value}", highlight=False, soft_wrap=True)


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.benchmarks", description=__doc__)
    parser.add_argument("only", nargs="*", metavar="BENCHMARK", help=f"of {', '.join(BENCHMARKS)} (default: all)")
    parser.add_argument("--large", action="store_true", help="measure what a large fleet costs and how it is read")
    for field in fields(Plan):
        text = f"with --large: {PLAN_HELP[field.name]} (%(default)s)"
        parser.add_argument(f"--{field.name}", type=type(field.default), default=field.default, help=text)
    arguments = parser.parse_args()
    if unknown := set(arguments.only) - BENCHMARKS.keys():
        parser.error(f"no benchmark is called {min(unknown)!r}: choose of {', '.join(BENCHMARKS)}")
    return arguments


def _plan(arguments: argparse.Namespace) -> Plan:
    return Plan(**{field.name: getattr(arguments, field.name) for field in fields(Plan)})


def _figures(names: list[str]) -> Iterator[Figure]:
    for name in names:
        yield from BENCHMARKS[name]()


if __name__ == "__main__":
    main()
