"""Render the summary of the fleet."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from companion.cli.screens.cells import render_count, render_latency
from companion.cli.screens.nodes import render_feed, render_no_node
from companion.cli.screens.text import ago, text
from companion.text import Json, times


def render_summary(summary: Json, now: datetime | None = None) -> Group:
    now = now or datetime.now(UTC)
    counts = Table(box=None, pad_edge=False, header_style="bright_black")
    counts.add_column("")
    for status in summary["devices"]:
        counts.add_column(status, justify="right")
    for name in ("devices", "contacts"):
        counts.add_row(Text(name, style="bold"), *(render_count(n, status) for status, n in summary[name].items()))
    latency = summary["latency"]
    percentiles = Text.assemble(
        ("latency  ", "bold"),
        *(part for p in ("p50", "p95", "p99") for part in (f"{p} ", render_latency(latency[f"{p}_ms"]), "   ")),
        ("lost last ping ", "bold"),
        "–" if summary["loss_ratio"] is None else f"{summary['loss_ratio']:.1%} of contacts",
    )
    return Group(counts, "", percentiles, "", _render_nodes(summary["nodes"], now), *_render_refusals(summary["nodes"]))


def _render_refusals(nodes: Sequence[Json]) -> Iterator[Text]:
    """Name the phones that may be missing, because an event of theirs was refused or they were too many."""
    for node in nodes:
        if node["refused"]:
            events = times(node["refused"], "event")
            yield text(f"{node['node']}: {events} refused, the last one of AOR {node['refused_aor']}", "yellow")
        if node["left_out"]:
            own = times(node["left_out_of_aor"], "contact")
            line = f"{node['node']}: {own} of AOR {node['left_out_aor']} left out ({node['left_out_why']})"
            yield text(f"{line}; {node['left_out']} in all", "yellow")


def _render_nodes(nodes: Sequence[Json], now: datetime) -> RenderableType:
    if not nodes:
        return render_no_node()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("NODE", "CLUSTER", "FEED", "LAST EVENT", "EVENTS", "INVALID", "GAPS", "MISSED", "KERNEL DROPS"):
        words = name in ("NODE", "CLUSTER", "FEED")
        table.add_column(name, no_wrap=name not in ("NODE", "CLUSTER"), justify="left" if words else "right")
    for node in nodes:
        table.add_row(
            text(node["node"]),
            text(node["cluster"]),
            render_feed(node),
            text(ago(node["last_event_at"], now)),
            *(text(node[name]) for name in ("received", "invalid", "gaps", "missed", "kernel_drops")),
        )
    return table
