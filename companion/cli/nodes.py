"""Show the nodes and their feeds, and forget a node: `companion nodes` and `companion node forget`."""

from typing import Annotated

import typer

from companion import config
from companion.cli.options import AsJson, ConfigFile, opened, show
from companion.cli.screens.nodes import render_nodes
from companion.errors import UsageError
from companion.query.now import View, load_view
from companion.query.reader import Reader
from companion.store import nodes as store_nodes
from companion.store.nodes import forget_node
from companion.times import SECOND_MS, format_seconds

app = typer.Typer(
    help="Forget a node that will not come back; `companion nodes` lists the nodes.", no_args_is_help=True
)


@app.callback()
def _several() -> None:
    """Make typer expect the name of a command: with one command alone it does not."""


def list_nodes(config_file: ConfigFile = None, as_json: AsJson = False) -> None:
    """List the nodes, one line each.

    A line shows whether the feed is alive, the last activity of bridge and OpenSIPS, contacts, missed events, the
    consumer that stores its events now (host and process), and an open breaker. In place of the consumer it says that
    nobody records the node, where the consumer that records its cluster does not hear it.

    The number of contacts is that of the last summary. `companion summary` shows more about each feed.
    """
    settings = config.load(config_file)
    with opened(settings) as store:
        rows = Reader(settings, store).nodes()["nodes"]
    show(rows, render_nodes(rows), as_json=as_json)


@app.command()
def forget(
    node: Annotated[str, typer.Argument(metavar="NODE", help="A node whose bridge will not come back.")],
    config_file: ConfigFile = None,
) -> None:
    """Forget a node that will not come back.

    Deletes the records of the node itself, so that nothing waits for it or warns about it. A node with a live feed is
    refused.

    Its contacts stay. They become offline when they expire, and their history is kept as usual.

    Example: companion node forget edge-2
    """
    settings = config.load(config_file)
    with opened(settings) as store:
        _check_is_gone(node, load_view(settings, store))
        deleted = forget_node(store, node)
    typer.echo(f"{node} is forgotten; deleted: {', '.join(deleted)}")
    if any(table.node == node for table in settings.opensips):
        typer.echo("its [[opensips]] table is still in the configuration: remove it, too")


def _check_is_gone(node: str, view: View) -> None:
    """Raise UsageError if there is no such node, or if it may be about to come back."""
    feed = view.feeds.get(node)
    if feed is None:
        raise UsageError(f"there is no node {node!r}; `companion nodes` lists the nodes")
    silent_ms = max(0, view.clock.now - feed.heartbeat_at)
    if silent_ms < store_nodes.GONE_AFTER_MS:
        silent, wait = (format_seconds(ms // SECOND_MS) for ms in (silent_ms, store_nodes.GONE_AFTER_MS))
        raise UsageError(
            f"{node} was alive {silent} ago: stop its bridge, and remove its bus from [consumer] subscribe; "
            f"{wait} later you can forget it"
        )
