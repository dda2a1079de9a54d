"""Show the list of recent calls, and its filters."""

from collections.abc import Sequence
from typing import Final

from companion.dashboard.filters.calls import WORST, CallFilters
from companion.dashboard.markup import Markup, fields, note, tag
from companion.dashboard.markup.badges import band, mos, number
from companion.dashboard.markup.call_cells import FIGURE_COLUMNS, call_link, course_cells, figure_cells, no_calls
from companion.dashboard.markup.icons import icon
from companion.dashboard.markup.navigation import pager, window_choice
from companion.dashboard.markup.tables import Column, cell, table
from companion.media.e_model import BAND_NAMES
from companion.text import Json

_CALLS: Final[Sequence[Column]] = (
    ("Call", ""),
    ("Started", "w-l"),
    ("Duration", "w-m spare"),
    ("Ended", "w-l"),
    ("MOS", "w-mos"),
    ("Worst", "w-mos"),
    *FIGURE_COLUMNS,
)


def title(quality: Json | None) -> Markup:
    live = quality["live"] if quality else 0
    mark = tag("span", icon("feed"), f"{number(live)} live now", cls="live") if live else None
    return tag("div", tag("h1", "Calls"), mark, cls="title")


def filter_fields(filters: CallFilters) -> Markup:
    """Show the fields, windows and bands to choose calls by."""
    search = fields.search("text", filters.text, "Peer, device, Call-ID or why it ended")
    windows = window_choice(filters.window, lambda name: filters.within(name).address())
    cleared = CallFilters(window=filters.window).address()
    clear = tag("a", "Clear", href=cleared, go=True, cls="muted") if filters.any else None
    line = tag("div", search, windows, clear, cls="line")
    return tag("form", line, _chips(filters), role="search", aria_label="Calls", act="search-now", cls="filters")


def _chips(filters: CallFilters) -> Markup:
    links = (
        tag(
            "a",
            band(word) if word in BAND_NAMES else "not scored",
            href=filters.toggled(word).address(),
            go=True,
            role="button",
            aria_pressed="true" if word in filters.worst else "false",
            cls="chip",
        )
        for word in WORST
    )
    legend = tag("span", "Worst second", cls="legend")
    return tag("div", legend, *links, role="group", aria_label="MOS of the worst second", cls="chips")


def recent(rows: Sequence[Json], *, filtered: bool) -> Markup:
    if not rows:
        return tag("div", _none(filtered=filtered), cls="card")
    return tag("div", table(_CALLS, map(_of_fleet, rows), "edge"), cls="card table-card")


def _none(*, filtered: bool) -> Markup:
    if not filtered:
        return no_calls()
    return note("No call fits these filters", tag("p", tag("a", "Show all calls", href="/calls", go=True)))


def _of_fleet(row: Json) -> Markup:
    average, *figures, path = figure_cells(row)
    return tag(
        "tr",
        cell(call_link(row, with_device=True), "span"),
        *course_cells(row),
        average,
        cell(mos(row["mos_min"]), label="Worst"),
        *figures,
        path,
        key=f"{row['call_id']} {row['device']}",
    )


def list_pager(following: str | None, filters: CallFilters) -> Markup:
    first = ("Newest", filters.at("").address()) if filters.since else None
    return pager(first, ("Older", filters.at(following).address()) if following else None)
