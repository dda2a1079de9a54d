"""Show one call as a table of its minutes."""

from collections.abc import Sequence
from typing import Final

from companion.dashboard.markup import Markup, network_text, nothing, tag
from companion.dashboard.markup.badges import mos, ms, number
from companion.dashboard.markup.call_cells import lost
from companion.dashboard.markup.call_details import MOST_LINES
from companion.dashboard.markup.tables import Column, cell, table
from companion.dashboard.markup.times import time
from companion.text import Json
from companion.times import format_duration

_MINUTES: Final[Sequence[Column]] = (
    ("Minute", "w-l"),
    ("MOS", "w-mos"),
    ("Lost", "w-s num"),
    ("Round trip", "w-m num"),
    ("Jitter", "w-m num"),
    ("Concealed", "w-m num"),
    ("OPTIONS", "w-l num"),
    ("Flags", ""),
)


def minutes(page: Json) -> Markup:
    """Show the graph as a table."""
    rows = page["minutes"][-MOST_LINES:]
    if not rows:
        return None
    head = tag("summary", tag("h2", "Minute by minute", id="minutes-title"), tag("span", "as a table", cls="hint"))
    body = tag("details", head, table(_MINUTES, map(_minute, rows)))
    return tag("section", body, cls="card folded", aria_labelledby="minutes-title")


def _minute(row: Json) -> Markup:
    pings = row["pings"]
    flags = ", ".join(f"{flag} {format_duration(round(1000 * seconds))}" for flag, seconds in row["flags"].items())
    return tag(
        "tr",
        cell(time(row["at"], "clock")),
        cell(mos(row["mos"], row["band"]), "right"),
        cell(lost(row["loss_percent"]), "num", "Lost"),
        cell(ms(row["rtt_ms"]), "num", "Round trip"),
        cell(ms(row["jitter_ms"]), "num", "Jitter"),
        cell("–" if row["concealed"] is None else f"{row['concealed']:.1%}", "num", "Concealed"),
        cell(_pings(pings), "num", "OPTIONS"),
        cell(network_text(flags), "span"),
        key=row["at"],
    )


def _pings(pings: Json) -> Markup:
    total = pings["answered"] + pings["lost"]
    if not total:
        return nothing()
    if pings["lost"]:
        return tag("span", f"{pings['lost']} of {total} lost", cls="alarm")
    return tag("span", f"up to {number(pings['max_ms'])} ms")
