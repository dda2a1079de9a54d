"""Draw small icons, 16 by 16, in the colour of the text around them. An icon always stands beside a word."""

from typing import Final

from companion.dashboard.markup import Markup, tag

_PATHS: Final = {
    "online": "M3 8.5 6.5 12 13 4.5",
    "losing": "M8 2.2 14.5 13.5h-13zM8 6.5v3.2M8 11.6v.1",
    "unknown": "M5.6 6.2a2.5 2.5 0 1 1 3.6 2.2c-.8.4-1.2.9-1.2 1.8M8 12.6v.1",
    "stale": "M4 4l8 8M12 4l-8 8",
    "offline": "M8 2.5a5.5 5.5 0 1 0 0 11 5.5 5.5 0 0 0 0-11zM5.5 8h5",
    "search": "M7 2.5a4.5 4.5 0 1 0 0 9 4.5 4.5 0 0 0 0-9zM10.4 10.4l3.4 3.4",
    "push": "M8 2.2C5.7 2.2 4.2 3.8 4.2 6c0 3.2-1.4 4-1.4 5h10.4c0-1-1.4-1.8-1.4-5 0-2.2-1.5-3.8-3.8-3.8zM6.6 13.4h2.8",
    "ghost": "M3.5 13.5V7a4.5 4.5 0 0 1 9 0v6.5l-1.5-1.2-1.5 1.2L8 12.3l-1.5 1.2L5 12.3zM6.3 6.8v.6M9.7 6.8v.6",
    "browser": "M2 3.5h12v9H2zM2 6.3h12M4 4.9h.1M5.6 4.9h.1",
    "app": "M5 1.8h6v12.4H5zM7.4 12.2h1.2",
    "desk phone": "M2 6.5C2 4 4.5 3 8 3s6 1 6 3.5v1h-3.2L10.5 6h-5l-.3 1.5H2zM4 9.5h8l1.5 4h-11z",
    "device": "M8 2.5a5.5 5.5 0 1 0 0 11 5.5 5.5 0 0 0 0-11zM8 7v3.8M8 5.1v.1",
    "pause": "M5.5 3.5v9M10.5 3.5v9",
    "resume": "M5 3.2 12.5 8 5 12.8z",
    "download": "M8 2.5v7.5M4.8 7 8 10.2 11.2 7M3 13.3h10",
    "switch": "M2.5 5.5h10M9.8 2.8l2.7 2.7-2.7 2.7M13.5 10.5h-10M6.2 7.8l-2.7 2.7 2.7 2.7",
    "up": "M8 13V3.5M4 7.2 8 3.2l4 4",
    "down": "M8 3v9.5M4 8.8l4 4 4-4",
    "fold": "M4 6l4 4 4-4",
    "next": "M6 3l5 5-5 5",
    "back": "M10 3 5 8l5 5",
    "feed": "M3 13h.1M3 8.5A4.5 4.5 0 0 1 7.5 13M3 4a9 9 0 0 1 9 9",
    "theme": "M8 2.5a5.5 5.5 0 1 0 0 11zM8 2.5a5.5 5.5 0 0 1 0 11",
    "close": "M4 4l8 8M12 4l-8 8",
    "in": "M12.5 3.5 4 12M4 5.5V12h6.5",
    "out": "M3.5 12.5 12 4M5.5 4H12v6.5",
    "muted": "M6 3.5a2 2 0 0 1 4 0v4M6 6.5v1.2a2 2 0 0 0 2.6 1.9M3.8 7.5a4.2 4.2 0 0 0 6.6 3.4M8 12v2M2.5 2.5l11 11",
    "unmuted": "M8 1.8a2 2 0 0 0-2 2v3.9a2 2 0 0 0 4 0V3.8a2 2 0 0 0-2-2zM3.8 7.5a4.2 4.2 0 0 0 8.4 0M8 12v2",
    "hidden": "M1.8 8S4 3.8 8 3.8 14.2 8 14.2 8 12 12.2 8 12.2 1.8 8 1.8 8zM2.5 13.5l11-11",
    "relay": "M2.5 8h3M10.5 8h3M8 5.5a2.5 2.5 0 1 0 0 5 2.5 2.5 0 0 0 0-5z",
}
_BARS: Final = ((2, 11, 3), (5, 9, 5), (8, 7, 7), (11, 5, 9), (14, 3, 11))
"""x, y and height of the five bars of a signal."""


def icon(name: str) -> Markup:
    """Draw an icon that screen readers skip: the word beside it says the same."""
    return _svg(tag("path", d=_PATHS[name]), cls=f"icon icon-{name.replace(' ', '-')}")


def signal(bars: int) -> Markup:
    """Draw five bars, some of them full."""
    rows = [
        tag("path", d=f"M{x - 0.5} {y}v{height}", cls="bar" if n < bars else "bar faint")
        for n, (x, y, height) in enumerate(_BARS)
    ]
    return _svg(*rows, cls="icon signal")


def _svg(*paths: Markup, cls: str) -> Markup:
    return tag("svg", *paths, viewBox="0 0 16 16", cls=cls, aria_hidden="true", focusable="false")
