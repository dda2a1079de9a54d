"""Show the list of devices, and its filters; on a phone each row is a card."""

from collections.abc import Mapping, Sequence
from typing import Final

from companion import quality
from companion.dashboard.filters import devices
from companion.dashboard.filters.devices import Query
from companion.dashboard.markup import Markup, fields, network_text, note, nothing, tag
from companion.dashboard.markup.badges import MEANINGS, ms, number, plural, quality_of, status
from companion.dashboard.markup.icons import icon
from companion.dashboard.markup.navigation import pager
from companion.dashboard.markup.tables import cell, fault, heading, table
from companion.dashboard.markup.times import time
from companion.sip import short_instance
from companion.text import Json, printable
from companion.usrloc.contact import STATUSES

COLUMNS: Final = (
    ("Device", "device", "w-third"),
    ("Status", "status", "w-m"),
    ("Latency", "latency", "w-s num"),
    ("Quality", "", "w-m"),
    ("Last ping", "last_latency_at", "w-s"),
    ("Lost", "lost", "w-xs num"),
    ("Registered", "last_register_at", "w-m spare"),
    ("Push", "", "w-xs spare"),
    ("Node", "", "w-m spare"),
    ("User agent", "", ""),
)
"""What a column is called, what it is sorted by, and its classes."""
_PUSH: Final = (("", "Push or not"), ("yes", "Push"), ("no", "No push"))
_DESCENDING_FIRST: Final = frozenset({"latency", "lost", "last_latency_at", "last_register_at"})


def device_address(device: str) -> str:
    """Return the address of a device's page."""
    return f"/devices/{devices.quoted(device)}"


def who(device: str, *, row: bool = False) -> Markup:
    """Link to a device by its AOR and the end of its instance."""
    aor, _, instance = device.rpartition("/")
    name = (network_text(aor or device), tag("small", network_text(short_instance(instance))))
    return tag("a", *name, href=device_address(device), title=device, cls="who", data_row="" if row else None)


def filter_fields(query: Query, nodes: Sequence[str], counts: Mapping[str, int]) -> Markup:
    """Show the fields and choices to select devices by."""
    return tag(
        "form",
        tag("div", *_fields(query, nodes), cls="line"),
        _chips("Status", query, "status", [(word, status_chip(word, counts)) for word in STATUSES]),
        _chips("Quality", query, "quality", [(word, [quality_of(word)]) for word in quality.LABELS]),
        role="search",
        aria_label="Devices",
        act="search-now",
        cls="filters",
    )


def status_chip(word: str, counts: Mapping[str, int]) -> list[Markup]:
    count = tag("span", number(counts[word]), cls="n") if word in counts else None
    return [icon(word), word, count]


def _fields(query: Query, nodes: Sequence[str]) -> Sequence[Markup]:
    chosen = {None: "", True: "yes", False: "no"}[query.push]
    return (
        fields.search("search", query.search, "AOR, device id or user agent"),
        fields.text("user_agent", query.user_agent, "User agent has …", "User agent"),
        fields.select("node", query.node, [("", "All nodes"), *((node, printable(node)) for node in nodes)], "Node"),
        fields.select("push", chosen, _PUSH, "Push"),
        tag("a", "Clear", href="/devices", go=True, cls="muted") if devices.is_filtered(query) else None,
    )


def _chips(legend: str, query: Query, name: str, words: Sequence[tuple[str, Sequence[Markup]]]) -> Markup:
    chosen = getattr(query, name)
    links = (
        tag(
            "a",
            *label,
            href=devices.address(devices.toggled(query, name, word)),
            go=True,
            role="button",
            aria_pressed="true" if word in chosen else "false",
            title=MEANINGS.get(word),
            cls="chip",
        )
        for word, label in words
    )
    return tag("div", tag("span", legend, cls="legend"), *links, role="group", aria_label=legend, cls="chips")


def device_table(rows: Sequence[Json], query: Query) -> Markup:
    if not rows:
        return _none(query)
    columns = [(_column(query, *column), "") for column in COLUMNS]
    return tag("div", table(columns, map(_row, rows), "edge"), cls="card table-card")


def _column(query: Query, name: str, by: str, cls: str) -> Markup:
    if not by:
        return heading(name, cls)
    current = query.sort == by
    down = not query.descending if current else by in _DESCENDING_FIRST
    arrow = icon("down" if query.descending else "up") if current else None
    link = tag("a", name, arrow, href=devices.address(devices.sorted_by(query, by, descending=down)), go=True)
    return heading(link, cls, aria_sort=("descending" if query.descending else "ascending") if current else None)


def _row(row: Json) -> Markup:
    lost = row["consecutive_lost"]
    return tag(
        "tr",
        cell(who(row["device"], row=True)),
        cell(status(row["status"]), "right"),
        cell(ms(row["last_latency_ms"]), "num"),
        cell(quality_of(row["quality"]) or nothing(), "right"),
        cell(time(row["last_latency_at"], "brief", "never"), label="Last ping"),
        cell(fault(lost), "num right" if lost else "num away", "Lost"),
        cell(time(row["last_register_at"], "brief"), "away spare"),
        cell(_push(row["push"]), "away spare"),
        cell(network_text(row["node"]), "away spare"),
        cell(network_text(row["user_agent"]), "span muted", title=row["user_agent"] or None),
        key=row["device"],
    )


def _push(can: bool) -> Markup:  # noqa: FBT001 - a value to show
    return tag("span", "yes") if can else tag("span", "no", cls="zero")


def _none(query: Query) -> Markup:
    if devices.is_filtered(query):
        more = tag("p", "Nothing fits all of these filters. ", tag("a", "Show all devices", href="/devices", go=True))
        return tag("div", note("No such device", more), cls="card")
    return tag("div", no_devices(), cls="card")


def no_devices() -> Markup:
    """Explain how devices appear."""
    return note(
        "No device yet",
        tag("p", "A device appears with its next REGISTER or ping, once OpenSIPS sends its events here."),
        tag(
            "p", "In doubt, ", tag("code", "companion doctor"), " says what is missing between OpenSIPS and this page."
        ),
        tag("p", "Just looking? ", tag("code", "companion demo"), " runs everything with simulated phones."),
    )


def list_pager(page: Json, query: Query) -> Markup:
    """Show how many devices there are, as of when, and the links to the other pages."""
    first = ("First", devices.address(devices.first_page(query))) if query.cursor else None
    following = ("Next", devices.address(devices.page_at(query, page["next"]))) if page["next"] else None
    count = tag("p", plural(page["total"], "device"), ", as of ", time(page["as_of"], "ago", "now"))
    return pager(first, following, count)
