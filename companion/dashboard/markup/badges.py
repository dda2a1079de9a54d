"""Show statuses, qualities and figures: each colour comes with a word."""

from typing import Any, Final

from companion import quality
from companion.dashboard.markup import Markup, nothing, tag
from companion.dashboard.markup.icons import icon, signal
from companion.media.e_model import BAND_NAMES, mos_band

MEANINGS: Final = {
    "online": "answered a ping or registered within two ping intervals, and has lost none since",
    "losing": "lost its last pings, but not yet enough in a row to be given up",
    "unknown": "registered, but silent for two ping intervals, or its node's feed is down",
    "stale": "lost too many pings in a row, or its connection died",
    "offline": "unregistered, expired or removed",
}

BAND_COLOURS: Final = {
    "best": "--excellent",
    "high": "--good",
    "medium": "--fair",
    "low": "--poor",
    "poor": "--bad",
    "bad": "--worst",
}
BAND_MEANINGS: Final = {
    "best": "users are very satisfied (R from 90)",
    "high": "users are satisfied (R from 80)",
    "medium": "some users are dissatisfied (R from 70)",
    "low": "many users are dissatisfied (R from 60)",
    "poor": "nearly all users are dissatisfied (R from 50)",
    "bad": "not recommended (R below 50)",
}
"""ITU-T G.109 and G.107, Annex B."""


QUALITY_OF_LATENCY: Final = "how fast pings are answered: excellent, good, fair, poor or bad; [quality] has the bounds"


def needs_operate(action: str) -> str:
    """Write what a viewer needs for an action."""
    return f"Log in with a token of scope operate to {action}"


def status(word: str) -> Markup:
    return tag("span", icon(word), word, cls=f"mark {word}", title=MEANINGS.get(word))


def quality_of(word: str | None) -> Markup:
    """Show the quality of a latency as a word with a signal."""
    if not word:
        return None
    return tag(
        "span",
        signal(len(quality.LABELS) - quality.LABELS.index(word)),
        word,
        cls=f"quality {word}",
        title=QUALITY_OF_LATENCY,
    )


def mos(value: float | None, word: str | None = None) -> Markup:
    """Show a MOS with a band in a word: the band that is given, or that of the value."""
    if value is None:
        return nothing()
    return tag("span", tag("span", f"{value:.2f}", cls="figure"), " ", band(word or mos_band(value)), cls="mos")


def band(word: str) -> Markup:
    bars = signal(len(BAND_NAMES) - 1 - BAND_NAMES.index(word))
    return tag("span", bars, word, cls=f"quality band-{word}", title=f"MOS: {BAND_MEANINGS[word]}")


def ms(value: float | None) -> Markup:
    """Show a latency with its unit."""
    if value is None:
        return nothing()
    return tag("span", number(value), tag("small", " ms"), cls="figure")


def number(value: float) -> str:
    """Write a number with separators.

    >>> number(12345), number(65.3), number(65.0)
    ('12,345', '65.3', '65')
    """
    return f"{value:,.1f}".removesuffix(".0") if isinstance(value, float) else f"{value:,}"


def share(ratio: float | None) -> str:
    """Write a ratio in percent.

    >>> share(0.0123), share(0), share(None)
    ('1.2%', '0%', '–')
    """
    return "–" if ratio is None else f"{ratio:.1%}".replace(".0%", "%")


def plural(count: int, one: str, several: str = "") -> str:
    """Write a count with its noun.

    >>> plural(1, "ping"), plural(3, "ping")
    ('1 ping', '3 pings')
    """
    return f"{number(count)} {one if count == 1 else several or one + 's'}"


def tally(name: str, value: Any, cls: str = "", hint: str = "") -> Markup:
    """Show one figure of several in a row, with its name above."""
    figure = tag("dd", value if isinstance(value, list) else str(value), cls=cls)
    return tag("div", tag("dt", name, title=hint or None), figure)
