"""Render network text and ages for a terminal."""

from datetime import datetime

from rich.text import Text

from companion.text import printable
from companion.times import format_seconds


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
        return f"in {format_seconds(-seconds)}"
    return f"{format_seconds(seconds)} ago" if seconds else "now"
