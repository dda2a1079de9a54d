"""Render what the list of calls and one call show alike."""

from typing import Final

from rich.text import Text

from companion.cli.screens.text import text
from companion.text import Json

BANDS: Final = {
    "best": "green",
    "high": "green",
    "medium": "yellow",
    "low": "dark_orange",
    "poor": "red",
    "bad": "bold red",
}


ENDS: Final = {"failed": "red", "lost": "red", "live": "cyan", "gone": "bright_black"}


ARROWS: Final = {"in": "←", "out": "→", "": "·"}


def render_end(call: Json) -> Text:
    """Render how a call ended: "live" while it lasts, "gone" when reports stopped without an end."""
    word = call["end"] or ("live" if call["live"] else "ended" if call["ended_at"] else "gone")
    return text(word, ENDS.get(word, ""))


def render_mos(call: Json) -> Text:
    return text(None if call["mos"] is None else f"{call['mos']:.2f}", BANDS.get(call["band"] or "", ""))
