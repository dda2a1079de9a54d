"""Describe the entries of a device's timeline, and the results of remediation."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from companion.dashboard.markup import Markup, network_text, tag
from companion.dashboard.markup.badges import plural
from companion.text import printable
from companion.times import format_duration

Entry = Mapping[str, Any]


class Line(NamedTuple):
    """Represent a line: an icon, a tone (good, warn, bad, act, plain), and its words."""

    icon: str
    tone: str
    words: str
    more: Markup = None


_RESULTS: Final = {
    "observed": "only observed: it would have been done",
    "removed": "removed",
    "answered": "left alone: the phone answered",
    "already-gone": "OpenSIPS had it no more",
    "came-back": "left alone: it came back",
    "not-alone": "left alone: OpenSIPS has two with this address",
    "suspect": "the phone came back soon after: it was alive",
    "pushed": "push raised at OpenSIPS",
    "offered": "push on the stream only",
    "woken": "woken",
    "kept": "kept",
    "mi-unreachable": "OpenSIPS did not answer; to be tried again",
    "mi-refused": "OpenSIPS wants other credentials",
    "mi-error": "OpenSIPS answered with an error",
    "mi-missing": "no mi_url is configured for its node",
    "started": "its SIP messages are recorded",
    "stopped": "the recording was stopped",
    "ended": "the recording ended on time",
    "refused": "its SIP messages can not be recorded",
}
_REASONS: Final = {
    "lost-pings": "it lost its pings",
    "disconnected": "its connection died",
    "ghost": "its device answers elsewhere",
    "doubted": "a node that can not reach it lost its pings",
    "requested": "asked for",
    "over": "on time",
}
_ENDS: Final = {
    "unregistered": "Unregistered",
    "expired": "Registration expired",
    "removed-after-lost-pings": "Removed by OpenSIPS after lost pings",
    "removed": "Removed by the companion",
    "replaced": "Replaced by a newer contact of the same phone",
    "gone": "Gone from OpenSIPS",
}


def describe_result(word: str) -> str:
    return _RESULTS.get(word, printable(word))


def describe_reason(word: str) -> str:
    return _REASONS.get(word, printable(word))


def without_echoes(entries: Sequence[Entry]) -> list[Entry]:
    """Leave out OpenSIPS' event of a removal where the companion's own entry of it is there, which has the reason."""
    removed = {entry.get("contact") for entry in entries if _is_removal(entry)}
    return [entry for entry in entries if entry["event"] != "removed" or entry.get("contact") not in removed]


def _is_removal(entry: Entry) -> bool:
    return entry["event"] == "companion-remove" and entry.get("result") == "removed"


def describe_entry(entry: Entry) -> Line:
    """Describe an entry as a line; an unknown event is shown by its name."""
    event = str(entry["event"])
    if event in _ENDS:
        return Line("offline", "plain", _ENDS[event], _show_address(entry))
    if event.startswith("companion-"):
        return _describe_remediation(event.removeprefix("companion-"), entry)
    describe = _LINES.get(event)
    return describe(entry) if describe else Line("device", "plain", printable(event))


def _show_address(entry: Entry) -> Markup:
    return network_text(entry["address"]) if entry.get("address") else None


def _describe_remediation(action: str, entry: Entry) -> Line:
    outcome = str(entry.get("result", ""))
    words = describe_result(outcome)
    if outcome == "woken":
        words = f"woken after {format_duration(int(entry.get('after_ms', 0)))}"
    attempt = int(entry.get("attempt", 0))
    tried = f", attempt {attempt}" if attempt else ""
    why = tag("span", f"because {describe_reason(str(entry.get('reason', '')))}{tried}")
    words = _ENDS["removed"] if _is_removal(entry) else f"Companion, {action}: {words}"
    return Line("push" if action == "push" else "close", "act", words, why)


def _describe_recovery(entry: Entry) -> Line:
    lost, after = int(entry.get("lost", 0)), entry.get("after_ms")
    by = "registered again" if entry.get("by") == "register" else "answered again"
    took = f" after {format_duration(int(after))}" if after is not None else ""
    return Line(
        "online", "good", f"Recovered: {by}{took}", tag("span", f"{plural(lost, 'ping')} lost") if lost else None
    )


def format_outage(entry: Entry) -> str:
    """Write how long a device was away at a switch-over, as far as it is known."""
    if "outage_ms" in entry:
        return format_duration(int(entry["outage_ms"]))
    if "outage_at_most_ms" in entry:
        return f"at most {format_duration(int(entry['outage_at_most_ms']))}"
    return "unknown"


def _describe_switch_over(entry: Entry) -> Line:
    away = format_outage(entry)
    words = "Switched over" if away == "unknown" else f"Switched over, away for {away}"
    return Line("switch", "warn", words, show_way(entry))


def show_way(entry: Entry) -> Markup:
    """Show from which address to which a device switched."""
    return tag("span", network_text(entry.get("from")), " → ", network_text(entry.get("to")))


def _describe_pings(entry: Entry) -> Line:
    """Describe a run of pings that somebody asked for."""
    answered, count = int(entry.get("answered", 0)), int(entry.get("count", 0))
    times = [entry.get(name) for name in ("min_ms", "average_ms", "max_ms")]
    trips = f", {'/'.join(map(str, times))} ms min/avg/max" if None not in times else ""
    more = tag("span", "through ", network_text(entry.get("node")), trips)
    return Line("search", "act", f"Pinged on request: {answered} of {count} answered", more)


def _show_operator(entry: Entry) -> Markup:
    """Show who asked for something, and for how long."""
    minutes = f" for {entry['minutes']} minutes" if entry.get("minutes") else ""
    return tag("span", "by ", network_text(entry.get("by")), minutes)


_LINES: Final[dict[str, Callable[[Entry], Line]]] = {
    "registered": lambda entry: Line("online", "good", "Registered", _show_address(entry)),
    "re-registered": lambda entry: Line("online", "plain", "Registered again", _show_address(entry)),
    "discovered": lambda entry: Line(
        "search", "plain", "Found by a ping; its REGISTER was not heard", _show_address(entry)
    ),
    "lost": lambda _: Line("losing", "warn", "Began to lose pings"),
    "stale": lambda entry: Line("stale", "bad", f"Stale: {plural(int(entry.get('lost', 0)), 'ping')} lost in a row"),
    "recovered": _describe_recovery,
    "disconnected": lambda entry: Line("stale", "bad", "Connection died", _show_address(entry)),
    "switched-over": _describe_switch_over,
    "pinged": _describe_pings,
    "recording-started": lambda entry: Line("feed", "act", "Its SIP messages are recorded", _show_operator(entry)),
    "recording-stopped": lambda entry: Line("feed", "act", "Recording stopped", _show_operator(entry)),
    "recording-ended": lambda _: Line("feed", "plain", "Recording ended on time"),
    "recording-refused": lambda entry: Line(
        "feed", "warn", "Its SIP messages can not be recorded", _show_operator(entry)
    ),
    "push-sent": lambda _: Line("push", "act", "OpenSIPS sent a push"),
}
