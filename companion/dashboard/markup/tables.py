"""Show tables; on a phone each row is a card."""

from collections.abc import Iterable, Sequence
from typing import Any

from companion.dashboard.markup import Markup, tag

Column = tuple[Markup, str]
"""What stands above a column, and its classes: `fit` is as wide as what is in it, `num` is set to the right."""


def table(columns: Sequence[Column], rows: Iterable[Markup], cls: str = "") -> Markup:
    names = (name if isinstance(name, list) and name[0] == "th" else heading(name, cls) for name, cls in columns)
    return tag("table", tag("thead", tag("tr", *names)), tag("tbody", *rows), cls=f"rows fold {cls}".rstrip())


def heading(name: Markup, cls: str = "", **attributes: Any) -> Markup:
    return tag("th", name, scope="col", cls=cls or None, **attributes)


def cell(value: Markup, cls: str = "", label: str = "", **attributes: Any) -> Markup:
    """Return a cell; `label` stands before its value where a row is a card."""
    return tag("td", value, cls=cls or None, data_label=label or None, **attributes)


def fault(count: int, label: str = "") -> Markup:
    """Show a count that should be 0."""
    return tag("span", label or f"{count:,}", cls="alarm" if count else "zero")
