"""Show what surrounds the graph of one call: its head, its figures, and its keys."""

from collections.abc import Sequence

from companion.dashboard.markup import Markup, network_text, note, tag
from companion.dashboard.markup.badges import ms, number, plural, tally
from companion.dashboard.markup.call_cells import call_address, lost, way
from companion.dashboard.markup.icons import icon
from companion.text import Json


def graph_head(page: Json, minute: int) -> Markup:
    """Show the head of the graph; `minute` (epoch ms) is the part of the call that it shows, 0 for all."""
    whole = tag(
        "a", icon("back"), "The whole call", href=call_address(page["call_id"], page["device"]), go=True, cls="button"
    )
    return tag("header", tag("h2", "The call on one clock", id="clock-title"), whole if minute else None)


def statistics(page: Json) -> Markup:
    """Show the figures of the call."""
    return tag(
        "dl",
        tally("Lost packets", lost(page["loss_percent"])),
        tally("Round trip", ms(page["rtt_ms"]), hint="in the mean"),
        tally("Highest jitter", ms(page["jitter_max_ms"])),
        tally("Path", way(page)),
        tally("Codec", network_text((page["codec"] or "").partition("/")[0])),
        tally("Switch-overs", number(page["switch_overs"]), "alarm" if page["switch_overs"] else ""),
        cls="tallies",
    )


def nothing_measured() -> Markup:
    return note("No media was measured", tag("p", "It ended before any came, or its page could not tell."))


def graph_keys(marked: Sequence[str]) -> Markup:
    """Explain the marks that are on the graph."""
    shapes = {"path": "◆", "restart": "▲", "network": "✚", "limit": "■", "switch-over": "●"}
    names = {"path": "change of path", "restart": "ICE restart", "network": "change of network"}
    kinds = (
        tag("span", tag("i", shape, cls="k-mark"), names.get(kind, kind))
        for kind, shape in shapes.items()
        if kind in marked
    )
    lost_ping = tag("span", tag("i", "×", cls="k-lost"), "lost ping")
    outside = tag("span", tag("i", cls="k-outside"), "before or after the call")
    return tag("p", *kinds, lost_ping, outside, cls="keys")


def graph_words(page: Json) -> str:
    """Describe the graph in words for screen readers; a table below has the minutes."""
    if page["mos"] is None:
        return "Nothing of this call could be scored."
    pings = page["pings"]
    missing = sum(ping[1] is None for ping in pings)
    bad = page["verdict"]["bad_minutes"]
    return (
        f"The call on one clock: MOS {page['mos']:.2f} in the mean, {page['mos_min']:.2f} at worst, {page['band']}; "
        f"{_percent(page['loss_percent'])} of packets lost, round trip {_ms(page['rtt_ms'])}; "
        f"{plural(len(bad), 'bad minute')}; {plural(len(pings), 'OPTIONS ping')} of the device, {missing} lost."
    )


def _percent(value: float | None) -> str:
    return "an unknown share" if value is None else f"{number(round(value, 1))}%"


def _ms(value: float | None) -> str:
    return "unknown" if value is None else f"{number(round(value))} ms"
