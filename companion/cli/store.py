"""Look after the data in Redis: `companion store migrate` and `companion store reshard`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from companion import config
from companion.cli.options import ConfigFile, opened
from companion.services.heap import relax_garbage_collection
from companion.store.format import FORMAT
from companion.store.migration import migrate
from companion.store.resharding import reshard
from companion.store.shards import Sharding, load_sharding
from companion.text import times

app = typer.Typer(help="Look after the data in Redis.", no_args_is_help=True)

Yes = Annotated[bool, typer.Option("-y", "--yes", help="Do not ask.")]


@contextmanager
def _progress_bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar where there is a terminal, and return what advances it."""
    relax_garbage_collection()
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(title, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


@app.command("migrate")
def migrate_store(config_file: ConfigFile = None) -> None:
    """Convert the data that an earlier version wrote.

    Needed once after an update that says so. All history is kept. Stop all companions first: the command refuses to
    work while one runs. If it is interrupted, run it again.

    Example: systemctl stop companion && companion store migrate && systemctl start companion
    """
    settings = config.load(config_file)
    with opened(settings, any_format=True) as store, _progress_bar("migrating") as progress:
        result = migrate(store, progress)
    if result.stored == FORMAT:
        typer.echo(f"nothing to do: the data has format {FORMAT}")
        return
    typer.echo(f"migrated from format {result.stored} to {FORMAT}: {times(result.converted, 'key')} converted")
    if result.unreadable:
        typer.echo(f"{times(result.unreadable, 'key')} could not be read and will expire")


@app.command("reshard")
def reshard_store(config_file: ConfigFile = None, yes: Yes = False) -> None:
    """Move the data to the number of shards that `[redis] shards` names.

    All history is kept. Stop all companions first: the command refuses to work while one runs. If it is interrupted,
    run it again: until it has ended, no companion starts.

    Example: COMPANION_REDIS__SHARDS=64 companion store reshard
    """
    settings = config.load(config_file)
    with opened(settings, any_shards=True) as store:
        stored, number = load_sharding(store.connection, store.keys), store.keys.shards
        if stored is None or stored == Sharding(number):
            typer.echo(f"nothing to do: {_describe(stored)}")
            return
        if not yes:
            before = stored.before or stored.number
            question = f"Move the data at {store.connection.place} from {before} to {times(number, 'shard')}?"
            typer.confirm(f"{question} No companion may run", abort=True, err=True)
        with _progress_bar("moving") as progress:
            result = reshard(store, progress)
    typer.echo(f"the data is in {times(number, 'shard')} now: {times(result.moved, 'key')} moved")
    if result.orphaned:
        typer.echo(f"{times(result.orphaned, 'key')} belong to nothing that is there, and will expire")


def _describe(stored: Sharding | None) -> str:
    return f"the data is in {times(stored.number, 'shard')}" if stored else "there is no data"
