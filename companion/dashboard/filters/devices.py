"""Write the filters of the device list into a page's address, and read them back. No I/O.

Anybody can write an address: a word that is not a status, a sort or a number is ignored and never an error.
"""

from dataclasses import replace
from typing import Any, Final
from urllib.parse import parse_qs, quote, urlencode

from companion import quality
from companion.query.listing import SORTS, Query
from companion.times import WINDOWS_MS
from companion.usrloc.contact import STATUSES

__all__ = [
    "Query",
    "address",
    "changed",
    "fields",
    "first_page",
    "is_filtered",
    "page_at",
    "quoted",
    "read",
    "sorted_by",
    "toggled",
    "window",
]

DEFAULT_WINDOW: Final = "24h"
MAX_TEXT: Final = 200
MAX_QUERY: Final = 4000
_TEXTS: Final = ("search", "user_agent", "node", "aor", "cursor")
_CHOICES: Final = {"status": STATUSES, "quality": quality.LABELS}
_PUSH: Final = {"yes": True, "no": False}
_DEFAULTS: Final = Query()


def read(text: str) -> Query:
    """Read a query from the part of an address behind its ?."""
    lists = fields(text)
    values: dict[str, Any] = {name: lists[name][0][:MAX_TEXT] for name in _TEXTS if name in lists}
    for name, words in _CHOICES.items():
        values[name] = tuple(word for word in words if word in lists.get(name, ()))
    sort = lists.get("sort", [""])[0]
    if sort in SORTS:
        values["sort"] = sort
    values["descending"] = lists.get("descending") == ["yes"]
    values["push"] = _PUSH.get(lists.get("push", [""])[0])
    return Query(**values)


def address(query: Query) -> str:
    """Return the address of the page of a query, without the fields that have their default."""
    pairs: list[tuple[str, str]] = [(name, word) for name in _CHOICES for word in getattr(query, name)]
    pairs += [(name, value) for name in _TEXTS if (value := getattr(query, name))]
    if query.push is not None:
        pairs.append(("push", "yes" if query.push else "no"))
    if query.sort != _DEFAULTS.sort:
        pairs.append(("sort", query.sort))
    if query.descending:
        pairs.append(("descending", "yes"))
    return f"/devices?{urlencode(pairs)}" if pairs else "/devices"


def is_filtered(query: Query) -> bool:
    unordered = replace(query, sort=_DEFAULTS.sort, descending=False, cursor="", limit=_DEFAULTS.limit)
    return unordered != _DEFAULTS


def toggled(query: Query, name: str, word: str) -> Query:
    """Return the query with one status or quality more or less, from the first page on."""
    chosen = getattr(query, name)
    words = tuple(choice for choice in _CHOICES[name] if (choice in chosen) != (choice == word))
    changes: dict[str, Any] = {name: words}
    return replace(query, cursor="", **changes)


def changed(query: Query, name: str, value: str) -> Query:
    """Return the query with another text or choice, from the first page on; the same for any other name."""
    if name == "push":
        return replace(query, cursor="", push=_PUSH.get(value))
    if name not in ("search", "user_agent", "node"):
        return query
    changes: dict[str, Any] = {name: value[:MAX_TEXT]}
    return replace(query, cursor="", **changes)


def sorted_by(query: Query, sort: Any, *, descending: bool) -> Query:
    return replace(query, cursor="", sort=sort, descending=descending)


def page_at(query: Query, cursor: str) -> Query:
    return replace(query, cursor=cursor)


def first_page(query: Query) -> Query:
    return replace(query, cursor="")


def window(text: str) -> str:
    """Read the name of the window from the query of an address."""
    name = fields(text).get("window", [DEFAULT_WINDOW])[0]
    return name if name in WINDOWS_MS else DEFAULT_WINDOW


def fields(text: str) -> dict[str, list[str]]:
    """Read the fields in the part of an address behind its ?; none when there are too many."""
    try:
        return parse_qs(text[:MAX_QUERY], max_num_fields=100)
    except ValueError:
        return {}


def quoted(device: str) -> str:
    """Encode a device id as one segment of a path."""
    return quote(device, safe="")
