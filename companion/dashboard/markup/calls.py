"""Calls in lists: a device's Stream history, the fleet's recent calls, and how the fleet's calls sound."""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlencode

from companion.dashboard.filters import devices
from companion.dashboard.filters.calls import WORST, Filters
from companion.dashboard.markup import Markup, card, fields, heard, note, nothing, tag
from companion.dashboard.markup.badges import BANDS, band, mos, ms, number, plural, share, tally
from companion.dashboard.markup.icons import icon
from companion.dashboard.markup.tables import Column, cell, table
from companion.dashboard.markup.times import time
from companion.text import Json, printable
from companion.times import WINDOWS_MS, format_seconds

Row = Mapping[str, Any]

SHORT_HISTORY: Final = 8
DIRECTIONS: Final = {"in": "from", "out": "to"}
_ENDS: Final = {
    "hangup": ("hung up", "offline", "offline"),
    "closed": ("page closed", "offline", "offline"),
    "failed": ("failed", "stale", "stale"),
    "lost": ("lost", "stale", "stale"),
}
"""What an end is called, its icon and its colour."""
_FIGURES: Final[Sequence[Column]] = (("Lost", "w-s num"), ("Round trip", "w-m num spare"), ("Path", "w-m spare"))
_HISTORY: Final[Sequence[Column]] = (
    ("Call", ""),
    ("Started", "w-l"),
    ("Duration", "w-m spare"),
    ("Ended", "w-l"),
    ("MOS", "w-mos"),
    *_FIGURES,
)
_CALLS: Final[Sequence[Column]] = (
    ("Call", ""),
    ("Started", "w-l"),
    ("Duration", "w-m spare"),
    ("Ended", "w-l"),
    ("MOS", "w-mos"),
    ("Worst", "w-mos"),
    *_FIGURES,
)
_NETWORKS: Final[Sequence[Column]] = (
    ("Network", ""),
    ("MOS", "w-mos"),
    ("Calls", "w-xs num"),
    ("Devices", "w-s num"),
    ("Lost", "w-s num"),
    ("Round trip", "w-m num"),
    ("Relay", "w-s num"),
)


def address(call_id: str, device: str = "", minute: int = 0) -> str:
    """Where a call's page is, as this device saw it; `minute` (epoch ms) is what its graph shows."""
    said = {"device": device, "minute": str(minute) if minute else ""}
    more = urlencode({name: value for name, value in said.items() if value})
    return f"/calls/{devices.quoted(call_id)}{'?' if more else ''}{more}{'#clock' if minute else ''}"


# A call in a line


def party(row: Row) -> Markup:
    """Who is at the other end, and who called whom."""
    word = DIRECTIONS.get(row["direction"], "with")
    return tag("span", arrow(row), tag("span", f" {word} "), peer(row), cls="party")


def arrow(row: Row) -> Markup:
    return icon(row["direction"]) if row["direction"] in DIRECTIONS else None


def peer(row: Row) -> Markup:
    """The other end, without the scheme that all have."""
    return heard(row["peer"].removeprefix("sip:"))


def ended(row: Row) -> Markup:
    """Why it ended or failed, as a mark; a call that goes on is live."""
    if row["live"]:
        return tag("span", icon("feed"), "live", cls="mark online", title="A report came within the last 15 seconds")
    word, drawing, tone = _ENDS.get(row["end"], ("no more heard", "unknown", "unknown"))
    return tag("span", icon(drawing), word, cls=f"mark {tone}", title=_end_title(row))


def _end_title(row: Row) -> str | None:
    return printable(row["why"]) or (None if row["end"] else "Its page stopped to report before the call ended")


def length(row: Row) -> str:
    return format_seconds(row["seconds"])


def lost(percent: float | None) -> Markup:
    if percent is None:
        return nothing()
    return tag(
        "span", f"{number(round(percent, 1))}%", cls="alarm" if percent >= 1 else "zero" if not percent else None
    )


def way(row: Row) -> Markup:
    """Whether media went through a relay, and over what."""
    if row["relay"] is None:
        return nothing()
    protocol = (row["path"] or {}).get("relay" if row["relay"] else "protocol")
    more = f" {protocol}" if protocol in ("udp", "tcp", "tls") else None
    return tag("span", "relay" if row["relay"] else "direct", more)


def _call(row: Row, *, named: bool = False) -> Markup:
    """A link to it; `named` says whose call it is."""
    aor = row["device"].rpartition("/")[0] or row["device"]
    mine = tag("span", heard(aor), " ", cls="mine") if named else None
    where = address(row["call_id"], row["device"])
    title = f"{row['device']}, Call-ID {row['call_id']}"
    return tag("a", mine, party(row), href=where, title=title, cls="who", data_row="")


# A device's Stream history


def history(calls: Sequence[Row], *, cut: bool = False, everything: bool = False) -> Markup:
    """The calls of a device, newest first; `cut` when there are more than these."""
    if not calls:
        return card("Stream history", _no_calls())
    shown = calls if everything else calls[:SHORT_HISTORY]
    hidden = len(calls) - len(shown)
    more = (
        tag("button", f"Show {hidden} earlier", type="button", act="every-call", cls="button more") if hidden else None
    )
    return card("Stream history", table(_HISTORY, map(_of_device, shown)), more, aside=_hint(calls, cut=cut))


def _hint(calls: Sequence[Row], *, cut: bool) -> Markup:
    live = sum(row["live"] for row in calls)
    which = "the last " if cut else None
    return tag("span", which, plural(len(calls), "call"), f", {live} live" if live else None, cls="hint")


def _of_device(row: Row) -> Markup:
    return tag("tr", cell(_call(row), "span"), *_course(row), *_figures(row), key=row["call_id"])


def _course(row: Row) -> tuple[Markup, ...]:
    """When it began, how long it took, and how it ended."""
    why = tag("small", heard(row["why"]), cls="why") if row["why"] and not row["live"] else None
    return (
        cell(time(row["started_at"], "date")),
        cell(length(row), "right spare"),
        cell(tag("span", ended(row), why, cls="end")),
    )


def _figures(row: Row) -> tuple[Markup, ...]:
    return (
        cell(mos(row["mos"], row["band"]), "right", "MOS"),
        cell(lost(row["loss_percent"]), "num", "Lost"),
        cell(ms(row["rtt_ms"]), "num spare", "Round trip"),
        cell(way(row), "spare", "Path"),
    )


def _no_calls() -> Markup:
    script = tag("code", "/static/last-mile.js")
    return note(
        "No call in this window",
        tag("p", "Calls appear once the page that makes them loads ", script, " and is given a token."),
    )


# The fleet's


def title(quality: Json | None) -> Markup:
    live = quality["live"] if quality else 0
    mark = tag("span", icon("feed"), f"{number(live)} live now", cls="live") if live else None
    return tag("div", tag("h1", "Calls"), mark, cls="title")


def overview(quality: Json | None) -> Markup:
    """How the fleet's calls sound."""
    if not quality or not quality["calls"]:
        return tag("section", note("No call in the last hour", _no_calls_yet()), cls="card")
    columns = tag("div", _distribution(quality), _networks(quality["networks"]), cls="columns even")
    return tag("div", _tallies(quality), columns, cls="stack")


def _no_calls_yet() -> Markup:
    return tag("p", "Their MOS, relays and networks stand here as soon as there is one.")


def _tallies(quality: Json) -> Markup:
    middle, low = (quality["mos"][name] for name in ("p50", "p10"))
    rows = tag(
        "dl",
        tally("Live now", number(quality["live"])),
        tally("Calls", number(quality["total"])),
        tally("Median MOS", mos(middle)),
        tally("Worst tenth", mos(low), hint="nine of ten calls sound better than that"),
        tally("Lost packets", lost(quality["loss_percent"])),
        tally("Round trip", ms(quality["rtt_ms"])),
        tally("Through a relay", share(quality["relay_share"])),
        cls="tallies",
    )
    return card("Quality of the last hour", rows, aside=_as_of(quality))


def _as_of(quality: Json) -> Markup:
    cut = f"the last {number(quality['calls'])} of {number(quality['total'])} calls, " if quality["cut"] else None
    return tag("span", cut, "as of ", time(quality["at"], "ago"), cls="hint")


def _distribution(quality: Json) -> Markup:
    counts, total = quality["bands"], quality["calls"]
    rows = (_bar(word, counts.get(word, 0) / total, counts.get(word, 0)) for word in WORST)
    return card("How calls sound", tag("ol", *rows, cls="bars"), aside=tag("span", "by mean MOS", cls="hint"), cls="w5")


def _bar(word: str, ratio: float, count: int) -> Markup:
    name = band(word) if word in BANDS else tag("span", icon("unknown"), "not scored", cls="quality muted")
    bar = tag("span", tag("i", share=f"{ratio:.1%}"), cls="bar-of")
    figure = tag("span", number(count), " ", tag("small", share(round(ratio, 3))), cls="figure")
    return tag("li", name, bar, figure, cls=f"of-{word}" if word in BANDS else "of-unscored", key=word)


def _networks(found: Sequence[Json]) -> Markup:
    if not found:
        more = tag("p", "A network is told of when three of its calls were scored.")
        return card("Worst networks", note("None yet", more), cls="w7")
    return card("Worst networks", table(_NETWORKS, map(_network, found)), cls="w7")


def _network(row: Json) -> Markup:
    return tag(
        "tr",
        cell(tag("span", heard(row["network"]), cls="who")),
        cell(mos(row["mos"]), "right"),
        cell(number(row["calls"]), "num", "Calls"),
        cell(number(row["devices"]), "num", "Devices"),
        cell(lost(row["loss_percent"]), "num", "Lost"),
        cell(ms(row["rtt_ms"]), "num", "Round trip"),
        cell(share(row["relay_share"]), "num", "Relay"),
        key=row["network"],
    )


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
            band(word) if word in BANDS else "not scored",
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


def recent(rows: Sequence[Row], *, filtered: bool) -> Markup:
    if not rows:
        return tag("div", _none(filtered=filtered), cls="card")
    return tag("div", table(_CALLS, map(_of_fleet, rows), "edge"), cls="card table-card")


def _none(*, filtered: bool) -> Markup:
    if not filtered:
        return _no_calls()
    return note("No call fits these filters", tag("p", tag("a", "Show all calls", href="/calls", go=True)))


def _of_fleet(row: Row) -> Markup:
    average, *figures, path = _figures(row)
    return tag(
        "tr",
        cell(_call(row, named=True), "span"),
        *_course(row),
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
