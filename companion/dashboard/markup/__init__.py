"""What a page shows, as plain data: `[tag, attributes, child, …]`, text, or None for nothing. No I/O, no NiceGUI.

Text is shown as text, whatever is in it: part.js makes text nodes of it, and there is no way to write HTML.
"""

from typing import Any, Final

from companion.text import printable

Markup = str | list[Any] | None
NOTHING: Final = "–"


def tag(name: str, /, *children: Markup, **attributes: Any) -> list[Any]:
    """An element. Names of attributes as in HTML with _ for -, `cls` for class; None and False leave one out.

    `act` names what the server is told when it is used, with `value`; `go` makes a link change the page in place.

    >>> tag("a", "Fleet", href="/", aria_current="page", hidden=False)
    ['a', {'href': '/', 'aria-current': 'page'}, 'Fleet']
    """
    said = {_name(key): value for key, value in attributes.items() if value is not None and value is not False}
    return [name, said, *(child for child in children if child is not None)]


def _name(key: str) -> str:
    return "class" if key == "cls" else key.rstrip("_").replace("_", "-")


def heard(text: object, cls: str = "heard") -> Markup:
    """Text that came from the network: without control characters, its direction kept to itself; "–" for nothing."""
    if text is None or text == "":
        return nothing()
    return tag("bdi", printable(str(text)).replace("\t", " "), cls=cls)


def nothing() -> Markup:
    return tag("span", NOTHING, cls="nothing")


def card(title: str, *children: Markup, aside: Markup = None, cls: str = "", name: str = "") -> Markup:
    """A titled section of a page."""
    identity = f"{name or title.lower().replace(' ', '-')}-title"
    head = tag("header", tag("h2", title, id=identity), aside)
    return tag("section", head, *children, cls=f"card {cls}".rstrip(), aria_labelledby=identity)


def facts(*pairs: tuple[str, Markup], cls: str = "facts") -> Markup:
    """Names and values, one below the other."""
    rows = (tag("div", tag("dt", name), tag("dd", value if value is not None else nothing())) for name, value in pairs)
    return tag("dl", *rows, cls=cls)


def note(title: str, *children: Markup, cls: str = "empty") -> Markup:
    """What is said where there is nothing to show."""
    return tag("div", tag("p", title, cls="note-title"), *children, cls=f"note {cls}")
