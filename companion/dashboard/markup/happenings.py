"""What happened in a call, in words: the lines of its list, and the marks on its graph.

A browser reports the fields, and may report anything: a number is one only if it is, and text is shown as heard.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from companion.dashboard.markup import Markup, heard, tag
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
    """What stands on a graph: its kind, and words in which nothing is a browser's."""

    kind: str
    words: str


def line(happening: Happening) -> Line:
    """What a line of the list says; of what is not known here, its name and its fields."""
    what, fields = str(happening["what"]), happening["fields"]
    known = _LINES.get(what)
    return known(fields) if known else Line("device", "plain", printable(what), _all(fields))


def marks(happenings: Sequence[Happening]) -> list[tuple[Happening, Mark]]:
    """What of it is seen on the graph: all that may change the sound at once. The first path is no change."""
    found: list[tuple[Happening, Mark]] = []
    paths = 0
    for happening in happenings:
        paths += happening["what"] == "path"
        mark = _MARKS.get(happening["what"])
        if mark and not (happening["what"] == "path" and paths == 1):
            found.append((happening, Mark(happening["what"], mark(happening["fields"]))))
    return found


def number_in(fields: Fields, name: str) -> float | None:
    value = fields.get(name)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def bitrate(bps: float | None) -> str:
    """A bitrate as people say it.

    >>> bitrate(23_870), bitrate(1_250_000), bitrate(None)
    ('23.9 kbit/s', '1,250 kbit/s', '–')
    """
    if bps is None:
        return "–"
    kilobits = bps / 1000
    return f"{kilobits:,.0f} kbit/s" if kilobits >= 100 else f"{kilobits:.1f}".removesuffix(".0") + " kbit/s"


def took(fields: Fields) -> str:
    """How long a switch-over took, to the last step that was reached; "" when none was."""
    steps = [number_in(fields, name) for name, _ in _STEPS[1:]]
    longest = max((ms for ms in steps if ms is not None), default=None)
    return "" if longest is None else format_duration(round(longest))


def ways(path: Fields) -> Markup:
    """The two ends of a path, and what is between them."""
    ends = [heard(path[end]) if path.get(end) else "?" for end in ("local", "remote")]
    protocol = tag("span", " over ", heard(path["protocol"])) if path.get("protocol") else None
    return tag("span", ends[0], " → ", ends[1], protocol)


def _path(fields: Fields) -> Line:
    relayed = "relay" in (fields.get("local"), fields.get("remote"))
    words = "Media goes through a relay" if relayed else "Media goes directly"
    parts: list[Markup] = [ways(fields)]
    parts += [tag("span", name, heard(fields[key])) for key, name in _PATH_PARTS if fields.get(key)]
    parts += [_addresses(fields)] if fields.get("local_address") or fields.get("remote_address") else []
    return Line("switch", "warn" if relayed else "plain", words, _listed(parts))


_PATH_PARTS: Final = (("relay", "to the relay by "), ("network", "on "))


def _addresses(fields: Fields) -> Markup:
    return tag("span", heard(fields.get("local_address")), " → ", heard(fields.get("remote_address")))


def _codec(fields: Fields) -> Line:
    incoming, outgoing = fields.get("in"), fields.get("out")
    if incoming == outgoing:
        return Line("resume", "plain", "Codec", heard(incoming))
    return Line("resume", "plain", "Codecs", tag("span", "in ", heard(incoming), ", out ", heard(outgoing)))


def _state(name: str) -> Callable[[Fields], Line]:
    def told(fields: Fields) -> Line:
        state = str(fields.get("state", ""))
        tone = "good" if state in _GOOD else "bad" if state in _BAD else "warn" if state == "disconnected" else "plain"
        icon = {"good": "online", "bad": "stale", "warn": "losing"}.get(tone, "feed")
        return Line(icon, tone, name, heard(state))

    return told


def _network(fields: Fields) -> Line:
    parts: list[Markup] = [heard(fields[key]) for key in ("type", "effective") if fields.get(key)]
    rtt_ms = number_in(fields, "rtt_ms")
    parts += [] if rtt_ms is None else [f"about {rtt_ms:,.0f} ms"]
    return Line("feed", "warn", "The device changed its network", _listed(parts))


def _limit(fields: Fields) -> Line:
    most, height = number_in(fields, "max_bps"), number_in(fields, "height")
    limits = [f"to {bitrate(most)}"] if most is not None else []
    limits += [f"video to {height:,.0f} lines"] if height is not None else []
    by = {"advice": "as the companion advised", "page": "by the page"}.get(str(fields.get("by")), "")
    return Line("down", "act", f"Limited {' and '.join(limits)}".rstrip(), by or None)


def _limited(fields: Fields) -> Line:
    before, after = (bitrate(number_in(fields, name)) for name in ("before_bps", "after_bps"))
    lost, still = (number_in(fields, name) for name in ("before_loss", "after_loss"))
    loss = None if lost is None or still is None else f"loss {share(lost)} before, {share(still)} after"
    return Line("down", "act", f"What the limit did: {before} before, {after} after", loss)


def _switch_over(fields: Fields) -> Line:
    failed = fields.get("result") == "failed"
    time = took(fields)
    words = "Switch-over failed" if failed else f"Switched over in {time}" if time else "Switched over"
    steps = [(name, number_in(fields, key)) for key, name in _STEPS]
    parts: list[Markup] = [tag("span", "because of ", heard(fields["reason"]))] if fields.get("reason") else []
    parts += [f"{name} {format_duration(round(ms))}" for name, ms in steps if ms is not None]
    return Line("switch", "bad" if failed else "warn", words, _listed(parts))


def _all(fields: Fields) -> Markup:
    return _listed([tag("span", heard(name), " ", heard(value)) for name, value in fields.items()])


def _listed(parts: Sequence[Markup]) -> Markup:
    return tag("span", *[piece for part in parts for piece in (", ", part)][1:]) if parts else None


def _plain(icon: str, tone: str, words: str) -> Callable[[Fields], Line]:
    return lambda _: Line(icon, tone, words)


_LINES: Final[dict[str, Callable[[Fields], Line]]] = {
    "path": _path,
    "codec": _codec,
    "ice": _state("ICE"),
    "connection": _state("Connection"),
    "restart": _plain("switch", "warn", "ICE was restarted"),
    "muted": _plain("muted", "plain", "Muted"),
    "unmuted": _plain("unmuted", "plain", "No longer muted"),
    "hidden": _plain("hidden", "plain", "The page went into the background"),
    "visible": _plain("browser", "plain", "The page came to the front"),
    "held": _plain("pause", "plain", "Put on hold"),
    "resumed": _plain("resume", "plain", "Taken off hold"),
    "offline": _plain("offline", "bad", "The device went offline"),
    "online": _plain("online", "good", "The device was online again"),
    "network": _network,
    "limit": _limit,
    "limited": _limited,
    "switch-over": _switch_over,
}


def _path_mark(fields: Fields) -> str:
    return "path: relay" if "relay" in (fields.get("local"), fields.get("remote")) else "path: direct"


def _limit_mark(fields: Fields) -> str:
    most = number_in(fields, "max_bps")
    return "limit" if most is None else f"limit {bitrate(most)}"


def _switch_over_mark(fields: Fields) -> str:
    return "switch-over failed" if fields.get("result") == "failed" else f"switch-over {took(fields)}".rstrip()


_MARKS: Final[dict[str, Callable[[Fields], str]]] = {
    "path": _path_mark,
    "restart": lambda _: "ICE restart",
    "network": lambda _: "network",
    "limit": _limit_mark,
    "switch-over": _switch_over_mark,
}
