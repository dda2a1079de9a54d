"""Render the list of nodes."""

from collections.abc import Sequence
from datetime import UTC, datetime

from rich.console import JustifyMethod, RenderableType
from rich.table import Table
from rich.text import Text

from companion.cli.screens.text import ago, text
from companion.text import Json


def render_nodes(nodes: Sequence[Json], now: datetime | None = None) -> RenderableType:
    """Render a line for each node: its feed, its contacts, its consumer, its breaker."""
    now = now or datetime.now(UTC)
    if not nodes:
        return render_no_node()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("NODE", "CLUSTER", "FEED", "HEARD OF", "LAST EVENT", "CONTACTS", "MISSED", "CONSUMER", "BREAKER"):
        justify: JustifyMethod = "right" if name in ("CONTACTS", "MISSED") else "left"
        table.add_column(name, no_wrap=name not in ("NODE", "CLUSTER"), justify=justify)
    for node in nodes:
        table.add_row(
            text(node["node"]),
            text(node["cluster"]),
            render_feed(node),
            text(ago(node["heartbeat_at"], now)),
            text(ago(node["last_event_at"], now)),
            text(node["contacts"]),
            text(node["missed"]),
            _render_consumer(node),
            text(f"open, {ago(node['breaker'], now)}" if node["breaker"] else "", "red"),
        )
    return table


def _render_consumer(node: Json) -> Text:
    """Render the consumer of a node, or those that hear it while nobody records it."""
    if node["heard_by"]:
        return text(f"nobody; {', '.join(node['heard_by'])} hears it", "red")
    return text(node["consumer"] or "")


def render_feed(node: Json) -> Text:
    return Text("alive", style="green") if node["alive"] else Text("silent", style="red")


def render_no_node() -> Text:
    return Text("no node is known yet: is a bridge running, and does OpenSIPS send to it?", style="yellow")
