"""Show the fleet: statuses, the worst devices, nodes and their feeds, remediation."""

from collections.abc import Sequence
from typing import Final

from companion.dashboard.filters import devices
from companion.dashboard.filters.devices import Query
from companion.dashboard.markup import Markup, card, network_text, note, tag
from companion.dashboard.markup.badges import MEANINGS, ms, number, plural, quality_of, share, status
from companion.dashboard.markup.devices import no_devices, who
from companion.dashboard.markup.icons import icon
from companion.dashboard.markup.navigation import window_choice
from companion.dashboard.markup.remediations import brief, state_words
from companion.dashboard.markup.tables import Column, cell, fault, table
from companion.dashboard.markup.times import time
from companion.text import Json
from companion.usrloc.contact import STATUSES

LOST_LAST_PING: Final = "share of the contacts whose last ping was lost"
_WORST: Final[Sequence[Column]] = (
    ("Device", ""),
    ("Status", "w-m"),
    ("Latency", "w-s num"),
    ("Quality", "w-m"),
    ("Lost", "w-xs num"),
    ("Seen", "w-s"),
)
_UNRECORDED: Final = (
    "Nobody stores its events: the consumer of its cluster does not hear it. "
    "[consumer] subscribe must name every node of a cluster in each consumer."
)
_NODES: Final[Sequence[Column]] = (
    ("Node", ""),
    ("Feed", "w-m"),
    ("Last event", "w-l"),
    ("Contacts", "w-s num"),
    ("Events", "w-m num"),
    ("Gaps", "w-s num"),
    ("Missed", "w-s num"),
    ("Kernel drops", "w-m num"),
    ("Breaker", "w-m"),
)


def title(summary: Json) -> Markup:
    total = summary["devices"]["total"]
    contacts = sum(summary["contacts"][word] for word in STATUSES if word != "offline")
    counts = tag(
        "p", plural(total, "device"), ", ", plural(contacts, "contact"), ", counted ", time(summary["at"], "ago")
    )
    return tag("div", tag("h1", "Fleet"), tag("div", counts, cls="as-of push-right"), cls="title")


def statuses(summary: Json) -> Markup:
    """Show how many devices have each status, and link to them."""
    counts = summary["devices"]
    if not counts["total"]:
        return tag("section", no_devices(), cls="card")
    return tag("nav", *(_status(word, counts) for word in STATUSES), cls="statuses", aria_label="Devices by status")


def _status(word: str, counts: Json) -> Markup:
    ratio = counts[word] / counts["total"]
    count = tag("span", number(counts[word]), tag("small", share(round(ratio, 3))), cls="count")
    bar = tag("span", tag("i", share=f"{ratio:.1%}"), cls="bar-of")
    where = devices.address(Query(status=(word,)))
    return tag("a", status(word), count, bar, href=where, title=MEANINGS[word], cls=f"of-{word}")


def history_head(summary: Json, chosen: str) -> Markup:
    latency = summary["latency"]
    now = tag(
        "p",
        *(tag("span", f"{name} ", ms(latency[f"{name}_ms"])) for name in ("p50", "p95", "p99")),
        tag("span", "lost last ping ", share(summary["loss_ratio"]), title=LOST_LAST_PING),
        cls="keys now",
    )
    return tag(
        "header", tag("h2", "Latency and loss", id="history-title"), now, window_choice(chosen, "/?window={}".format)
    )


def history_words(points: Sequence[Json], window: str) -> str:
    """Describe the graph in words for screen readers."""
    measured = [point for point in points if point["p50_ms"] is not None]
    if not measured:
        return f"Latency of the fleet over {window}: no data yet."
    last = measured[-1]
    worst = max(measured, key=lambda point: point["p95_ms"])
    loss = max((point["loss_ratio"] or 0 for point in measured), default=0)
    return (
        f"Latency of the fleet over {window}. Now p50 {last['p50_ms']} ms, p95 {last['p95_ms']} ms, "
        f"p99 {last['p99_ms']} ms, {share(last['loss_ratio'])} lost their last ping. "
        f"Highest p95 {worst['p95_ms']} ms, most that lost their last ping {share(loss)}."
    )


def worst(rows: Sequence[Json]) -> Markup:
    if not rows:
        return card("Worst devices", note("None yet"), cls="w7")
    every = tag("span", "as of now · ", tag("a", "All devices", href="/devices", cls="muted"), cls="hint")
    return card("Worst devices", table(_WORST, map(_worst, rows)), aside=every, cls="w7")


def _worst(row: Json) -> Markup:
    return tag(
        "tr",
        cell(who(row["device"], row=True)),
        cell(status(row["status"]), "right"),
        cell(ms(row["last_latency_ms"]), "num"),
        cell(quality_of(row["quality"]), "right"),
        cell(fault(row["consecutive_lost"]), "num", "Lost"),
        cell(time(row["last_latency_at"], "brief", "never"), "right", "Seen"),
        key=row["device"],
    )


def nodes(rows: Sequence[Json]) -> Markup:
    if not rows:
        more = tag(
            "p", "Is a bridge running, and does OpenSIPS send to it? ", tag("code", "companion doctor"), " tells."
        )
        return card("Nodes", note("No node has been heard of", more))
    return card("Nodes", table(_NODES, map(_node, rows)))


def _node(node: Json) -> Markup:
    alive = tag("span", icon("online"), "alive", cls="mark online")
    silent = tag("span", icon("stale"), "silent", cls="mark stale")
    unrecorded = tag("span", icon("stale"), "not recorded", cls="mark stale", title=_UNRECORDED)
    cluster = tag("small", network_text(node["cluster"])) if node["cluster"] not in ("", node["node"]) else None
    contacts = "–" if node["contacts"] is None else number(node["contacts"])
    return tag(
        "tr",
        cell(tag("span", network_text(node["node"]), cluster, cls="who")),
        cell(unrecorded if node["heard_by"] else alive if node["alive"] else silent, "right"),
        cell(time(node["last_event_at"], "ago", "none"), label="Last event"),
        cell(contacts, "num", "Contacts"),
        cell(number(node["received"]), "num", "Events"),
        cell(fault(node["gaps"]), "num", "Gaps"),
        cell(fault(node["missed"]), "num", "Missed"),
        cell(fault(node["kernel_drops"]), "num", "Kernel drops"),
        cell(_breaker(node["breaker"]), label="Breaker"),
        key=node["node"],
    )


def _breaker(opened: str | None) -> Markup:
    if not opened:
        return tag("span", "closed", cls="zero")
    return tag("span", icon("losing"), "open ", time(opened, "brief"), cls="mark losing")


def remediation(state: Json, entries: Sequence[Json]) -> Markup:
    """Show the state of remediation, and its last decisions."""
    every = tag("a", "All decisions", href="/remediations", cls="hint")
    lines = tag("ol", *map(brief, entries), cls="decisions") if entries else note("Nothing was decided yet")
    return card("Remediation", state_words(state), lines, aside=every, cls="w5")
