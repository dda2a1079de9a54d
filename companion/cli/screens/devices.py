"""Devices, a device and the fleet as a terminal shows them. What came from the network is text, never obeyed."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from rich.console import Console, ConsoleOptions, Group, JustifyMethod, RenderableType, RenderResult
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from companion import sip
from companion.cli.screens.graph import Axis, Graph, LostMarks, moments
from companion.cli.screens.text import ago, text
from companion.sip import short_id
from companion.text import Json
from companion.times import format_duration, format_seconds
from companion.usrloc.contact import Ping

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
    "registered": "green",
    "recovered": "green",
    "lost": "yellow",
    "disconnected": "red",
    "switched-over": "magenta",
    "companion-remove": "blue",
    "companion-push": "blue",
}
WIDE: Final = 100
"""Columns from which on a list of devices has room for all there is to say of them."""
ENDED_CONTACTS: Final = 3
TIMELINE_LINES: Final = 20
_TIMES_TOLD: Final = {"outage_ms": "away for", "outage_at_most_ms": "away for at most", "after_ms": "after"}


class DevicesTable:
    """A line for each device, as much of it as the width at hand has room for: its state before its particulars."""

    def __init__(self, rows: Sequence[Json], now: datetime | None = None) -> None:
        self._rows = rows
        self._now = now or datetime.now(UTC)

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> RenderResult:
        wide = options.max_width >= WIDE
        longest = max((len(row["device"]) for row in self._rows), default=0)
        room = max(24, min(longest, options.max_width - WIDE + 16))
        table = _devices_head(wide=wide)
        for row in self._rows:
            particulars = self._particulars(row) if wide else ()
            table.add_row(text(short_id(row["device"], room)), *self._state(row), *particulars, text(row["user_agent"]))
        yield table

    def _state(self, row: Json) -> tuple[Text, ...]:
        return (
            _coloured(row["status"]),
            _latency(row["last_latency_ms"]),
            _coloured(row["quality"]),
            text(ago(row["last_latency_at"], self._now)),
            text(row["consecutive_lost"] or ""),
        )

    def _particulars(self, row: Json) -> tuple[Text, ...]:
        registered = ago(row["last_register_at"], self._now)
        return text(registered), text("yes" if row["push"] else ""), text(row["node"])


def _devices_head(*, wide: bool) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", expand=False)
    table.add_column("DEVICE", no_wrap=True)
    for name in ("STATUS", "LATENCY", "QUALITY", "LAST PING", "LOST"):
        table.add_column(name, no_wrap=True, justify="right" if name in ("LATENCY", "LOST") else "left")
    if wide:
        table.add_column("REGISTERED", no_wrap=True)
        table.add_column("PUSH", no_wrap=True)
        table.add_column("NODE", max_width=16)
    table.add_column("USER AGENT", max_width=48)
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
        LatencyGraph(page["samples"], page["latency"]["window_seconds"] * 1000, round(now.timestamp() * 1000)),
        "",
        Text("Contacts", style="bold"),
        _contacts(page["contacts"], now),
        "",
        Text("Timeline", style="bold"),
        _timeline(page["timeline"], {contact["contact"]: n for n, contact in enumerate(page["contacts"], 1)}),
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
    return Text(f"Latency, the last {format_seconds(latency['window_seconds'])}", style="bold")


def _statistics(latency: Json) -> Text:
    if not latency["total"]:
        return Text("  no pings in this window", style="bright_black")
    return Text.assemble(
        "  average ",
        _latency(latency["average_ms"]),
        "   max ",
        _latency(latency["max_ms"]),
        "   min ",
        _latency(latency["min_ms"]),
        f"\n  pings {latency['total']}   answered {latency['answered']}",
        f"   lost {latency['lost']} ({latency['loss_ratio']:.1%})",
    )


class LatencyGraph:
    """The highest latency of each slice of the window as a column, and below it where pings were lost."""

    def __init__(self, pings: Sequence[Ping], window_ms: int, now: int) -> None:
        self._pings = pings
        self._span = max(now - window_ms, min((ts for ts, _ in pings), default=now) - 1), now

    def __rich_console__(self, _: Console, __: ConsoleOptions) -> RenderResult:
        if self._pings:
            start = datetime.fromtimestamp(self._span[0] / 1000, UTC).strftime("%d %b %H:%M")
            yield Graph(moments(self._pings), self._span)
            yield LostMarks(moments(self._pings), self._span)
            yield Axis(start, "now UTC")


def _contacts(contacts: Sequence[Json], now: datetime) -> RenderableType:
    """Those there are, and of those that ended the last few; the timeline speaks of them by their numbers here."""
    if not contacts:
        return Text("  none", style="bright_black")
    table = Table(box=None, pad_edge=False, header_style="bright_black", padding=(0, 2, 0, 0))
    for name in ("  #", "STATUS", "LATENCY", "LOST", "SEEN", "ADDRESS", "URI"):
        table.add_column(name, no_wrap=name != "URI", justify="right" if name in ("LATENCY", "LOST") else "left")
    live = sum(not contact["ended_at"] for contact in contacts)
    shown = contacts[: live + ENDED_CONTACTS]
    for number, contact in enumerate(shown, 1):
        table.add_row(text(f"  {number}"), *_contact(contact, now))
    hidden = len(contacts) - len(shown)
    more = Text(f"  and {hidden} more that ended: --json has them all", style="bright_black")
    return Group(table, more) if hidden else table


def _contact(contact: Json, now: datetime) -> Sequence[Text]:
    status = text(contact["ended_by"], "bright_black") if contact["ended_by"] else _coloured(contact["status"])
    if contact["ghost"]:
        status.append(" ghost", style="magenta")
    return (
        status,
        _latency(contact["last_latency_ms"]),
        text(contact["consecutive_lost"] or ""),
        text(ago(contact["last_latency_at"] or contact["last_register_at"], now)),
        text(sip.network_address(contact["received"], contact["uri"])),
        text(contact["uri"]),
    )


def _timeline(entries: Sequence[Json], numbers: Mapping[str, int]) -> RenderableType:
    if not entries:
        return Text("  nothing in this window", style="bright_black")
    table = Table.grid(padding=(0, 2))
    for entry in list(reversed(entries))[:TIMELINE_LINES]:
        at = datetime.fromisoformat(entry["at"]).strftime("%d %b %H:%M:%S")
        number = numbers.get(entry.get("contact", ""))
        table.add_row(
            Text(f"  {at}", style="bright_black"),
            Text(f"#{number}" if number else "", style="bright_black"),
            _coloured(entry["event"]),
            text(told(entry) or " ", "bright_black"),
        )
    hidden = len(entries) - TIMELINE_LINES
    more = Text(f"  and {hidden} earlier: --json has them all", style="bright_black")
    return Group(table, more) if hidden > 0 else table


def told(entry: Json) -> str:
    """What a line of the timeline says besides its time, event and contact, in words."""
    details = {name: value for name, value in entry.items() if name not in ("at", "event", "contact")}
    if "from" in details and "to" in details:
        details["way"] = f"{details.pop('from')} → {details.pop('to')}"
    return ", ".join(filter(None, (_detail(name, value) for name, value in details.items())))


def _detail(name: str, value: Any) -> str:
    if name in ("way", "address", "result", "reason"):
        return str(value)
    if name == "mode" or (name, str(value)) == ("attempt", "0"):
        return ""  # the result tells
    if name == "lost":
        return f"{value} {'ping' if value == 1 else 'pings'} lost"
    if name.endswith("_ms"):
        return f"{_TIMES_TOLD.get(name, name.removesuffix('_ms'))} {format_duration(int(value))}"
    return f"{name} {value}"


def summary_page(summary: Json, now: datetime | None = None) -> Group:
    now = now or datetime.now(UTC)
    counts = Table(box=None, pad_edge=False, header_style="bright_black")
    counts.add_column("")
    for status in summary["devices"]:
        counts.add_column(status, justify="right")
    for name in ("devices", "contacts"):
        counts.add_row(Text(name, style="bold"), *(count(n, status) for status, n in summary[name].items()))
    latency = summary["latency"]
    percentiles = Text.assemble(
        ("latency  ", "bold"),
        *(part for p in ("p50", "p95", "p99") for part in (f"{p} ", _latency(latency[f"{p}_ms"]), "   ")),
        ("lost last ping ", "bold"),
        "–" if summary["loss_ratio"] is None else f"{summary['loss_ratio']:.1%} of contacts",
    )
    return Group(counts, "", percentiles, "", _nodes(summary["nodes"], now))


def nodes_table(nodes: Sequence[Json], now: datetime | None = None) -> RenderableType:
    """A line for each node: since when it is silent, and what hangs on it."""
    now = now or datetime.now(UTC)
    if not nodes:
        return _no_node()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("NODE", "CLUSTER", "FEED", "HEARD OF", "LAST EVENT", "CONTACTS", "MISSED", "BREAKER"):
        justify: JustifyMethod = "right" if name in ("CONTACTS", "MISSED") else "left"
        table.add_column(name, no_wrap=name not in ("NODE", "CLUSTER"), justify=justify)
    for node in nodes:
        table.add_row(
            text(node["node"]),
            text(node["cluster"]),
            _feed(node),
            text(ago(node["heartbeat_at"], now)),
            text(ago(node["last_event_at"], now)),
            text(node["contacts"]),
            text(node["missed"]),
            text(f"open, {ago(node['breaker'], now)}" if node["breaker"] else "", "red"),
        )
    return table


def _feed(node: Json) -> Text:
    return Text("alive", style="green") if node["alive"] else Text("silent", style="red")


def _no_node() -> Text:
    return Text("no node has been heard of: is a bridge running, and does OpenSIPS send to it?", style="yellow")


def _nodes(nodes: Sequence[Json], now: datetime) -> RenderableType:
    if not nodes:
        return _no_node()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("NODE", "CLUSTER", "FEED", "LAST EVENT", "EVENTS", "INVALID", "GAPS", "MISSED", "KERNEL DROPS"):
        words = name in ("NODE", "CLUSTER", "FEED")
        table.add_column(name, no_wrap=name not in ("NODE", "CLUSTER"), justify="left" if words else "right")
    for node in nodes:
        table.add_row(
            text(node["node"]),
            text(node["cluster"]),
            _feed(node),
            text(ago(node["last_event_at"], now)),
            *(text(node[name]) for name in ("received", "invalid", "gaps", "missed", "kernel_drops")),
        )
    return table


def count(number: int, status: str, name: str = "") -> Text:
    return Text(f"{number} {name}".rstrip(), style=COLOURS.get(status, "bold") if number else "bright_black")


def _latency(value: Any) -> Text:
    return text(None if value is None else f"{value} ms")


def _coloured(word: str | None) -> Text:
    return text(word, COLOURS.get(word or "", ""))
