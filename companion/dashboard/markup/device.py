"""Show one device: latency, platform, registration, contacts, timeline, switch-overs."""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlencode

from companion import sip
from companion.dashboard import user_agent
from companion.dashboard.filters import devices
from companion.dashboard.markup import Markup, card, facts, network_text, note, nothing, tag
from companion.dashboard.markup.badges import ms, number, plural, quality_of, share, status, tally
from companion.dashboard.markup.devices import device_address
from companion.dashboard.markup.icons import icon
from companion.dashboard.markup.navigation import window_choice
from companion.dashboard.markup.tables import Column, cell, fault, table
from companion.dashboard.markup.timeline import describe_entry, format_outage, show_way, without_echoes
from companion.dashboard.markup.times import Style, time
from companion.dashboard.markup.trace import trace_address
from companion.dashboard.presence import Band, share_online
from companion.text import Json
from companion.times import format_duration, iso

TIMELINE_LINES: Final = 20
ENDED_CONTACTS: Final = 3
_CONTACTS: Final[Sequence[Column]] = (
    ("Contact", ""),
    ("Status", "w-xl"),
    ("Latency", "w-s num"),
    ("Lost", "w-xs num"),
    ("Seen", "w-s"),
    ("Address", "w-xl"),
    ("Node", "w-m"),
)
GHOSTS_LEFT_OUT: Final = "without the lost pings of ghosts"
NO_WORD: Final = "Nothing was heard of its pings in this window."


def title(page: Json) -> Markup:
    aor, _, instance = page["device"].rpartition("/")
    path = tag("nav", tag("a", "Devices", href="/devices"), " › Device", cls="crumbs", aria_label="You are here")
    live = tag("span", icon("feed"), "live", cls="live", title="New pings appear by themselves")
    trace = tag("a", icon("switch"), "SIP trace", href=trace_address(page["device"]), cls="button")
    name = tag("h1", network_text(aor), status(page["status"]), live, trace)
    return tag("div", path, name, network_text(instance, "mono"), cls="device-title")


def overview(page: Json) -> Markup:
    """Show the three cards that support needs first."""
    return tag("div", _last(page), _platform(page), _registration(page), cls="columns even")


def _last(page: Json) -> Markup:
    lost = page["consecutive_lost"]
    if page["last_latency_ms"] is None:
        figure = tag("p", "No answer yet", cls="big")
    else:
        figure = tag("p", ms(page["last_latency_ms"]), quality_of(page["quality"]), cls="big")
    below = tag("p", time(page["last_latency_at"], "moment", "it never answered a ping"), cls="below")
    missing = tag("p", plural(lost, "ping"), " lost in a row since", cls="alarm") if lost else None
    return card("Last latency", figure, below, missing, cls="w3")


def _platform(page: Json) -> Markup:
    platform = user_agent.parse(page["registration"]["user_agent"] or page["user_agent"])
    kind = {"browser": "Browser", "app": "App", "desk phone": "Desk phone"}.get(platform.kind, "")
    particulars = [part for part in (kind, platform.system) if part]
    name = tag("strong", network_text(platform.name)) if platform.name else tag("strong", "Unknown")
    below = tag("p", " · ".join(particulars) or "its User-Agent does not tell", cls="muted")
    head = tag("div", icon(platform.kind or "device"), tag("div", name, below), cls="platform")
    more = [("App", platform.app), ("Hardware", platform.model), ("Library", platform.library)]
    rows = [(label, network_text(value)) for label, value in more if value and value != platform.name]
    return card("Platform", head, facts(*rows) if rows else None, cls="w3")


def _registration(page: Json) -> Markup:
    registration = page["registration"]
    address = sip.network_address(registration["received"], _uri(page))
    rows = facts(
        ("User agent", network_text(registration["user_agent"])),
        ("Registered", _yes(registration["registered"], "online", "offline")),
        ("Push", _yes(registration["push"], "push", "close", yes="enabled", no="not enabled")),
        ("Last register", time(registration["last_register_at"], "moment", "none heard")),
        ("Address", network_text(address)),
        ("Expires", time(registration["expires_at"], "moment", "never")),
        cls="facts two",
    )
    return card("Registration", rows, cls="w6")


def _uri(page: Json) -> str:
    return page["contacts"][0]["uri"] if page["contacts"] else ""


def _yes(is_so: bool, yes_icon: str, no_icon: str, yes: str = "yes", no: str = "no") -> Markup:  # noqa: FBT001 - a value
    word, mark = (yes, yes_icon) if is_so else (no, no_icon)
    return tag("span", icon(mark), f" {word}", cls="yes" if is_so else "zero")


def analysis_head(device: str, chosen: str) -> Markup:
    csv = f"/api/v1/devices/{devices.quoted(device)}/latency.csv?window={chosen}"
    export = tag("a", icon("download"), "CSV", href=csv, download=True, cls="button", title="All pings of this window")
    right = tag(
        "div", window_choice(chosen, lambda name: f"{device_address(device)}?window={name}"), export, cls="line"
    )
    return tag("header", tag("h2", "Latency analysis", id="latency-title"), right)


def statistics(latency: Json) -> Markup:
    """Show the figures of the window."""
    lost = latency["lost"]
    missing = [number(lost), tag("small", f" {share(latency['loss_ratio'])}") if latency["total"] else None]
    return tag(
        "dl",
        tally("Average", ms(latency["average_ms"])),
        tally("Maximum", ms(latency["max_ms"]), hint="of those that were answered"),
        tally("Minimum", ms(latency["min_ms"])),
        tally("Pings", number(latency["total"])),
        tally("Lost", tag("span", *missing), "alarm" if lost else "", hint=GHOSTS_LEFT_OUT),
        cls="tallies",
    )


def graph_keys(page: Json, bands: Sequence[Band], known_since: int = 0) -> Markup:
    """Explain the marks of the graph; `known_since` (epoch ms) is set where data begin inside the window."""
    online = share_online(bands)
    return tag(
        "p",
        tag("span", tag("i", "×", cls="k-lost"), "lost ping"),
        tag("span", tag("i", cls="k-online"), "online", f" {share(online)}" if online is not None else None),
        tag("span", tag("i", cls="k-offline"), "offline"),
        tag("span", tag("i", cls="k-unknown"), "nothing heard"),
        tag("span", "known since ", time(iso(known_since), "date")) if known_since else None,
        tag("span", GHOSTS_LEFT_OUT) if any(map(_has_ghost_losses, page["contacts"])) else None,
        cls="keys",
    )


def _has_ghost_losses(contact: Json) -> bool:
    """Return whether a contact shows lost pings that may be missing in the graph."""
    return bool(contact["consecutive_lost"] and (contact["ghost"] or contact["ended_at"]))


def graph_words(latency: Json, bands: Sequence[Band], window: str) -> str:
    """Describe the graph in words for screen readers."""
    if not latency["total"]:
        return f"Latency over {window}. {NO_WORD}"
    online = share_online(bands)
    away = [band for band in bands if band.state == "offline"]
    words = (
        f"Latency over {window}: {plural(latency['total'], 'ping')}, {latency['lost']} lost; average "
        f"{latency['average_ms']} ms, maximum {latency['max_ms']} ms, minimum {latency['min_ms']} ms."
    )
    if online is not None:
        gone = f", offline {plural(len(away), 'time')}" if away else ""
        words += f" Online {share(online)} of the time{gone}."
    return words


def contacts(page: Json) -> Markup:
    """Show live contacts and the last ended ones."""
    all_contacts = page["contacts"]
    live = sum(not contact["ended_at"] for contact in all_contacts)
    visible = _visible(all_contacts)
    hint = tag(
        "span", f"{live} now", f", {len(all_contacts) - live} ended" if len(all_contacts) > live else None, cls="hint"
    )
    rows = (_contact(number, contact) for number, contact in enumerate(visible, 1))
    content = table(_CONTACTS, rows) if visible else note("None is known any more")
    return card("Contacts", content, aside=hint)


def _visible(contacts: Sequence[Json]) -> Sequence[Json]:
    live = sum(not contact["ended_at"] for contact in contacts)
    return contacts[: live + ENDED_CONTACTS]


def _contact(number: int, contact: Json) -> Markup:
    alive = filter(None, (contact["last_latency_at"], contact["last_register_at"]))
    return tag(
        "tr",
        cell(tag("span", _number(number), network_text(contact["uri"], "heard mono")), "span", title=contact["uri"]),
        cell(_contact_status(contact)),
        cell(ms(contact["last_latency_ms"]), "num", "Latency"),
        cell(fault(contact["consecutive_lost"]), "num", "Lost"),
        cell(time(contact["ended_at"] or max(alive, default=None), "brief"), label="Seen"),
        cell(network_text(sip.network_address(contact["received"], contact["uri"])), label="Address"),
        cell(network_text(contact["node"]), label="Node"),
        key=contact["contact"],
    )


def _contact_status(contact: Json) -> Markup:
    mark = (
        tag("span", icon("offline"), contact["ended_by"], cls="mark offline")
        if contact["ended_by"]
        else status(contact["status"])
    )
    if not contact["ghost"]:
        return mark
    meaning = "dead, while a newer contact of the same device answers; calls still fork to it"
    return tag("span", mark, " ", tag("span", icon("ghost"), "ghost", cls="mark unknown", title=meaning))


def timeline(page: Json, *, everything: bool = False) -> Markup:
    """Show the timeline, newest first; contacts have the numbers of the list of contacts."""
    entries = without_echoes(page["timeline"])
    numbers = {contact["contact"]: n for n, contact in enumerate(_visible(page["contacts"]), 1)}
    if not entries:
        return card(
            "Timeline",
            note("Nothing happened in this window", tag("p", "Pings that are answered are no event.")),
            cls="w8",
        )
    newest = entries[::-1] if everything else entries[: -TIMELINE_LINES - 1 : -1]
    hidden = len(entries) - len(newest)
    more = (
        tag("button", f"Show {hidden} earlier", type="button", act="everything", cls="button more") if hidden else None
    )
    return card("Timeline", lines(newest, numbers), more, aside=_events(page, len(entries)), cls="w8")


def lines(
    entries: Sequence[Mapping[str, Any]], numbers: Mapping[str, int] | None = None, style: Style = "date"
) -> Markup:
    """Show entries of a timeline; `numbers` are those of contacts elsewhere on the page."""
    rows = (_line(entry, (numbers or {}).get(entry.get("contact", ""), 0), style) for entry in entries)
    return tag("ol", *rows, cls="happened")


def _line(entry: Mapping[str, Any], number: int, style: Style) -> Markup:
    line = describe_entry(entry)
    more = tag("small", line.more) if line.more else None
    mark = tag("span", icon(line.icon), cls=f"ev-{line.tone}")
    key = f"{entry['at']} {entry['event']} {entry.get('contact', '')}"
    return tag("li", time(entry["at"], style), mark, tag("div", tag("p", line.words), more), _number(number), key=key)


def _events(page: Json, count: int) -> Markup:
    decisions = f"/remediations?{urlencode({'text': page['device']})}"
    return tag("span", plural(count, "event"), " · ", tag("a", "decisions about it", href=decisions), cls="hint")


def _number(number: int) -> Markup:
    return tag("span", f"#{number}" if number else "", cls="number")


def switch_overs(entries: Sequence[Json]) -> Markup:
    """Show the switch-overs, and how long each took."""
    moves = [entry for entry in reversed(entries) if entry["event"] == "switched-over"]
    if not moves:
        return card(
            "Switch-overs",
            note("None in this window", tag("p", "It stayed at one address, or has no SIP instance.")),
            cls="w4",
        )
    outages = [entry["outage_ms"] for entry in moves if "outage_ms" in entry]
    hint = tag("span", f"longest {format_duration(max(outages))}", cls="hint") if outages else None
    return card(
        "Switch-overs", tag("ol", *map(_switch_over, moves[:TIMELINE_LINES]), cls="moves"), aside=hint, cls="w4"
    )


def _switch_over(entry: Json) -> Markup:
    away = format_outage(entry)
    outage = tag("strong", away) if away != "unknown" else nothing()
    head = tag("p", time(entry["at"], "date"), tag("span", "away ", outage, cls="push-right"), cls="move")
    return tag("li", head, tag("p", show_way(entry), cls="muted"), key=entry["at"])
