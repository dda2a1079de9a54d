"""Describe what happened to a device, in words."""

from typing import Any, Final

from companion.text import Json
from companion.times import format_duration

_DURATION_LABELS: Final = {"outage_ms": "away for", "outage_at_most_ms": "away for at most", "after_ms": "after"}


def describe_entry(entry: Json) -> str:
    """Describe an entry of the timeline without its time, event and contact."""
    if entry["event"] == "pinged":
        return _describe_pings(entry)
    details = {name: value for name, value in entry.items() if name not in ("at", "event", "contact")}
    if "from" in details and "to" in details:
        details["way"] = f"{details.pop('from')} → {details.pop('to')}"
    return ", ".join(filter(None, (_describe_detail(name, value) for name, value in details.items())))


def _describe_pings(entry: Json) -> str:
    """Describe a run of pings that somebody asked for."""
    words = f"via {entry['node']}, {entry['answered']} of {entry['count']} answered"
    if "average_ms" not in entry:
        return words
    return f"{words}, {entry['min_ms']}/{entry['average_ms']}/{entry['max_ms']} ms min/avg/max"


def _describe_detail(name: str, value: Any) -> str:
    if name in ("way", "address", "result", "reason"):
        return str(value)
    if name == "mode" or (name, str(value)) == ("attempt", "0"):
        return ""  # the result tells
    if name == "lost":
        return f"{value} {'ping' if value == 1 else 'pings'} lost"
    if name.endswith("_ms"):
        return f"{_DURATION_LABELS.get(name, name.removesuffix('_ms'))} {format_duration(int(value))}"
    return f"{name} {value}"
