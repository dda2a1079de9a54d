"""Finding devices in the whole fleet: what one may ask for, what meets it, in which order, page by page."""

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, get_args

import msgspec

from companion import quality
from companion.contact import STATUSES
from companion.errors import UsageError
from companion.store.devices import row, walk
from companion.store.store import Store
from companion.view import View

Sort = Literal["status", "device", "latency", "last_latency_at", "last_register_at", "lost"]
SORTS: Final[tuple[Sort, ...]] = get_args(Sort)
WORST_FIRST: Final = ("stale", "losing", "unknown", "online", "offline")
MAX_LIMIT: Final = 500
_COLUMNS: Final[dict[str, str]] = {
    "device": "device",
    "latency": "last_latency_ms",
    "last_latency_at": "last_latency_at",
    "last_register_at": "last_register_at",
    "lost": "consecutive_lost",
}


@dataclass(frozen=True, slots=True)
class Query:
    """What one wants to see of the fleet. UsageError for what nobody can answer.

    `aor` is a prefix, `user_agent` is contained in it, `search` in the device id, AOR or User-Agent; these two whatever
    the case. Empty is no condition. `sort="status"` has the worst first; what has no latency (or time) comes last
    whichever way. `cursor` is the `next` of the page before, of a query that was the same but for `limit`.
    """

    status: tuple[str, ...] = ()
    quality: tuple[str, ...] = ()
    node: str = ""
    aor: str = ""
    user_agent: str = ""
    push: bool | None = None
    search: str = ""
    sort: str = "status"
    descending: bool = False
    cursor: str = ""
    limit: int = 50

    def __post_init__(self) -> None:
        _check_words("status", self.status, STATUSES)
        _check_words("quality", self.quality, quality.LABELS)
        _check_words("sort", (self.sort,), SORTS)
        if not 1 <= self.limit <= MAX_LIMIT:
            raise UsageError(f"limit = {self.limit} is not between 1 and {MAX_LIMIT}")


def _check_words(name: str, said: Iterable[str], known: Iterable[str]) -> None:
    for word in said:
        if word not in known:
            raise UsageError(f"{name} = {word!r} is none of: {', '.join(known)}")


class Place(NamedTuple):
    """Where a device stands in an order: those without a value last, then by value, then by id."""

    missing: bool
    value: str | int
    device: str


class Page(NamedTuple):
    """One page of devices: their ids, how many are on all pages, the cursor of the next, and of when (epoch ms)."""

    devices: list[str]
    total: int
    next: str | None
    as_of: int


def encode_cursor(sort: str, place: Place) -> str:
    return urlsafe_b64encode(msgspec.json.encode((sort, *place))).rstrip(b"=").decode()


def decode_cursor(cursor: str, sort: str) -> Place:
    """The place a cursor stands for. Raises UsageError for what is none of this sort."""
    try:
        text = urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
        named, missing, value, device = msgspec.json.decode(text, type=tuple[str, bool, str | int, str])
    except (ValueError, binascii.Error, msgspec.DecodeError):
        named = ""
    if named != sort:
        raise UsageError("the cursor is not one of this list: begin with the first page, without a cursor")
    return Place(missing, value, device)


class Fleet:
    """All devices, for all readers of this process."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def page(self, query: Query, view: View) -> Page:
        """The page of devices that a query means."""
        rows = [found for found in (row(device, view) for device in walk(self._store)) if _meets(found, query)]
        places = sorted(_place(found, query) for found in rows)
        valued = [place for place in places if not place.missing]
        ordered = (valued[::-1] if query.descending else valued) + [place for place in places if place.missing]
        start = 0
        if query.cursor:
            last = decode_cursor(query.cursor, query.sort)
            start = sum(not _is_behind(place, last, descending=query.descending) for place in ordered)
        chosen = ordered[start : start + query.limit]
        more = len(ordered) > start + query.limit
        cursor = encode_cursor(query.sort, chosen[-1]) if more else None
        return Page([place.device for place in chosen], len(ordered), cursor, view.clock.now)


def _place(found: dict[str, Any], query: Query) -> Place:
    value = WORST_FIRST.index(found["status"]) if query.sort == "status" else found[_COLUMNS[query.sort]]
    return Place(value is None, "" if value is None else value, found["device"])


def _is_behind(place: Place, last: Place, *, descending: bool) -> bool:
    if place.missing or last.missing or not descending:
        return place > last
    return place < last


def _meets(found: dict[str, Any], query: Query) -> bool:
    texts = (found["device"], found["aor"], found["user_agent"])
    return (
        (not query.status or found["status"] in query.status)
        and (not query.quality or found["quality"] in query.quality)
        and query.node in ("", found["node"])
        and found["aor"].startswith(query.aor)
        and query.user_agent.lower() in found["user_agent"].lower()
        and query.push in (None, found["push"])
        and any(query.search.lower() in text.lower() for text in texts)
    )
