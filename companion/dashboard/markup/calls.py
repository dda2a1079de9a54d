"""Calls in lists: a device's Stream history, the fleet's recent calls, and how the fleet's calls sound."""

from collections.abc import Sequence
from typing import Final

from companion.dashboard.filters.calls import WORST, Filters
from companion.dashboard.markup import Markup, fields, note, tag
from companion.dashboard.markup.badges import band, mos, number
from companion.dashboard.markup.call_cells import FIGURE_COLUMNS, call_link, course_cells, figure_cells, no_calls
from companion.dashboard.markup.icons import icon
from companion.dashboard.markup.tables import Column, cell, table
from companion.media.e_model import BAND_NAMES
from companion.text import Json
from companion.times import WINDOWS_MS

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


def filters(wanted: Filters) -> Markup:
    """What one may look for; each is in the address."""
    search = fields.search("text", wanted.text, "Peer, device, Call-ID or why it ended")
    clear = (
        tag("a", "Clear", href=Filters(window=wanted.window).address(), go=True, cls="muted") if wanted.any else None
    )
    line = tag("div", search, _windows(wanted), clear, cls="line")
    return tag("form", line, _chips(wanted), role="search", aria_label="Calls", act="search-now", cls="filters")


def _windows(wanted: Filters) -> Markup:
    links = (
        tag(
            "a",
            name,
            href=wanted.within(name).address(),
            go=True,
            aria_current="true" if name == wanted.window else None,
        )
        for name in WINDOWS_MS
    )
    return tag("nav", *links, cls="choice", aria_label="Window")


def _chips(wanted: Filters) -> Markup:
    links = (
        tag(
            "a",
            band(word) if word in BAND_NAMES else "not scored",
            href=wanted.toggled(word).address(),
            go=True,
            role="button",
            aria_pressed="true" if word in wanted.worst else "false",
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
        cell(call_link(row, named=True), "span"),
        *course_cells(row),
        average,
        cell(mos(row["mos_min"]), label="Worst"),
        *figures,
        path,
        key=f"{row['call_id']} {row['device']}",
    )


def pager(following: str | None, wanted: Filters) -> Markup:
    first = tag("a", icon("back"), "Newest", href=wanted.at("").address(), go=True, cls="button")
    older = tag("a", "Older", icon("next"), href=wanted.at(following or "").address(), go=True, cls="button")
    links = (first if wanted.since else None, older if following else None)
    return tag("div", tag("span"), tag("nav", *links, aria_label="Pages of the list"), cls="pager")
