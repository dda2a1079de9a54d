"""`companion nodes` and `companion node …`: whose events come in, and a node that is gone for good."""

from typing import Annotated

import typer

from companion import config
from companion.cli.options import AsJson, ConfigFile, opened, show
from companion.cli.screens.nodes import nodes_table
from companion.errors import UsageError
from companion.query.now import View, load_view
from companion.query.reader import Reader
from companion.store import nodes as store_nodes
from companion.store.nodes import forget_node

app = typer.Typer(help="Forget a node that is gone for good; `companion nodes` lists them.", no_args_is_help=True)


@app.callback()
def _several() -> None:
    """Without this a typer app with a single command is that command."""


def nodes(config_file: ConfigFile = None, as_json: AsJson = False) -> None:
    """List the nodes, a line each.

    Whether its feed is alive, when its bridge and OpenSIPS were last heard of, contacts, missed events, open breaker.

    Contacts are those of the last summary. `companion summary` shows more of each feed's counts.
    """
    settings = config.load(config_file)
    with opened(settings) as store:
        rows = Reader(settings, store).nodes()["nodes"]
    show(rows, nodes_table(rows), as_json=as_json)


@app.command()
def forget(
    node: Annotated[str, typer.Argument(metavar="NODE", help="A node whose bridge will not come back.")],
    config_file: ConfigFile = None,
) -> None:
    """Forget a node that is gone for good.

    Nothing waits or warns for it any more: all that is kept of the node itself is deleted. Its contacts stay: they are
    offline once they expire, and their history lasts as long as any. Refused while its feed is alive.

    Example: companion node forget edge-2
    """
    settings = config.load(config_file)
    with opened(settings) as store:
        _refuse(node, load_view(settings, store))
        deleted = forget_node(store, node)
    typer.echo(f"{node} is forgotten; deleted: {', '.join(deleted)}")
    if any(table.node == node for table in settings.opensips):
        typer.echo("its [[opensips]] table is still in the configuration: take it out, too")


def _refuse(node: str, seen: View) -> None:
    """Raise UsageError when there is no such node, or it may be about to come back."""
    feed = seen.feeds.get(node)
    if feed is None:
        raise UsageError(f"no node is called {node!r}; `companion nodes` lists them all")
    silent_ms = max(0, seen.clock.now - feed.heartbeat_at)
    if silent_ms < store_nodes.GONE_AFTER_MS:
        raise UsageError(
            f"{node} was heard of {silent_ms // 1000} s ago: end its bridge, and take its bus out of [consumer] "
            f"subscribe; {store_nodes.GONE_AFTER_MS // 1000} s later it can be forgotten"
        )
