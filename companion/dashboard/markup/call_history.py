"""Show the calls of one device."""

from collections.abc import Sequence
from typing import Final

from companion.dashboard.markup import Markup, card, tag
from companion.dashboard.markup.badges import plural
from companion.dashboard.markup.call_cells import FIGURE_COLUMNS, call_link, course_cells, figure_cells, no_calls
from companion.dashboard.markup.tables import Column, cell, table
from companion.text import Json

SHORT_HISTORY: Final = 8


_HISTORY: Final[Sequence[Column]] = (
    ("Call", ""),
    ("Started", "w-l"),
    ("Duration", "w-m spare"),
    ("Ended", "w-l"),
    ("MOS", "w-mos"),
    *FIGURE_COLUMNS,
)


def history(answer: Json, *, everything: bool = False) -> Markup:
    """Show the calls of a device, newest first, and how many of its reports were refused."""
    calls, refused = answer["calls"], _refused(answer)
    if not calls:
        return card("Stream history", refused, no_calls())
    visible = calls if everything else calls[:SHORT_HISTORY]
    hidden = len(calls) - len(visible)
    more = (
        tag("button", f"Show {hidden} earlier", type="button", act="every-call", cls="button more") if hidden else None
    )
    rows = table(_HISTORY, map(_of_device, visible))
    return card("Stream history", refused, rows, more, aside=_hint(calls, cut=answer["cut"]))


def _refused(answer: Json) -> Markup | None:
    if not answer["refused_reports"]:
        return None
    option = {"calls": "calls_per_hour", "bytes": "megabytes_per_hour"}.get(answer["refused_why"], "")
    reports = plural(answer["refused_reports"], "report")
    return tag("p", reports, f" of the last hour refused: more than [media] {option} allows", cls="muted")


def _hint(calls: Sequence[Json], *, cut: bool) -> Markup:
    live = sum(row["live"] for row in calls)
    which = "the last " if cut else None
    return tag("span", which, plural(len(calls), "call"), f", {live} live" if live else None, cls="hint")


def _of_device(row: Json) -> Markup:
    return tag("tr", cell(call_link(row), "span"), *course_cells(row), *figure_cells(row), key=row["call_id"])
