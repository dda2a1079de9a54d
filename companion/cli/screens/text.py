"""Render network text and ages for a terminal."""

from datetime import datetime

from rich.text import Text

from companion.text import printable
from companion.times import cut_to_unit, format_seconds


def text(value: object, style: str = "") -> Text:
    """Render a value as literal text, without control characters and cut where it is too long; "–" for nothing."""
    if value is None or value == "":
        return Text("–", style="bright_black")
    return Text(printable(str(value)).replace("\t", " "), style=style, no_wrap=True, overflow="ellipsis")


def ago(at: str | None, now: datetime, *, brief: bool = False) -> str:
    """Write how long ago an ISO 8601 time was, or how far ahead it is; `brief` in one unit, for a narrow column."""
    if not at:
        return ""
    seconds = round((now - datetime.fromisoformat(at)).total_seconds())
    if brief:
        seconds = cut_to_unit(seconds)
    if seconds < 0:
        return f"in {format_seconds(-seconds)}"
    return f"{format_seconds(seconds)} ago" if seconds else "now"
