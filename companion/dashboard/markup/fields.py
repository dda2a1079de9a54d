"""Where one types or chooses what to look for."""

from collections.abc import Iterable

from companion.dashboard.markup import Markup, tag
from companion.dashboard.markup.icons import icon


def text(name: str, value: str, hint: str, label: str) -> Markup:
    """A field that a phone has no room for."""
    return tag("div", _input(name, value, hint, label), cls="field spare")


def search(name: str, value: str, hint: str) -> Markup:
    """The first field of a page: / leads to it, from wherever one is."""
    key = tag("kbd", "/", aria_hidden="true", title="Press / to search")
    return tag("div", icon("search"), _input(name, value, hint, "Search", hotkey="/"), key, cls="field wide")


def _input(name: str, value: str, hint: str, label: str, hotkey: str | None = None) -> Markup:
    return tag(
        "input",
        type="search",
        key=name,
        name=name,
        act=name,
        value=value,
        placeholder=hint,
        aria_label=label,
        autocomplete="off",
        spellcheck="false",
        enterkeyhint="search",
        data_hotkey=hotkey,
    )


def select(name: str, value: str, options: Iterable[tuple[str, str]], label: str) -> Markup:
    """A choice of (value, what is shown)."""
    choices = (tag("option", shown, value=each, selected=each == value) for each, shown in options)
    field = tag("select", *choices, key=name, name=name, act=name, value=value, aria_label=label)
    return tag("div", field, icon("fold"), cls="field")
