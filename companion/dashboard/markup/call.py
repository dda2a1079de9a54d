"""Show the head, the quality and the verdict of one call."""

from collections.abc import Mapping, Sequence
from typing import Final

from companion.dashboard.markup import Markup, card, joined, network_text, tag
from companion.dashboard.markup.badges import band, mos, number
from companion.dashboard.markup.call_cells import DIRECTIONS, arrow, call_address, ended, length, peer
from companion.dashboard.markup.devices import device_address
from companion.dashboard.markup.icons import icon
from companion.dashboard.markup.times import time
from companion.media import e_model
from companion.text import Json
from companion.times import format_seconds

MOST_POINTS: Final = 50
"""The end of the scale for points of R that were lost: so many make the best line a bad one."""
VERDICTS: Final = {
    "good": ("Good", "online", "online", "Nothing about it was bad."),
    "signalling": ("Signalling path", "losing", "losing", "The way from OpenSIPS to the device was bad, too."),
    "media": ("Media path", "stale", "stale", "Packets came late, unevenly, or not at all."),
    "device": ("The device", "device", "unknown", "Packets came in well; what was made of them was bad."),
    "network": ("Change of network", "switch", "losing", "It was bad around a change of network only."),
    "unknown": ("Not known", "unknown", "offline", "Too little is known to say."),
}
"""What a verdict is called, its icon, its colour, and what it means."""
_POINTS: Final = (("delay", "Delay"), ("loss", "Loss"), ("codec", "Codec"))


def title(page: Json) -> Markup:
    """Show which call it is: its ends, when it was, and how it ended."""
    device = page["device"]
    path = tag(
        "nav",
        tag("a", "Calls", href="/calls"),
        " › ",
        tag("a", network_text(device.rpartition("/")[0] or device), href=device_address(device), title=device),
        " › Call",
        cls="crumbs",
        aria_label="You are here",
    )
    word = DIRECTIONS.get(page["direction"], "with")
    name = tag("h1", tag("span", arrow(page), f" Call {word} ", peer(page)), ended(page))
    return tag("div", path, name, _when(page), network_text(page["call_id"], "mono"), cls="device-title call-title")


def _when(page: Json) -> Markup:
    parts: list[Markup] = [tag("span", "started ", time(page["started_at"], "date"))]
    parts.append(tag("span", "for " if page["live"] else "lasted ", tag("strong", length(page))))
    if page["why"]:
        parts.append(tag("span", "“", network_text(page["why"]), "”"))
    return tag("p", *joined(parts, " · "), cls="when")


def legs(page: Json) -> Markup:
    """Link to the same call as reported by other devices."""
    others = [device for device in page["legs"] if device != page["device"]]
    if not others:
        return None
    links = [tag("a", network_text(device), href=call_address(page["call_id"], device)) for device in others]
    return tag("p", icon("switch"), " The same call as seen by ", *joined(links, ", "), cls="legs")


def choice(call_id: str, devices: Sequence[str]) -> Markup:
    """Let the viewer choose among the devices that took part in a call."""
    links = (tag("li", tag("a", network_text(device), href=call_address(call_id, device))) for device in devices)
    question = tag("p", "Each saw the call its own way. Whose?")
    body = tag("div", question, tag("ul", *links), tag("p", network_text(call_id, "mono")), cls="note")
    return tag("section", tag("h1", f"{len(devices)} devices took part in this call"), body, cls="card")


def no_call(call_id: str) -> Markup:
    reason = tag(
        "p", network_text(call_id, "mono"), " is none that is known here: it may be longer ago than calls are kept."
    )
    more = tag("p", tag("a", "All calls", href="/calls"))
    return tag("section", tag("h1", "No such call"), tag("div", reason, more, cls="note"), cls="card")


def overview(page: Json) -> Markup:
    """Show the two cards that matter most: quality and verdict."""
    return tag("div", _quality(page), _verdict(page["verdict"]), cls="columns even")


def _quality(page: Json) -> Markup:
    """Show the MOS, and what lowered it."""
    points = page["breakdown"]
    if page["mos"] is None or not points:
        below = tag("p", "Too little is known of it.", cls="below")
        return card("Quality", tag("p", "Not scored", cls="big"), below, cls="w4")
    figure = tag("p", f"{page['mos']:.2f}", tag("small", "MOS"), band(page["band"]), cls="big")
    worst = tag("p", "worst second ", mos(page["mos_min"]), cls="below")
    bad = page["bad_seconds"]
    alarm = tag("p", f"{format_seconds(bad)} of it worse than medium", cls="alarm") if bad else None
    return card("Quality", figure, worst, alarm, *_lost_points(points), cls="w4")


def _lost_points(points: Mapping[str, float]) -> tuple[Markup, ...]:
    rows = (_point(name, points[key]) for key, name in _POINTS)
    left = number(round(e_model.R_BEST - sum(points.values()), 1))
    hint = tag("p", f"points lost of R, which is {left} of {e_model.R_BEST}", cls="hint", title=e_model.FORMULA)
    return tag("ol", *rows, cls="bars points"), hint


def _point(name: str, lost_points: float) -> Markup:
    bar = tag("span", tag("i", share=f"{min(1, lost_points / MOST_POINTS):.1%}"), cls="bar-of")
    return tag("li", tag("span", name), bar, tag("span", number(round(lost_points, 1)), cls="figure"), key=name)


def _verdict(verdict: Json) -> Markup:
    name, drawing, tone, meaning = VERDICTS.get(verdict["what"], VERDICTS["unknown"])
    head = tag("p", tag("span", icon(drawing), name, cls=f"mark {tone} large"), cls="verdict")
    reasons = (tag("li", network_text(sentence)) for sentence in verdict["evidence"])
    return card("Verdict", head, tag("p", meaning, cls="below"), tag("ul", *reasons, cls="evidence"), cls="w8")
