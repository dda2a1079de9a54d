"""One call: who, when and how it ended; whose fault it was; how it went, second by second; what happened meanwhile."""

from collections.abc import Mapping, Sequence
from typing import Final

from companion.dashboard.markup import Markup, card, facts, heard, note, nothing, tag
from companion.dashboard.markup import happenings as told
from companion.dashboard.markup.badges import band, mos, ms, number, plural, tally
from companion.dashboard.markup.calls import DIRECTIONS, address, arrow, ended, length, lost, peer, way
from companion.dashboard.markup.device import lines
from companion.dashboard.markup.devices import address as device_address
from companion.dashboard.markup.icons import icon
from companion.dashboard.markup.tables import Column, cell, fault, table
from companion.dashboard.markup.times import time
from companion.media import e_model
from companion.text import Json
from companion.times import epoch_ms, format_duration, format_seconds

LINES: Final = 30
MOST_LINES: Final = 500
"""A browser may tell of a great many things."""
MOST_POINTS: Final = 50
"""The end of the scale for points of R that were lost: so many make the best line a bad one."""
_VERDICTS: Final = {
    "good": ("Good", "online", "online", "Nothing about it was bad."),
    "signalling": ("Signalling path", "losing", "losing", "The way from OpenSIPS to the device was bad, too."),
    "media": ("Media path", "stale", "stale", "Packets came late, unevenly, or not at all."),
    "device": ("The device", "device", "unknown", "Packets came in well; what was made of them was bad."),
    "network": ("Change of network", "switch", "losing", "It was bad around a change of network only."),
    "unknown": ("Not known", "unknown", "offline", "Too little is known to say."),
}
"""What a verdict is called, its icon, its colour, and what it means."""
_POINTS: Final = (("delay", "Delay"), ("loss", "Loss"), ("codec", "Codec"))
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


# Head


def title(page: Json) -> Markup:
    """Which call it is, from whom to whom, when, and how it ended."""
    device = page["device"]
    path = tag(
        "nav",
        tag("a", "Calls", href="/calls"),
        " › ",
        tag("a", heard(device.rpartition("/")[0] or device), href=device_address(device), title=device),
        " › Call",
        cls="crumbs",
        aria_label="You are here",
    )
    word = DIRECTIONS.get(page["direction"], "with")
    name = tag("h1", tag("span", arrow(page), f" Call {word} ", peer(page)), ended(page))
    return tag("div", path, name, _when(page), heard(page["call_id"], "mono"), cls="device-title call-title")


def _when(page: Json) -> Markup:
    parts: list[Markup] = [tag("span", "started ", time(page["started_at"], "date"))]
    parts.append(tag("span", "for " if page["live"] else "lasted ", tag("strong", length(page))))
    if page["why"]:
        parts.append(tag("span", "“", heard(page["why"]), "”"))
    listed = [piece for part in parts for piece in (" · ", part)][1:]
    return tag("p", *listed, cls="when")


def legs(page: Json) -> Markup:
    """The ways to the same call as the others saw it."""
    others = [device for device in page["legs"] if device != page["device"]]
    if not others:
        return None
    links = [tag("a", heard(each), href=address(page["call_id"], each)) for each in others]
    listed = [piece for link in links for piece in (", ", link)][1:]
    return tag("p", icon("switch"), " The same call as seen by ", *listed, cls="legs")


def choice(call_id: str, devices: Sequence[str]) -> Markup:
    """Where several devices took part in a call and none was named."""
    links = (tag("li", tag("a", heard(each), href=address(call_id, each))) for each in devices)
    said = tag("p", "Each saw the call its own way. Whose?")
    body = tag("div", said, tag("ul", *links), tag("p", heard(call_id, "mono")), cls="note")
    return tag("section", tag("h1", f"{len(devices)} devices took part in this call"), body, cls="card")


def no_call(call_id: str) -> Markup:
    said = tag("p", heard(call_id, "mono"), " is none that is known here: it may be longer ago than calls are kept.")
    more = tag("p", tag("a", "All calls", href="/calls"))
    return tag("section", tag("h1", "No such call"), tag("div", said, more, cls="note"), cls="card")


# Quality and verdict


def overview(page: Json) -> Markup:
    """The two cards one looks at first."""
    return tag("div", _quality(page), _verdict(page["verdict"]), cls="columns even")


def _quality(page: Json) -> Markup:
    """How it sounded, and what that was lost to."""
    points = page["breakdown"]
    if page["mos"] is None or not points:
        said = tag("p", "Too little is known of it.", cls="below")
        return card("Quality", tag("p", "Not scored", cls="big"), said, cls="w4")
    figure = tag("p", f"{page['mos']:.2f}", tag("small", "MOS"), band(page["band"]), cls="big")
    worst = tag("p", "worst second ", mos(page["mos_min"]), cls="below")
    bad = page["bad_seconds"]
    alarm = tag("p", f"{format_seconds(bad)} of it worse than medium", cls="alarm") if bad else None
    return card("Quality", figure, worst, alarm, *_lost_points(points), cls="w4")


def _lost_points(points: Mapping[str, float]) -> tuple[Markup, ...]:
    rows = (_point(name, points[key]) for key, name in _POINTS)
    left = number(round(e_model.R_BEST - sum(points.values()), 1))
    said = tag("p", f"points lost of R, which is {left} of {e_model.R_BEST}", cls="hint", title=e_model.FORMULA)
    return tag("ol", *rows, cls="bars points"), said


def _point(name: str, lost_points: float) -> Markup:
    bar = tag("span", tag("i", share=f"{min(1, lost_points / MOST_POINTS):.1%}"), cls="bar-of")
    return tag("li", tag("span", name), bar, tag("span", number(round(lost_points, 1)), cls="figure"), key=name)


def _verdict(verdict: Json) -> Markup:
    name, drawing, tone, meaning = _VERDICTS.get(verdict["what"], _VERDICTS["unknown"])
    head = tag("p", tag("span", icon(drawing), name, cls=f"mark {tone} large"), cls="verdict")
    reasons = (tag("li", heard(each)) for each in verdict["evidence"])
    return card("Verdict", head, tag("p", meaning, cls="below"), tag("ul", *reasons, cls="evidence"), cls="w8")


# The graph


def graph_head(page: Json, minute: int) -> Markup:
    """Over the graph; `minute` (epoch ms) is what it shows of the call, 0 all."""
    whole = tag(
        "a", icon("back"), "The whole call", href=address(page["call_id"], page["device"]), go=True, cls="button"
    )
    return tag("header", tag("h2", "The call on one clock", id="clock-title"), whole if minute else None)


def statistics(page: Json) -> Markup:
    """The figures of the call."""
    return tag(
        "dl",
        tally("Lost packets", lost(page["loss_percent"])),
        tally("Round trip", ms(page["rtt_ms"]), hint="in the mean"),
        tally("Highest jitter", ms(page["jitter_max_ms"])),
        tally("Path", way(page)),
        tally("Codec", heard((page["codec"] or "").partition("/")[0])),
        tally("Switch-overs", number(page["switch_overs"]), "alarm" if page["switch_overs"] else ""),
        cls="tallies",
    )


def nothing_measured() -> Markup:
    return note("No media was measured", tag("p", "It ended before any came, or its page could not tell."))


def graph_keys(marked: Sequence[str]) -> Markup:
    """What the graph's marks mean, of those that are on it."""
    shapes = {"path": "◆", "restart": "▲", "network": "✚", "limit": "■", "switch-over": "●"}
    names = {"path": "change of path", "restart": "ICE restart", "network": "change of network"}
    shown = (
        tag("span", tag("i", shape, cls="k-mark"), names.get(kind, kind))
        for kind, shape in shapes.items()
        if kind in marked
    )
    lost_ping = tag("span", tag("i", "×", cls="k-lost"), "lost ping")
    outside = tag("span", tag("i", cls="k-outside"), "before or after the call")
    return tag("p", *shown, lost_ping, outside, cls="keys")


def graph_words(page: Json) -> str:
    """The graph for who does not see it; the minutes are in a table below."""
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


# Below the graph


def columns(page: Json, minute: int, *, everything: bool) -> Markup:
    """What was bad and how it was connected; what happened, in the call and to the device."""
    left = tag("div", bad_minutes(page, minute), connection(page), cls="stack w5")
    right = tag("div", happened(page, everything=everything), timeline(page), cls="stack w7")
    return tag("div", left, right, cls="columns")


def bad_minutes(page: Json, chosen: int) -> Markup:
    """Each bad minute, what it is blamed on, and why; a click shows it on the graph."""
    found = page["verdict"]["bad_minutes"]
    if not found:
        return card("Bad minutes", note("None"))
    rows = (_bad_minute(page, minute, chosen) for minute in found[:LINES])
    more = tag("p", f"and {len(found) - LINES} more", cls="hint") if len(found) > LINES else None
    hint = tag("span", f"{len(found)} of {plural(len(page['minutes']), 'minute')}", cls="hint")
    return card("Bad minutes", tag("ol", *rows, cls="bad-minutes"), more, aside=hint)


def _bad_minute(page: Json, minute: Json, chosen: int) -> Markup:
    at = epoch_ms(minute["at"])
    name, drawing, tone, _ = _VERDICTS.get(minute["what"], _VERDICTS["unknown"])
    link = tag(
        "a",
        time(minute["at"], "clock"),
        href=address(page["call_id"], page["device"], at),
        go=True,
        aria_current="true" if at == chosen else None,
        title="Show it on the graph",
    )
    head = tag("p", link, tag("span", icon(drawing), name, cls=f"mark {tone}"), cls="line")
    evidence = [piece for each in minute["evidence"] for piece in ("; ", heard(each))][1:]
    return tag("li", head, tag("p", *evidence, cls="muted"), key=minute["at"])


def happened(page: Json, *, everything: bool) -> Markup:
    """What happened in the call, oldest first as it was lived through."""
    found = page["happenings"]
    if not found:
        return card("In the call", note("Nothing was told of"))
    shown = found[: MOST_LINES if everything else LINES]
    hidden = 0 if everything else len(found) - len(shown)
    more = tag("button", f"Show {hidden} later", type="button", act="everything", cls="button more") if hidden else None
    rows = (_happening(number, each) for number, each in enumerate(shown))
    hint = tag("span", plural(len(found), "happening"), cls="hint")
    return card("In the call", tag("ol", *rows, cls="happened"), more, aside=hint)


def _happening(number: int, happening: Json) -> Markup:
    line = told.line(happening)
    more = tag("small", line.more) if line.more else None
    mark = tag("span", icon(line.icon), cls=f"ev-{line.tone}")
    return tag("li", time(happening["at"], "clock"), mark, tag("div", tag("p", line.words), more), key=str(number))


def timeline(page: Json) -> Markup:
    """What OpenSIPS and the companion told of the device meanwhile."""
    entries = page["timeline"]
    link = tag("a", "the device", href=device_address(page["device"]), cls="hint")
    if not entries:
        more = tag("p", "Pings that are answered are no event.")
        return card("Signalling meanwhile", note("Nothing happened", more), aside=link)
    return card("Signalling meanwhile", lines(entries[:LINES], style="clock"), aside=link)


def connection(page: Json) -> Markup:
    """The path of the media as it was told last, and what of the reports is missing."""
    path: Json = page["path"] or {}
    rows = facts(
        ("Here", _end(path, "local")),
        ("There", _end(path, "remote")),
        ("Relay", _relay(page["relay"], path)),
        ("Protocol", heard(path.get("protocol"))),
        ("Network", heard(path.get("network"))),
        ("Codec", heard(page["codec"])),
        ("Dropped", tag("span", fault(page["dropped"]), " items the page had no room for")),
        ("Missing", tag("span", fault(page["missing"]), " items never came")),
    )
    return card("Connection", rows)


def _end(path: Json, end: str) -> Markup:
    kind = path.get(end)
    if not kind:
        return nothing()
    meaning = tag("span", f", {told.CANDIDATES[kind]}", cls="muted") if kind in told.CANDIDATES else None
    where = path.get(f"{end}_address")
    return tag("span", heard(kind), meaning, tag("p", heard(where, "mono")) if where else None)


def _relay(relayed: bool | None, path: Json) -> Markup:  # noqa: FBT001 - a value
    if relayed is None:
        return nothing()
    if not relayed:
        return "none: directly from end to end"
    by = path.get("relay")
    return tag(
        "span",
        tag("span", icon("relay"), "yes", cls="mark losing"),
        tag("span", " reached by ", heard(by)) if by else None,
    )


def minutes(page: Json) -> Markup:
    """The graph as a table, for who would rather read."""
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
        cell(heard(flags), "span"),
        key=row["at"],
    )


def _pings(pings: Json) -> Markup:
    total = pings["answered"] + pings["lost"]
    if not total:
        return nothing()
    if pings["lost"]:
        return tag("span", f"{pings['lost']} of {total} lost", cls="alarm")
    return tag("span", f"up to {number(pings['max_ms'])} ms")
