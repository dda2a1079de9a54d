"""Share options, access to the store, and output between commands."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console, RenderableType

from companion import config
from companion.errors import UnavailableError
from companion.store.connection import WRITER, Patience, ResponseError, Unreachable, find_remedy
from companion.store.store import Store, open_store
from companion.times import WINDOWS_MS

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "-c",
        "--config",
        metavar="FILE",
        help="The configuration file. Default: ./config.toml, if it exists.",
        dir_okay=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


class Window(StrEnum):
    """Represent how far to look back."""

    h3 = "3h"
    h6 = "6h"
    h12 = "12h"
    h24 = "24h"
    d7 = "7d"

    @property
    def ms(self) -> int:
        return WINDOWS_MS[self]


AWindow = Annotated[Window, typer.Option(metavar="WINDOW", help=f"How far to look back: {', '.join(Window)}.")]

PIPE_WIDTH: Final = 200
"""Columns where the output is no terminal: one line for each device, for grep."""


@contextmanager
def opened(
    settings: config.Config, patience: Patience = WRITER, *, any_format: bool = False, any_shards: bool = False
) -> Iterator[Store]:
    """Open the store for one command; an error of Redis ends the command with one line."""
    store = open_store(settings.redis, patience, any_format=any_format, any_shards=any_shards)
    try:
        yield store
    except (*Unreachable, ResponseError) as error:
        raise UnavailableError(f"Redis: {error}", find_remedy(error)) from None
    finally:
        store.close()


def show(payload: Any, page: RenderableType, *, as_json: bool) -> None:
    """Print the payload as JSON, or the page made of it."""
    if as_json:
        typer.echo(json.dumps(payload, indent=2))
        return
    console = Console()
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    console.print(page)
