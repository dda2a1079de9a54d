"""Show fields to type or choose in."""

from collections.abc import Iterable

from companion.dashboard.markup import Markup, tag
from companion.dashboard.markup.icons import icon


def text(name: str, value: str, hint: str, label: str) -> Markup:
    """Show a text field that is left out on a phone."""
    return tag("div", _input(name, value, hint, label), cls="field spare")


def search(name: str, value: str, hint: str) -> Markup:
    """Show the first field of a page, which the key / focuses."""
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
    """Show a choice of options, each a value and its label."""
    choices = (tag("option", words, value=choice, selected=choice == value) for choice, words in options)
    field = tag("select", *choices, key=name, name=name, act=name, value=value, aria_label=label)
    return tag("div", field, icon("fold"), cls="field")
