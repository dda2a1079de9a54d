"""Show how the fleet's calls sound."""

from collections.abc import Sequence
from typing import Final

from companion.dashboard.filters.calls import WORST
from companion.dashboard.markup import Markup, card, network_text, note, tag
from companion.dashboard.markup.badges import band, mos, ms, number, share, tally
from companion.dashboard.markup.call_cells import lost
from companion.dashboard.markup.icons import icon
from companion.dashboard.markup.tables import Column, cell, table
from companion.dashboard.markup.times import time
from companion.media.e_model import BAND_NAMES
from companion.text import Json

_NETWORKS: Final[Sequence[Column]] = (
    ("Network", ""),
    ("MOS", "w-mos"),
    ("Calls", "w-xs num"),
    ("Devices", "w-s num"),
    ("Lost", "w-s num"),
    ("Round trip", "w-m num"),
    ("Relay", "w-s num"),
)


def overview(quality: Json | None) -> Markup:
    """Show how the fleet's calls sound."""
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
    name = band(word) if word in BAND_NAMES else tag("span", icon("unknown"), "not scored", cls="quality muted")
    bar = tag("span", tag("i", share=f"{ratio:.1%}"), cls="bar-of")
    figure = tag("span", number(count), " ", tag("small", share(round(ratio, 3))), cls="figure")
    return tag("li", name, bar, figure, cls=f"of-{word}" if word in BAND_NAMES else "of-unscored", key=word)


def _networks(networks: Sequence[Json]) -> Markup:
    if not networks:
        more = tag("p", "A network is told of when three of its calls were scored.")
        return card("Worst networks", note("None yet", more), cls="w7")
    return card("Worst networks", table(_NETWORKS, map(_network, networks)), cls="w7")


def _network(row: Json) -> Markup:
    return tag(
        "tr",
        cell(tag("span", network_text(row["network"]), cls="who")),
        cell(mos(row["mos"]), "right"),
        cell(number(row["calls"]), "num", "Calls"),
        cell(number(row["devices"]), "num", "Devices"),
        cell(lost(row["loss_percent"]), "num", "Lost"),
        cell(ms(row["rtt_ms"]), "num", "Round trip"),
        cell(share(row["relay_share"]), "num", "Relay"),
        key=row["network"],
    )
