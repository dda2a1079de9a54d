"""Finding devices in the whole fleet: what one may ask for, what meets it, in which order, page by page."""

import binascii
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from operator import attrgetter
from threading import Lock
from typing import Final, Literal, NamedTuple, get_args

import msgspec

from companion import quality
from companion.errors import UsageError
from companion.query.census import load_glances, take_census
from companion.query.now import View
from companion.query.row import Glance
from companion.store.census import load_census_header
from companion.store.devices import count_devices
from companion.store.store import Store
from companion.usrloc.contact import STATUSES

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
_TIMES: Final = ("last_latency_at", "last_register_at")
SMALL: Final = 1000
"""So many devices are gone over in no time a person notices."""
LOOK_SECONDS: Final = 1.0
OWN_MS: Final = 60_000
KEPT_QUERIES: Final = 64
Condition = Callable[[Glance], bool]


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
    sort: Sort = "status"
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


class Listing:
    """All devices as they were at one moment, to look for some among them. Any thread may ask."""

    def __init__(self, at: int, glances: Iterable[Glance]) -> None:
        self.at = at
        self._glances = sorted(glances, key=attrgetter("device"))
        self._ordered: dict[Sort, list[Glance]] = {"device": self._glances}
        self._found: dict[Query, Found] = {}
        self._texts: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._glances)

    def page(self, query: Query) -> Page:
        """The page of devices that a query means."""
        found = self._find(replace(query, descending=False, cursor="", limit=1))
        start = found.behind(decode_cursor(query.cursor, query.sort), query) if query.cursor else 0
        chosen = found.slice(start, query)
        more = len(found.glances) > start + query.limit
        cursor = encode_cursor(query.sort, _place(chosen[-1], query.sort)) if more else None
        return Page([glance.device for glance in chosen], len(found.glances), cursor, self.at)

    def _find(self, query: Query) -> "Found":
        """What meets a query, kept: who turns pages and who looks again ask the same."""
        if query not in self._found:
            if len(self._found) >= KEPT_QUERIES:
                self._found.clear()
            glances = self._order(query.sort)
            for condition in self._conditions(query):
                glances = list(filter(condition, glances))
            self._found[query] = Found(glances, query.sort)
        return self._found[query]

    def _order(self, sort: Sort) -> list[Glance]:
        """All devices by this value, those without one last; of the same value by their ids, as they are sorted so."""
        if sort not in self._ordered:
            self._ordered[sort] = sorted(self._glances, key=lambda glance: _value(glance, sort))
        return self._ordered[sort]

    def _conditions(self, query: Query) -> list[Condition]:
        needle, agents = query.search.lower(), self._agents(query.user_agent.lower())
        texts = self._lower() if needle else {}
        conditions: list[tuple[object, Condition]] = [
            (query.status, lambda glance: glance.status in query.status),
            (query.quality, lambda glance: glance.quality in query.quality),
            (query.node, lambda glance: glance.node == query.node),
            (query.aor, lambda glance: glance.aor.startswith(query.aor)),
            (query.push is not None, lambda glance: glance.push is query.push),
            (query.user_agent, lambda glance: glance.user_agent in agents),
            (needle, lambda glance: needle in texts[glance.device]),
        ]
        return [condition for asked, condition in conditions if asked]

    def _agents(self, needle: str) -> set[str]:
        """The User-Agents that contain it: there are few different ones in a fleet."""
        return {agent for agent in {glance.user_agent for glance in self._glances} if needle in agent.lower()}

    def _lower(self) -> dict[str, str]:
        """What of each device is searched."""
        if not self._texts:
            self._texts = {glance.device: f"{glance.device}\n{glance.user_agent}".lower() for glance in self._glances}
        return self._texts


class Found:
    """The devices that meet a query, in ascending order; those without a value come last whichever way one looks."""

    def __init__(self, glances: Sequence[Glance], sort: Sort) -> None:
        self.glances = glances
        self._place = partial(_place, sort=sort)
        self._valued = bisect_left(glances, True, key=lambda glance: _value(glance, sort)[0])

    def behind(self, last: Place, query: Query) -> int:
        """How many devices come up to this place and at it."""
        if last.missing or not query.descending:
            return bisect_right(self.glances, last, key=self._place)
        return self._valued - bisect_left(self.glances, last, hi=self._valued, key=self._place)

    def slice(self, start: int, query: Query) -> list[Glance]:
        places = range(start, min(start + query.limit, len(self.glances)))
        if not query.descending:
            return [self.glances[place] for place in places]
        return [self.glances[self._valued - 1 - place if place < self._valued else place] for place in places]


def _place(glance: Glance, sort: Sort) -> Place:
    return Place(*_value(glance, sort), glance.device)


def _value(glance: Glance, sort: Sort) -> tuple[bool, str | int]:
    """Whether a device is without a value, and the value."""
    if sort == "status":
        return False, WORST_FIRST.index(glance.status)
    value = getattr(glance, _COLUMNS[sort])
    return (True, "") if value is None or (sort in _TIMES and not value) else (False, value)


class Fleet:
    """All devices, for all readers of this process. Any thread may ask.

    A small fleet is gone over whenever somebody asks. Of a large one the census that the scheduler takes is read, in a
    thread of its own, and who asks meanwhile gets the one before.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = Lock()
        self._thread = ThreadPoolExecutor(1, "fleet")
        self._taking: Future[Listing] | None = None
        self._held: Listing | None = None
        self._looked_at = 0.0

    def page(self, query: Query, view: View) -> Page:
        """The page of devices that a query means."""
        with self._lock:
            if self._taking is None or (self._taking.done() and self._is_due()):
                self._looked_at = time.monotonic()
                self._taking = self._thread.submit(self._take, view)
            taking, held = self._taking, self._held
        wanted = held if held is not None and len(held) > SMALL else taking.result()
        return wanted.page(query)

    def _is_due(self) -> bool:
        return self._held is None or len(self._held) <= SMALL or time.monotonic() - self._looked_at >= LOOK_SECONDS

    def _take(self, view: View) -> Listing:
        self._held = self._small(view) or self._shared() or self._own(view)
        return self._held

    def _small(self, view: View) -> Listing | None:
        return self._count(view) if count_devices(self._store) <= SMALL else None

    def _shared(self) -> Listing | None:
        """The census that a scheduler shares; None where there is none, or it vanished while it was read."""
        header = load_census_header(self._store)
        if header is None or (self._held and self._held.at == header.at):
            return self._held if header else None
        try:
            listing = Listing(header.at, chain.from_iterable(load_glances(self._store, header)))
        except LookupError:
            return self._held
        listing.page(Query())  # what is asked for most is ready before somebody asks
        return listing

    def _own(self, view: View) -> Listing:
        """Where no scheduler is at work we go over the fleet ourselves, now and then."""
        if self._held and view.clock.now - self._held.at < OWN_MS:
            return self._held
        return self._count(view)

    def _count(self, view: View) -> Listing:
        return Listing(view.clock.now, take_census(self._store, view).glances)
