"""Devices, a device and the fleet as a terminal shows them. What came from the network is text, never obeyed."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from companion.events import printable
from companion.store.devices import Json, Ping

COLOURS: Final = {
    "online": "green",
    "losing": "yellow",
    "unknown": "bright_black",
    "stale": "red",
    "offline": "bright_black",
    "excellent": "green",
    "good": "green",
    "fair": "yellow",
    "poor": "dark_orange",
    "bad": "red",
}
GRAPH_HEIGHT: Final = 6
GRAPH_WIDTH: Final = 72
TIMELINE_LINES: Final = 20
BLOCKS: Final = " ▁▂▃▄▅▆▇█"


def text(value: object, style: str = "") -> Text:
    """Any value as literal text: no markup, no control characters; "–" for nothing."""
    if value is None or value == "":
        return Text("–", style="bright_black")
    return Text(printable(str(value)).replace("\t", " "), style=style)


def ago(at: str | None, now: datetime) -> str:
    """An ISO 8601 time as a person says it."""
    if not at:
        return ""
    seconds = round((now - datetime.fromisoformat(at)).total_seconds())
    if seconds < 0:
        return f"in {_span(-seconds)}"
    return f"{_span(seconds)} ago" if seconds else "now"


def _span(seconds: int) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size or (unit == "min" and seconds >= size):
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def devices_table(rows: Sequence[Json], now: datetime | None = None) -> Table:
    now = now or datetime.now(UTC)
    table = Table(box=None, pad_edge=False, header_style="bold", expand=False)
    table.add_column("DEVICE", overflow="ellipsis", no_wrap=True, min_width=16, max_width=56)
    for name, width in (("STATUS", 7), ("LATENCY", 8), ("QUALITY", 9), ("LAST PING", 9), ("LOST", 4)):
        table.add_column(
            name, no_wrap=True, min_width=width, justify="right" if name in ("LATENCY", "LOST") else "left"
        )
    table.add_column("REGISTERED", overflow="ellipsis", no_wrap=True, max_width=10)
    table.add_column("PUSH", overflow="ellipsis", no_wrap=True)
    table.add_column("NODE", overflow="ellipsis", no_wrap=True, max_width=16)
    table.add_column("USER AGENT", overflow="ellipsis", no_wrap=True, max_width=48)
    for row in rows:
        table.add_row(
            text(row["device"]),
            _coloured(row["status"]),
            _latency(row["last_latency_ms"]),
            _coloured(row["quality"]),
            text(ago(row["last_latency_at"], now)),
            text(row["consecutive_lost"] or ""),
            text(ago(row["last_register_at"], now)),
            text("yes" if row["push"] else ""),
            text(row["node"]),
            text(row["user_agent"]),
        )
    return table


def device_page(page: Json, now: datetime | None = None) -> Group:
    now = now or datetime.now(UTC)
    return Group(
        _head(page, now),
        "",
        Text("Registration", style="bold"),
        _registration(page["registration"], now),
        "",
        _window_title(page["latency"]),
        _statistics(page["latency"]),
        latency_graph(page["samples"], page["latency"]["window_seconds"] * 1000, round(now.timestamp() * 1000)),
        "",
        Text("Contacts", style="bold"),
        _contacts(page["contacts"], now),
        "",
        Text("Timeline", style="bold"),
        _timeline(page["timeline"]),
    )


def _head(page: Json, now: datetime) -> Panel:
    line = Text.assemble(_coloured(page["status"]), "   last latency ", _latency(page["last_latency_ms"]), " ")
    if page["quality"]:
        line.append_text(_coloured(page["quality"]))
    line.append(f"   {ago(page['last_latency_at'], now) or 'never pinged'}", style="bright_black")
    if page["consecutive_lost"]:
        line.append(f"   {page['consecutive_lost']} pings lost in a row", style="yellow")
    return Panel(line, title=text(page["device"], "bold"), title_align="left", expand=False)


def _registration(registration: Json, now: datetime) -> Table:
    return _pairs(
        ("Registered", "yes" if registration["registered"] else "no"),
        ("Expires", ago(registration["expires_at"], now)),
        ("Last REGISTER", ago(registration["last_register_at"], now)),
        ("User agent", registration["user_agent"]),
        ("Received from", registration["received"]),
        ("Push", "yes" if registration["push"] else "no"),
    )


def _pairs(*pairs: tuple[str, object]) -> Table:
    table = Table.grid(padding=(0, 2))
    for name, value in pairs:
        table.add_row(Text(f"  {name}", style="bright_black"), text(value))
    return table


def _window_title(latency: Json) -> Text:
    return Text(f"Latency, the last {_span(latency['window_seconds'])}", style="bold")


def _statistics(latency: Json) -> Text:
    if not latency["total"]:
        return Text("  no pings in this window", style="bright_black")
    ratio = f"{latency['loss_ratio']:.1%}"
    return Text.assemble(
        "  average ",
        _latency(latency["average_ms"]),
        "   max ",
        _latency(latency["max_ms"]),
        "   min ",
        _latency(latency["min_ms"]),
        f"   pings {latency['total']}   answered {latency['answered']}   lost {latency['lost']} ({ratio})",
    )


def latency_graph(pings: Sequence[Ping], window_ms: int, now: int) -> RenderableType:
    """The highest latency of each slice of the window as a column, and below it where pings were lost."""
    if not pings:
        return Text("")
    since = max(now - window_ms, min(ts for ts, _ in pings) - 1)
    columns: list[int | None] = [None] * GRAPH_WIDTH
    lost = [False] * GRAPH_WIDTH
    for ts, latency_ms in pings:
        column = min(GRAPH_WIDTH - 1, max(0, (ts - since) * GRAPH_WIDTH // max(1, now - since)))
        if latency_ms is None:
            lost[column] = True
        else:
            columns[column] = max(columns[column] or 0, latency_ms)
    top = max((value for value in columns if value is not None), default=0) or 1
    lines = [_graph_line(columns, top, level) for level in reversed(range(GRAPH_HEIGHT))]
    marks = Text("    lost ", style="bright_black").append("".join("×" if gone else " " for gone in lost), style="red")
    start = datetime.fromtimestamp(since / 1000, UTC).strftime("%d %b %H:%M")
    axis = Text(f"{'':9}{start:<{GRAPH_WIDTH - 7}}now UTC", style="bright_black")
    return Group(*lines, marks, axis)


def _graph_line(columns: Sequence[int | None], top: int, level: int) -> Text:
    label = f"{top} ms" if level == GRAPH_HEIGHT - 1 else "0 ms" if level == 0 else ""
    cells = []
    for value in columns:
        eighths = 0 if value is None else max(1, round(value / top * GRAPH_HEIGHT * 8)) - level * 8
        cells.append(BLOCKS[min(8, max(0, eighths))])
    return Text(f"{label:>8} ", style="bright_black").append("".join(cells), style="cyan")


def _contacts(contacts: Sequence[Json], now: datetime) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="bright_black", padding=(0, 2, 0, 0))
    for name in ("  STATUS", "LATENCY", "LOST", "SEEN", "RECEIVED FROM", "URI"):
        table.add_column(name, no_wrap=True, overflow="ellipsis")
    for contact in contacts:
        status = Text("  ").append_text(_coloured(contact["status"]))
        if contact["ghost"]:
            status.append(" ghost", style="magenta")
        if contact["ended_by"]:
            status.append(f" {contact['ended_by']}", style="bright_black")
        seen = contact["last_latency_at"] or contact["last_register_at"]
        table.add_row(
            status,
            _latency(contact["last_latency_ms"]),
            text(contact["consecutive_lost"] or ""),
            text(ago(seen, now)),
            text(contact["received"]),
            text(contact["uri"]),
        )
    return table if contacts else Text("  none", style="bright_black")


def _timeline(entries: Sequence[Json]) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    for entry in list(reversed(entries))[:TIMELINE_LINES]:
        details = {name: value for name, value in entry.items() if name not in ("at", "event", "contact")}
        told = "  ".join(f"{name} {value}" for name, value in details.items())
        at = datetime.fromisoformat(entry["at"]).strftime("%d %b %H:%M:%S")
        table.add_row(Text(f"  {at}", style="bright_black"), text(entry["event"]), text(told or " ", "bright_black"))
    if len(entries) > TIMELINE_LINES:
        table.add_row("", Text(f"and {len(entries) - TIMELINE_LINES} earlier: --json has them all"))
    return table if entries else Text("  nothing in this window", style="bright_black")


def summary_page(summary: Json, now: datetime | None = None) -> Group:
    now = now or datetime.now(UTC)
    counts = Table(box=None, pad_edge=False, header_style="bright_black")
    counts.add_column("")
    for status in summary["devices"]:
        counts.add_column(status, justify="right")
    for name in ("devices", "contacts"):
        counts.add_row(Text(name, style="bold"), *(_count(status, n) for status, n in summary[name].items()))
    latency = summary["latency"]
    percentiles = Text.assemble(
        ("latency  ", "bold"),
        *(part for p in ("p50", "p95", "p99") for part in (f"{p} ", _latency(latency[f"{p}_ms"]), "   ")),
        ("lost last ping ", "bold"),
        "–" if summary["loss_ratio"] is None else f"{summary['loss_ratio']:.1%} of contacts",
    )
    return Group(counts, "", percentiles, "", _nodes(summary["nodes"], now))


def _nodes(nodes: Sequence[Json], now: datetime) -> RenderableType:
    if not nodes:
        return Text("no node has been heard of: is a bridge running, and does OpenSIPS send to it?", style="yellow")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("NODE", "CLUSTER", "FEED", "LAST EVENT", "EVENTS", "INVALID", "GAPS", "MISSED", "KERNEL DROPS"):
        table.add_column(name, no_wrap=True, justify="left" if name in ("NODE", "CLUSTER", "FEED") else "right")
    for node in nodes:
        table.add_row(
            text(node["node"]),
            text(node["cluster"]),
            Text("alive", style="green") if node["alive"] else Text("silent", style="red"),
            text(ago(node["last_event_at"], now)),
            *(text(node[name]) for name in ("received", "invalid", "gaps", "missed", "kernel_drops")),
        )
    return table


def _count(status: str, number: int) -> Text:
    return Text(str(number), style=COLOURS.get(status, "bold") if number else "bright_black")


def _latency(value: Any) -> Text:
    return text(None if value is None else f"{value} ms")


def _coloured(word: str | None) -> Text:
    return text(word, COLOURS.get(word or "", ""))
