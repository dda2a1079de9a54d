"""Look after the data in Redis: `companion store migrate`."""

import typer
from rich.console import Console
from rich.progress import Progress

from companion import config
from companion.cli.options import ConfigFile, opened
from companion.services.heap import relax_garbage_collection
from companion.store.format import FORMAT
from companion.store.migration import migrate
from companion.text import times

app = typer.Typer(help="Look after the data in Redis.", no_args_is_help=True)


@app.callback()
def _several() -> None:
    """Make typer expect the name of a command: with one command alone it does not."""


@app.command("migrate")
def migrate_store(config_file: ConfigFile = None) -> None:
    """Convert the data that an earlier version wrote.

    Needed once after an update that says so. All history is kept. Stop all companions first: the command refuses to
    work while one runs. If it is interrupted, run it again.

    Example: systemctl stop companion && companion store migrate && systemctl start companion
    """
    settings = config.load(config_file)
    relax_garbage_collection()
    console = Console(stderr=True)
    with (
        opened(settings, any_format=True) as store,
        Progress(console=console, transient=True, disable=not console.is_terminal) as progress,
    ):
        task = progress.add_task("migrating", total=None)
        result = migrate(store, lambda done, total: progress.update(task, completed=done, total=total))
    if result.stored == FORMAT:
        typer.echo(f"nothing to do: the data has format {FORMAT}")
        return
    typer.echo(f"migrated from format {result.stored} to {FORMAT}: {times(result.converted, 'key')} converted")
    if result.unreadable:
        typer.echo(f"{times(result.unreadable, 'key')} could not be read and will expire")
