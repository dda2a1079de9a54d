"""Show what was bad in one call, how it was connected, and what happened."""

from typing import Final

from companion.dashboard.markup import Markup, card, facts, joined, network_text, note, nothing, tag
from companion.dashboard.markup.badges import plural
from companion.dashboard.markup.call import VERDICTS
from companion.dashboard.markup.call_cells import call_address
from companion.dashboard.markup.device import lines
from companion.dashboard.markup.devices import device_address
from companion.dashboard.markup.happenings import CANDIDATES, describe_happening
from companion.dashboard.markup.icons import icon
from companion.dashboard.markup.tables import fault
from companion.dashboard.markup.times import time
from companion.text import Json
from companion.times import epoch_ms

LINES: Final = 30


MOST_LINES: Final = 500
"""A browser may tell of a great many things."""


def columns(page: Json, minute: int, *, everything: bool) -> Markup:
    """Show bad minutes and connection on the left, happenings and signalling on the right."""
    left = tag("div", bad_minutes(page, minute), connection(page), cls="stack w5")
    right = tag("div", happenings_card(page, everything=everything), timeline(page), cls="stack w7")
    return tag("div", left, right, cls="columns")


def bad_minutes(page: Json, chosen: int) -> Markup:
    """Show each bad minute with its cause and evidence; a click shows it on the graph."""
    minutes = page["verdict"]["bad_minutes"]
    if not minutes:
        return card("Bad minutes", note("None"))
    rows = (_bad_minute(page, minute, chosen) for minute in minutes[:LINES])
    more = tag("p", f"and {len(minutes) - LINES} more", cls="hint") if len(minutes) > LINES else None
    hint = tag("span", f"{len(minutes)} of {plural(len(page['minutes']), 'minute')}", cls="hint")
    return card("Bad minutes", tag("ol", *rows, cls="bad-minutes"), more, aside=hint)


def _bad_minute(page: Json, minute: Json, chosen: int) -> Markup:
    at = epoch_ms(minute["at"])
    name, drawing, tone, _ = VERDICTS.get(minute["what"], VERDICTS["unknown"])
    link = tag(
        "a",
        time(minute["at"], "clock"),
        href=call_address(page["call_id"], page["device"], at),
        go=True,
        aria_current="true" if at == chosen else None,
        title="Show it on the graph",
    )
    head = tag("p", link, tag("span", icon(drawing), name, cls=f"mark {tone}"), cls="line")
    evidence = joined(map(network_text, minute["evidence"]), "; ")
    return tag("li", head, tag("p", *evidence, cls="muted"), key=minute["at"])


def happenings_card(page: Json, *, everything: bool) -> Markup:
    """Show the happenings of the call, oldest first."""
    happenings = page["happenings"]
    if not happenings:
        return card("In the call", note("Nothing was told of"))
    visible = happenings[: MOST_LINES if everything else LINES]
    hidden = 0 if everything else len(happenings) - len(visible)
    more = tag("button", f"Show {hidden} later", type="button", act="everything", cls="button more") if hidden else None
    rows = (_happening(number, happening) for number, happening in enumerate(visible))
    hint = tag("span", plural(len(happenings), "happening"), cls="hint")
    return card("In the call", tag("ol", *rows, cls="happened"), more, aside=hint)


def _happening(number: int, happening: Json) -> Markup:
    line = describe_happening(happening)
    more = tag("small", line.more) if line.more else None
    mark = tag("span", icon(line.icon), cls=f"ev-{line.tone}")
    return tag("li", time(happening["at"], "clock"), mark, tag("div", tag("p", line.words), more), key=str(number))


def timeline(page: Json) -> Markup:
    """Show the entries of the device's timeline during the call."""
    entries = page["timeline"]
    link = tag("a", "the device", href=device_address(page["device"]), cls="hint")
    if not entries:
        more = tag("p", "Pings that are answered are no event.")
        return card("Signalling meanwhile", note("Nothing happened", more), aside=link)
    return card("Signalling meanwhile", lines(entries[:LINES], style="clock"), aside=link)


def connection(page: Json) -> Markup:
    """Show the last path of the media, and what is missing of the reports."""
    path: Json = page["path"] or {}
    rows = facts(
        ("Here", _end(path, "local")),
        ("There", _end(path, "remote")),
        ("Relay", _relay(page["relay"], path)),
        ("Protocol", network_text(path.get("protocol"))),
        ("Network", network_text(path.get("network"))),
        ("Codec", network_text(page["codec"])),
        ("Dropped", tag("span", fault(page["dropped"]), " items the page had no room for")),
        ("Missing", tag("span", fault(page["missing"]), " items never came")),
    )
    return card("Connection", rows)


def _end(path: Json, end: str) -> Markup:
    kind = path.get(end)
    if not kind:
        return nothing()
    meaning = tag("span", f", {CANDIDATES[kind]}", cls="muted") if kind in CANDIDATES else None
    where = path.get(f"{end}_address")
    return tag("span", network_text(kind), meaning, tag("p", network_text(where, "mono")) if where else None)


def _relay(relayed: bool | None, path: Json) -> Markup:  # noqa: FBT001 - a value
    if relayed is None:
        return nothing()
    if not relayed:
        return "none: directly from end to end"
    by = path.get("relay")
    return tag(
        "span",
        tag("span", icon("relay"), "yes", cls="mark losing"),
        tag("span", " reached by ", network_text(by)) if by else None,
    )
