"""Render network text and ages for a terminal."""

from datetime import datetime

from rich.text import Text

from companion.text import printable


def text(value: object, style: str = "") -> Text:
    """Any value as literal text: no markup, no control characters, cut where there is no room; "–" for nothing."""
    if value is None or value == "":
        return Text("–", style="bright_black")
    return Text(printable(str(value)).replace("\t", " "), style=style, no_wrap=True, overflow="ellipsis")


def ago(at: str | None, now: datetime) -> str:
    """An ISO 8601 time as a person says it."""
    if not at:
        return ""
    seconds = round((now - datetime.fromisoformat(at)).total_seconds())
    if seconds < 0:
        return f"in {_span(-seconds)}"
    return f"{_span(seconds)} ago" if seconds else "now"


def _span(seconds: int) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size or (unit == "min" and seconds >= size):
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
