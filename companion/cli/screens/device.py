"""Render one device."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from companion import sip
from companion.cli.screens.cells import render_latency, render_word
from companion.cli.screens.graph import Axis, Graph, LostMarks, make_points
from companion.cli.screens.text import ago, text
from companion.cli.screens.timeline import describe_entry
from companion.text import Json
from companion.times import format_seconds
from companion.usrloc.contact import Ping

ENDED_CONTACTS: Final = 3


TIMELINE_LINES: Final = 20


def render_device_page(page: Json, now: datetime | None = None) -> Group:
    now = now or datetime.now(UTC)
    return Group(
        _render_head(page, now),
        "",
        Text("Registration", style="bold"),
        _render_registration(page["registration"], now),
        "",
        _render_window_title(page["latency"]),
        _render_statistics(page["latency"]),
        LatencyGraph(page["samples"], page["latency"]["window_seconds"] * 1000, round(now.timestamp() * 1000)),
        "",
        Text("Contacts", style="bold"),
        _render_contacts(page["contacts"], now),
        "",
        Text("Timeline", style="bold"),
        _render_timeline(page["timeline"], {contact["contact"]: n for n, contact in enumerate(page["contacts"], 1)}),
    )


def _render_head(page: Json, now: datetime) -> Panel:
    line = Text.assemble(render_word(page["status"]), "   last latency ", render_latency(page["last_latency_ms"]), " ")
    if page["quality"]:
        line.append_text(render_word(page["quality"]))
    line.append(f"   {ago(page['last_latency_at'], now) or 'never pinged'}", style="bright_black")
    if page["consecutive_lost"]:
        line.append(f"   {page['consecutive_lost']} pings lost in a row", style="yellow")
    return Panel(line, title=text(page["device"], "bold"), title_align="left", expand=False)


def _render_registration(registration: Json, now: datetime) -> Table:
    return _render_pairs(
        ("Registered", "yes" if registration["registered"] else "no"),
        ("Expires", ago(registration["expires_at"], now)),
        ("Last REGISTER", ago(registration["last_register_at"], now)),
        ("User agent", registration["user_agent"]),
        ("Received from", registration["received"]),
        ("Push", "yes" if registration["push"] else "no"),
    )


def _render_pairs(*pairs: tuple[str, object]) -> Table:
    table = Table.grid(padding=(0, 2))
    for name, value in pairs:
        table.add_row(Text(f"  {name}", style="bright_black"), text(value))
    return table


def _render_window_title(latency: Json) -> Text:
    return Text(f"Latency, the last {format_seconds(latency['window_seconds'])}", style="bold")


def _render_statistics(latency: Json) -> Text:
    if not latency["total"]:
        return Text("  no pings in this window", style="bright_black")
    return Text.assemble(
        "  average ",
        render_latency(latency["average_ms"]),
        "   max ",
        render_latency(latency["max_ms"]),
        "   min ",
        render_latency(latency["min_ms"]),
        f"\n  pings {latency['total']}   answered {latency['answered']}",
        f"   lost {latency['lost']} ({latency['loss_ratio']:.1%})",
    )


class LatencyGraph:
    """Render the highest latency of each slice of the window as a column, and lost pings below."""

    def __init__(self, pings: Sequence[Ping], window_ms: int, now: int) -> None:
        self._pings = pings
        self._span = max(now - window_ms, min((ts for ts, _ in pings), default=now) - 1), now

    def __rich_console__(self, _: Console, __: ConsoleOptions) -> RenderResult:
        if self._pings:
            start = datetime.fromtimestamp(self._span[0] / 1000, UTC).strftime("%d %b %H:%M")
            yield Graph(make_points(self._pings), self._span)
            yield LostMarks(make_points(self._pings), self._span)
            yield Axis(start, "now UTC")


def _render_contacts(contacts: Sequence[Json], now: datetime) -> RenderableType:
    """Render live contacts and the last ended ones, with the numbers that the timeline uses."""
    if not contacts:
        return Text("  none", style="bright_black")
    table = Table(box=None, pad_edge=False, header_style="bright_black", padding=(0, 2, 0, 0))
    for name in ("  #", "STATUS", "LATENCY", "LOST", "SEEN", "ADDRESS", "URI"):
        table.add_column(name, no_wrap=name != "URI", justify="right" if name in ("LATENCY", "LOST") else "left")
    live = sum(not contact["ended_at"] for contact in contacts)
    listing = contacts[: live + ENDED_CONTACTS]
    for number, contact in enumerate(listing, 1):
        table.add_row(text(f"  {number}"), *_render_contact(contact, now))
    hidden = len(contacts) - len(listing)
    more = Text(f"  and {hidden} more that ended: --json has them all", style="bright_black")
    return Group(table, more) if hidden else table


def _render_contact(contact: Json, now: datetime) -> Sequence[Text]:
    status = text(contact["ended_by"], "bright_black") if contact["ended_by"] else render_word(contact["status"])
    if contact["ghost"]:
        status.append(" ghost", style="magenta")
    return (
        status,
        render_latency(contact["last_latency_ms"]),
        text(contact["consecutive_lost"] or ""),
        text(ago(contact["last_latency_at"] or contact["last_register_at"], now)),
        text(sip.network_address(contact["received"], contact["uri"])),
        text(contact["uri"]),
    )


def _render_timeline(entries: Sequence[Json], numbers: Mapping[str, int]) -> RenderableType:
    if not entries:
        return Text("  nothing in this window", style="bright_black")
    table = Table.grid(padding=(0, 2))
    for entry in list(reversed(entries))[:TIMELINE_LINES]:
        at = datetime.fromisoformat(entry["at"]).strftime("%d %b %H:%M:%S")
        number = numbers.get(entry.get("contact", ""))
        table.add_row(
            Text(f"  {at}", style="bright_black"),
            Text(f"#{number}" if number else "", style="bright_black"),
            render_word(entry["event"]),
            text(describe_entry(entry) or " ", "bright_black"),
        )
    hidden = len(entries) - TIMELINE_LINES
    more = Text(f"  and {hidden} earlier: --json has them all", style="bright_black")
    return Group(table, more) if hidden > 0 else table
