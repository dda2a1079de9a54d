"""Render what several screens show of a device."""

from typing import Any, Final

from rich.text import Text

from companion.cli.screens.text import text

COLOURS: Final = {
    "online": "green",
    "losing": "yellow",
    "unknown": "bright_black",
    "stale": "red",
    "offline": "bright_black",
    "excellent": "green",
    "good": "green",
    "fair": "yellow",
    "poor": "dark_orange",
    "bad": "red",
    "registered": "green",
    "recovered": "green",
    "lost": "yellow",
    "disconnected": "red",
    "switched-over": "magenta",
    "companion-remove": "blue",
    "companion-push": "blue",
}


def render_count(number: int, status: str, name: str = "") -> Text:
    return Text(f"{number} {name}".rstrip(), style=COLOURS.get(status, "bold") if number else "bright_black")


def render_latency(value: Any) -> Text:
    return text(None if value is None else f"{value} ms")


def render_word(word: str | None) -> Text:
    return text(word, COLOURS.get(word or "", ""))
