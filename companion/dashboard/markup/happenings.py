"""Describe the happenings of a call: lines of its list, and marks on its graph.

A browser may report anything as a field: only numbers are taken as numbers, and text is shown as network text.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from companion.dashboard.markup import Markup, joined, network_text, tag
from companion.dashboard.markup.badges import share
from companion.dashboard.markup.timeline import Line
from companion.text import printable
from companion.times import format_duration

Happening = Mapping[str, Any]
Fields = Mapping[str, Any]

CANDIDATES: Final = {
    "host": "its own address",
    "srflx": "its address as seen through NAT",
    "prflx": "its address as the other side saw it",
    "relay": "a TURN server's address",
}
_GOOD: Final = frozenset({"connected", "completed"})
_BAD: Final = frozenset({"failed", "closed"})
_STEPS: Final = (
    ("noticed_ms", "noticed after"),
    ("socket_ms", "socket up after"),
    ("registered_ms", "registered after"),
    ("reinvite_ms", "re-INVITE answered after"),
    ("media_ms", "first packet after"),
)


class Mark(NamedTuple):
    """Represent a mark on a graph: its kind, and words of ours."""

    kind: str
    words: str


def describe_happening(happening: Happening) -> Line:
    """Describe a happening as a line; an unknown kind is shown by its name and fields."""
    what, fields = str(happening["what"]), happening["fields"]
    describe = _LINES.get(what)
    return describe(fields) if describe else Line("device", "plain", printable(what), _show_all(fields))


def select_marks(happenings: Sequence[Happening]) -> list[tuple[Happening, Mark]]:
    """Return what may change the sound at once, with its mark. The first path is not a change."""
    visible: list[tuple[Happening, Mark]] = []
    paths = 0
    for happening in happenings:
        paths += happening["what"] == "path"
        mark = _MARKS.get(happening["what"])
        if mark and not (happening["what"] == "path" and paths == 1):
            visible.append((happening, Mark(happening["what"], mark(happening["fields"]))))
    return visible


def read_number(fields: Fields, name: str) -> float | None:
    value = fields.get(name)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def format_bitrate(bps: float | None) -> str:
    """Write a bitrate with its unit.

    >>> bitrate(23_870), bitrate(1_250_000), bitrate(None)
    ('23.9 kbit/s', '1,250 kbit/s', '–')
    """
    if bps is None:
        return "–"
    kilobits = bps / 1000
    return f"{kilobits:,.0f} kbit/s" if kilobits >= 100 else f"{kilobits:.1f}".removesuffix(".0") + " kbit/s"


def format_switch_over(fields: Fields) -> str:
    """Write how long a switch-over took until its last step; "" when it took no step."""
    steps = [read_number(fields, name) for name, _ in _STEPS[1:]]
    longest = max((ms for ms in steps if ms is not None), default=None)
    return "" if longest is None else format_duration(round(longest))


def show_ends(path: Fields) -> Markup:
    """Show the two ends of a path, and its protocol."""
    ends = [network_text(path[end]) if path.get(end) else "?" for end in ("local", "remote")]
    protocol = tag("span", " over ", network_text(path["protocol"])) if path.get("protocol") else None
    return tag("span", ends[0], " → ", ends[1], protocol)


def _describe_path(fields: Fields) -> Line:
    relayed = "relay" in (fields.get("local"), fields.get("remote"))
    words = "Media goes through a relay" if relayed else "Media goes directly"
    parts: list[Markup] = [show_ends(fields)]
    parts += [tag("span", name, network_text(fields[key])) for key, name in _PATH_PARTS if fields.get(key)]
    parts += [_show_addresses(fields)] if fields.get("local_address") or fields.get("remote_address") else []
    return Line("switch", "warn" if relayed else "plain", words, _show_in_line(parts))


_PATH_PARTS: Final = (("relay", "to the relay by "), ("network", "on "))


def _show_addresses(fields: Fields) -> Markup:
    return tag("span", network_text(fields.get("local_address")), " → ", network_text(fields.get("remote_address")))


def _describe_codec(fields: Fields) -> Line:
    incoming, outgoing = fields.get("in"), fields.get("out")
    if incoming == outgoing:
        return Line("resume", "plain", "Codec", network_text(incoming))
    return Line(
        "resume", "plain", "Codecs", tag("span", "in ", network_text(incoming), ", out ", network_text(outgoing))
    )


def _describe_state(name: str) -> Callable[[Fields], Line]:
    def describe(fields: Fields) -> Line:
        state = str(fields.get("state", ""))
        tone = "good" if state in _GOOD else "bad" if state in _BAD else "warn" if state == "disconnected" else "plain"
        icon = {"good": "online", "bad": "stale", "warn": "losing"}.get(tone, "feed")
        return Line(icon, tone, name, network_text(state))

    return describe


def _describe_network(fields: Fields) -> Line:
    parts: list[Markup] = [network_text(fields[key]) for key in ("type", "effective") if fields.get(key)]
    rtt_ms = read_number(fields, "rtt_ms")
    parts += [] if rtt_ms is None else [f"about {rtt_ms:,.0f} ms"]
    return Line("feed", "warn", "The device changed its network", _show_in_line(parts))


def _describe_limit(fields: Fields) -> Line:
    most, height = read_number(fields, "max_bps"), read_number(fields, "height")
    limits = [f"to {format_bitrate(most)}"] if most is not None else []
    limits += [f"video to {height:,.0f} lines"] if height is not None else []
    by = {"advice": "as the companion advised", "page": "by the page"}.get(str(fields.get("by")), "")
    return Line("down", "act", f"Limited {' and '.join(limits)}".rstrip(), by or None)


def _describe_limited(fields: Fields) -> Line:
    before, after = (format_bitrate(read_number(fields, name)) for name in ("before_bps", "after_bps"))
    lost, still = (read_number(fields, name) for name in ("before_loss", "after_loss"))
    loss = None if lost is None or still is None else f"loss {share(lost)} before, {share(still)} after"
    return Line("down", "act", f"What the limit did: {before} before, {after} after", loss)


def _describe_switch_over(fields: Fields) -> Line:
    failed = fields.get("result") == "failed"
    time = format_switch_over(fields)
    words = "Switch-over failed" if failed else f"Switched over in {time}" if time else "Switched over"
    steps = [(name, read_number(fields, key)) for key, name in _STEPS]
    parts: list[Markup] = [tag("span", "because of ", network_text(fields["reason"]))] if fields.get("reason") else []
    parts += [f"{name} {format_duration(round(ms))}" for name, ms in steps if ms is not None]
    return Line("switch", "bad" if failed else "warn", words, _show_in_line(parts))


def _show_all(fields: Fields) -> Markup:
    return _show_in_line([tag("span", network_text(name), " ", network_text(value)) for name, value in fields.items()])


def _show_in_line(parts: Sequence[Markup]) -> Markup:
    return tag("span", *joined(parts, ", ")) if parts else None


def _make_line(icon: str, tone: str, words: str) -> Callable[[Fields], Line]:
    return lambda _: Line(icon, tone, words)


_LINES: Final[dict[str, Callable[[Fields], Line]]] = {
    "path": _describe_path,
    "codec": _describe_codec,
    "ice": _describe_state("ICE"),
    "connection": _describe_state("Connection"),
    "restart": _make_line("switch", "warn", "ICE was restarted"),
    "muted": _make_line("muted", "plain", "Muted"),
    "unmuted": _make_line("unmuted", "plain", "No longer muted"),
    "hidden": _make_line("hidden", "plain", "The page went into the background"),
    "visible": _make_line("browser", "plain", "The page came to the front"),
    "held": _make_line("pause", "plain", "Put on hold"),
    "resumed": _make_line("resume", "plain", "Taken off hold"),
    "offline": _make_line("offline", "bad", "The device went offline"),
    "online": _make_line("online", "good", "The device was online again"),
    "network": _describe_network,
    "limit": _describe_limit,
    "limited": _describe_limited,
    "switch-over": _describe_switch_over,
}


def _name_path(fields: Fields) -> str:
    return "path: relay" if "relay" in (fields.get("local"), fields.get("remote")) else "path: direct"


def _name_limit(fields: Fields) -> str:
    most = read_number(fields, "max_bps")
    return "limit" if most is None else f"limit {format_bitrate(most)}"


def _name_switch_over(fields: Fields) -> str:
    return (
        "switch-over failed"
        if fields.get("result") == "failed"
        else f"switch-over {format_switch_over(fields)}".rstrip()
    )


_MARKS: Final[dict[str, Callable[[Fields], str]]] = {
    "path": _name_path,
    "restart": lambda _: "ICE restart",
    "network": lambda _: "network",
    "limit": _name_limit,
    "switch-over": _name_switch_over,
}
