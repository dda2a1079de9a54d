"""Show the parts of a call that several pages share."""

from collections.abc import Sequence
from typing import Final
from urllib.parse import urlencode

from companion.dashboard.filters import devices
from companion.dashboard.markup import Markup, network_text, note, nothing, tag
from companion.dashboard.markup.badges import mos, ms, number
from companion.dashboard.markup.icons import icon
from companion.dashboard.markup.tables import Column, cell
from companion.dashboard.markup.times import time
from companion.text import Json, printable
from companion.times import format_seconds

DIRECTIONS: Final = {"in": "from", "out": "to"}


_ENDS: Final = {
    "hangup": ("hung up", "offline", "offline"),
    "closed": ("page closed", "offline", "offline"),
    "failed": ("failed", "stale", "stale"),
    "lost": ("lost", "stale", "stale"),
}
"""What an end is called, its icon and its colour."""


FIGURE_COLUMNS: Final[Sequence[Column]] = (("Lost", "w-s num"), ("Round trip", "w-m num spare"), ("Path", "w-m spare"))


def call_address(call_id: str, device: str = "", minute: int = 0) -> str:
    """Return the address of a call as a device reported it; `minute` (epoch ms) is what its graph shows."""
    fields = {"device": device, "minute": str(minute) if minute else ""}
    more = urlencode({name: value for name, value in fields.items() if value})
    return f"/calls/{devices.quoted(call_id)}{'?' if more else ''}{more}{'#clock' if minute else ''}"


def party(row: Json) -> Markup:
    """Show the other end, and which end called."""
    word = DIRECTIONS.get(row["direction"], "with")
    return tag("span", arrow(row), tag("span", f" {word} "), peer(row), cls="party")


def arrow(row: Json) -> Markup:
    return icon(row["direction"]) if row["direction"] in DIRECTIONS else None


def peer(row: Json) -> Markup:
    """Show the other end without the scheme `sip:`."""
    return network_text(row["peer"].removeprefix("sip:"))


def ended(row: Json) -> Markup:
    """Show how a call ended as a mark; a call that lasts is live."""
    if row["live"]:
        return tag("span", icon("feed"), "live", cls="mark online", title="A report came within the last 15 seconds")
    word, drawing, tone = _ENDS.get(row["end"], ("no more heard", "unknown", "unknown"))
    return tag("span", icon(drawing), word, cls=f"mark {tone}", title=_end_title(row))


def _end_title(row: Json) -> str | None:
    return printable(row["why"]) or (None if row["end"] else "Its page stopped to report before the call ended")


def length(row: Json) -> str:
    return format_seconds(row["seconds"])


def lost(percent: float | None) -> Markup:
    if percent is None:
        return nothing()
    return tag(
        "span", f"{number(round(percent, 1))}%", cls="alarm" if percent >= 1 else "zero" if not percent else None
    )


def way(row: Json) -> Markup:
    """Show whether media goes through a relay, and over which protocol."""
    if row["relay"] is None:
        return nothing()
    protocol = (row["path"] or {}).get("relay" if row["relay"] else "protocol")
    more = f" {protocol}" if protocol in ("udp", "tcp", "tls") else None
    return tag("span", "relay" if row["relay"] else "direct", more)


def call_link(row: Json, *, with_device: bool = False) -> Markup:
    """Link to a call; `with_device` shows the device of the call, too."""
    aor = row["device"].rpartition("/")[0] or row["device"]
    mine = tag("span", network_text(aor), " ", cls="mine") if with_device else None
    where = call_address(row["call_id"], row["device"])
    title = f"{row['device']}, Call-ID {row['call_id']}"
    return tag("a", mine, party(row), href=where, title=title, cls="who", data_row="")


def course_cells(row: Json) -> tuple[Markup, ...]:
    """Return the cells of start, duration and end."""
    why = tag("small", network_text(row["why"]), cls="why") if row["why"] and not row["live"] else None
    return (
        cell(time(row["started_at"], "date")),
        cell(length(row), "right spare"),
        cell(tag("span", ended(row), why, cls="end")),
    )


def figure_cells(row: Json) -> tuple[Markup, ...]:
    return (
        cell(mos(row["mos"], row["band"]), "right", "MOS"),
        cell(lost(row["loss_percent"]), "num", "Lost"),
        cell(ms(row["rtt_ms"]), "num spare", "Round trip"),
        cell(way(row), "spare", "Path"),
    )


def no_calls() -> Markup:
    script = tag("code", "/static/last-mile.js")
    return note(
        "No call in this window",
        tag("p", "Calls appear once the page that makes them loads ", script, " and is given a token."),
    )
