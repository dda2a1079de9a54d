"""Build markup as plain data: `[tag, attributes, child, …]`, text, or None for nothing. No I/O, no NiceGUI.

Functions here are named after the markup that they return. Text stays text, whatever it contains: part.js makes text
nodes of it, and there is no way to write HTML.
"""

from collections.abc import Iterable
from typing import Any, Final

from companion.text import printable

Markup = str | list[Any] | None
NOTHING: Final = "–"


def tag(name: str, /, *children: Markup, **attributes: Any) -> list[Any]:
    """Return an element. Attributes are named as in HTML with _ for -, `cls` for class; None and False leave one out.

    `act` names what the server is told when the element is used, with `value`; `go` makes a link change the page in
    place.

    >>> tag("a", "Fleet", href="/", aria_current="page", hidden=False)
    ['a', {'href': '/', 'aria-current': 'page'}, 'Fleet']
    """
    attrs = {_name(key): value for key, value in attributes.items() if value is not None and value is not False}
    return [name, attrs, *(child for child in children if child is not None)]


def _name(key: str) -> str:
    return "class" if key == "cls" else key.rstrip("_").replace("_", "-")


def network_text(text: object, cls: str = "heard") -> Markup:
    """Show text from the network, without control characters and with its direction isolated; "–" for nothing."""
    if text is None or text == "":
        return nothing()
    return tag("bdi", printable(str(text)).replace("\t", " "), cls=cls)


def joined(parts: Iterable[Markup], separator: str) -> list[Markup]:
    """Return the parts with a separator between any two."""
    return [piece for part in parts for piece in (separator, part)][1:]


def nothing() -> Markup:
    return tag("span", NOTHING, cls="nothing")


def card(title: str, *children: Markup, aside: Markup = None, cls: str = "", name: str = "") -> Markup:
    """Return a titled section of a page."""
    identity = f"{name or title.lower().replace(' ', '-')}-title"
    head = tag("header", tag("h2", title, id=identity), aside)
    return tag("section", head, *children, cls=f"card {cls}".rstrip(), aria_labelledby=identity)


def facts(*pairs: tuple[str, Markup], cls: str = "facts") -> Markup:
    """Return names and values, one below the other."""
    rows = (tag("div", tag("dt", name), tag("dd", value if value is not None else nothing())) for name, value in pairs)
    return tag("dl", *rows, cls=cls)


def note(title: str, *children: Markup, cls: str = "empty") -> Markup:
    """Return what stands in place of content that is missing."""
    return tag("div", tag("p", title, cls="note-title"), *children, cls=f"note {cls}")
