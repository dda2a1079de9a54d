"""What is looked for, in a page's address and back. No I/O.

Addresses come from anywhere: what is no status, sort or number in them is left out, never an error.
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
    "fields",
    "first_page",
    "is_filtered",
    "page_at",
    "quoted",
    "read",
    "sorted_by",
    "toggled",
]

DEFAULT_WINDOW: Final = "24h"
MAX_TEXT: Final = 200
MAX_QUERY: Final = 4000
_TEXTS: Final = ("search", "user_agent", "node", "aor", "cursor")
_CHOICES: Final = {"status": STATUSES, "quality": quality.LABELS}
_PUSH: Final = {"yes": True, "no": False}
_USUAL: Final = Query()


def read(text: str) -> Query:
    """The query in the part of an address behind its ?."""
    said = fields(text)
    found: dict[str, Any] = {name: said[name][0][:MAX_TEXT] for name in _TEXTS if name in said}
    for name, words in _CHOICES.items():
        found[name] = tuple(word for word in words if word in said.get(name, ()))
    sort = said.get("sort", [""])[0]
    if sort in SORTS:
        found["sort"] = sort
    found["descending"] = said.get("descending") == ["yes"]
    found["push"] = _PUSH.get(said.get("push", [""])[0])
    return Query(**found)


def address(query: Query) -> str:
    """The page of a query; what is as always is not said."""
    said: list[tuple[str, str]] = [(name, word) for name in _CHOICES for word in getattr(query, name)]
    said += [(name, value) for name in _TEXTS if (value := getattr(query, name))]
    if query.push is not None:
        said.append(("push", "yes" if query.push else "no"))
    if query.sort != _USUAL.sort:
        said.append(("sort", query.sort))
    if query.descending:
        said.append(("descending", "yes"))
    return f"/devices?{urlencode(said)}" if said else "/devices"


def is_filtered(query: Query) -> bool:
    return replace(query, sort=_USUAL.sort, descending=False, cursor="", limit=_USUAL.limit) != _USUAL


def toggled(query: Query, name: str, word: str) -> Query:
    """With one status or quality more, or less; from the first page on."""
    chosen = getattr(query, name)
    words = tuple(each for each in _CHOICES[name] if (each in chosen) != (each == word))
    changes: dict[str, Any] = {name: words}
    return replace(query, cursor="", **changes)


def changed(query: Query, name: str, value: str) -> Query | None:
    """With another text or choice; None for what is none."""
    if name == "push":
        return replace(query, cursor="", push=_PUSH.get(value))
    if name not in ("search", "user_agent", "node"):
        return None
    changes: dict[str, Any] = {name: value[:MAX_TEXT]}
    return replace(query, cursor="", **changes)


def sorted_by(query: Query, sort: Any, *, descending: bool) -> Query:
    return replace(query, cursor="", sort=sort, descending=descending)


def page_at(query: Query, cursor: str) -> Query:
    return replace(query, cursor=cursor)


def first_page(query: Query) -> Query:
    return replace(query, cursor="")


def window(text: str) -> str:
    """The name of the window in an address' query."""
    name = fields(text).get("window", [DEFAULT_WINDOW])[0]
    return name if name in WINDOWS_MS else DEFAULT_WINDOW


def fields(text: str) -> dict[str, list[str]]:
    """What the part of an address behind its ? says; nothing when it says too much."""
    try:
        return parse_qs(text[:MAX_QUERY], max_num_fields=100)
    except ValueError:
        return {}


def quoted(device: str) -> str:
    """A device id as one segment of a path."""
    return quote(device, safe="")
