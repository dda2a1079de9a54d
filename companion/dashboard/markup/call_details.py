"""Show what was bad in one call, how it was connected, and what happened."""

from typing import Final

from companion.dashboard.markup import Markup, card, facts, heard, note, nothing, tag
from companion.dashboard.markup import happenings as told
from companion.dashboard.markup.badges import plural
from companion.dashboard.markup.call import VERDICTS
from companion.dashboard.markup.call_cells import address
from companion.dashboard.markup.device import lines
from companion.dashboard.markup.devices import address as device_address
from companion.dashboard.markup.icons import icon
from companion.dashboard.markup.tables import fault
from companion.dashboard.markup.times import time
from companion.text import Json
from companion.times import epoch_ms

LINES: Final = 30


MOST_LINES: Final = 500
"""A browser may tell of a great many things."""


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
    name, drawing, tone, _ = VERDICTS.get(minute["what"], VERDICTS["unknown"])
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
