"""List the devices that meet a query, in its order, page by page."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from operator import attrgetter
from typing import Final, Literal, NamedTuple, get_args

from companion import quality
from companion.errors import UsageError
from companion.query.cursors import DevicePosition, decode_device_cursor, encode_device_cursor
from companion.query.row import Glance
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
KEPT_QUERIES: Final = 64
CHUNK: Final = 1000
"""Devices whose ids are searched as one text: what none of them has is looked for once."""
Condition = Callable[[Glance], bool]


@dataclass(frozen=True, slots=True)
class Query:
    """Select devices of the fleet. Raises UsageError for unknown words and limits.

    `aor` is a prefix; `user_agent` and `search` are parts, in any case, `search` of the device id, AOR or User-Agent.
    Empty is no condition. `sort="status"` has the worst first; devices without latency (or time) come last in both
    directions. `cursor` is the `next` of the page before, of a query that was the same but for `limit`. `offset` leaves
    out so many devices after that, for who does not turn page by page.
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
    offset: int = 0
    limit: int = 50

    def __post_init__(self) -> None:
        _check_words("status", self.status, STATUSES)
        _check_words("quality", self.quality, quality.LABELS)
        _check_words("sort", (self.sort,), SORTS)
        if not 1 <= self.limit <= MAX_LIMIT:
            raise UsageError(f"limit = {self.limit} is not between 1 and {MAX_LIMIT}")


def _check_words(name: str, words: Iterable[str], choices: Iterable[str]) -> None:
    for word in words:
        if word not in choices:
            raise UsageError(f"{name} = {word!r} is none of: {', '.join(choices)}")


class Page(NamedTuple):
    """Hold one page of devices: their ids, the number on all pages, the next cursor, and the time (epoch ms)."""

    devices: list[str]
    total: int
    next: str | None
    as_of: int


class Listing:
    """Search all devices as they were at one moment, for any thread. `glances` are sorted by the ids of the devices."""

    def __init__(self, at: int, glances: Sequence[Glance]) -> None:
        self.at = at
        self._glances = glances
        self._ordered: dict[Sort, Sequence[Glance]] = {"device": glances}
        self._matches: dict[Query, Matches] = {}
        self._texts: list[str] = []

    def __len__(self) -> int:
        return len(self._glances)

    def page(self, query: Query) -> Page:
        """Return the page of devices that a query selects."""
        matches = self._find(replace(query, descending=False, cursor="", offset=0, limit=1))
        start = matches.count_until(decode_device_cursor(query.cursor, query.sort), query) if query.cursor else 0
        start += query.offset
        glances, total = matches.slice(start, query), len(matches.glances)
        has_more = total > start + query.limit
        cursor = encode_device_cursor(query.sort, _position(glances[-1], query.sort)) if has_more else None
        return Page([glance.device for glance in glances], total, cursor, self.at)

    def _find(self, query: Query) -> "Matches":
        """Return the devices that meet a query, and keep them: the next pages and refreshes have the same query."""
        if query not in self._matches:
            if len(self._matches) >= KEPT_QUERIES:
                self._matches.clear()
            glances = self._search(query) if query.search else self._order(query.sort)
            for condition in self._conditions(query):
                glances = list(filter(condition, glances))
            self._matches[query] = Matches(glances, query.sort)
        return self._matches[query]

    def _order(self, sort: Sort) -> Sequence[Glance]:
        """Return all devices by this value, those without one last; of the same value by their ids."""
        if sort not in self._ordered:
            self._ordered[sort] = self._order_by_status() if sort == "status" else self._order_by_value(sort)
        return self._ordered[sort]

    def _order_by_value(self, sort: Sort) -> list[Glance]:
        """Order by numbers alone, which is many times faster than by pairs."""
        missing = [glance for glance in self._glances if _value(glance, sort)[0]]
        present = [glance for glance in self._glances if not _value(glance, sort)[0]] if missing else self._glances
        return [*sorted(present, key=attrgetter(_COLUMNS[sort])), *missing]

    def _order_by_status(self) -> list[Glance]:
        """Order by few values: to sort a million would block all threads of the process for a second."""
        groups: dict[str, list[Glance]] = {status: [] for status in WORST_FIRST}
        for glance in self._glances:
            groups[glance.status].append(glance)
        return list(chain.from_iterable(groups.values()))

    def _search(self, query: Query) -> Sequence[Glance]:
        """Return the devices with a text in their id or User-Agent, in the order of the query."""
        needle = query.search.lower()
        agents, matching = self._agents(needle), self._find_named(needle)
        if not agents and len(matching) <= CHUNK:
            return sorted(matching, key=lambda glance: _value(glance, query.sort))
        ids = {glance.device for glance in matching}
        return [glance for glance in self._order(query.sort) if glance.user_agent in agents or glance.device in ids]

    def _find_named(self, needle: str) -> list[Glance]:
        """Return the devices with a text in their id."""
        starts = range(0, len(self._glances), CHUNK)
        if not self._texts:
            chunks = (self._glances[start : start + CHUNK] for start in starts)
            self._texts = ["\n".join([glance.device for glance in chunk]).lower() for chunk in chunks]
        hits = (start for start, text in zip(starts, self._texts, strict=True) if needle in text)
        candidates = (glance for start in hits for glance in self._glances[start : start + CHUNK])
        return [glance for glance in candidates if needle in glance.device.lower()]

    def _conditions(self, query: Query) -> list[Condition]:
        agents = self._agents(query.user_agent) if query.user_agent else set()
        conditions: list[tuple[object, Condition]] = [
            (query.status, lambda glance: glance.status in query.status),
            (query.quality, lambda glance: glance.quality in query.quality),
            (query.node, lambda glance: glance.node == query.node),
            (query.aor, lambda glance: glance.aor.startswith(query.aor)),
            (query.push is not None, lambda glance: glance.push is query.push),
            (query.user_agent, lambda glance: glance.user_agent in agents),
        ]
        return [condition for is_needed, condition in conditions if is_needed]

    def _agents(self, text: str) -> set[str]:
        """Return the User-Agents that contain a text: there are few different ones in a fleet."""
        needle = text.lower()
        return {agent for agent in {glance.user_agent for glance in self._glances} if needle in agent.lower()}


class Matches:
    """Hold the devices that meet a query, in ascending order; those without a value come last in both directions."""

    def __init__(self, glances: Sequence[Glance], sort: Sort) -> None:
        self.glances = glances
        self._position = partial(_position, sort=sort)
        self._valued = bisect_left(glances, True, key=lambda glance: _value(glance, sort)[0])

    def count_until(self, last: DevicePosition, query: Query) -> int:
        """Return how many devices come before this position or at it."""
        if last.is_missing or not query.descending:
            return bisect_right(self.glances, last, key=self._position)
        return self._valued - bisect_left(self.glances, last, hi=self._valued, key=self._position)

    def slice(self, start: int, query: Query) -> list[Glance]:
        indexes = range(start, min(start + query.limit, len(self.glances)))
        if not query.descending:
            return [self.glances[index] for index in indexes]
        return [self.glances[self._valued - 1 - index if index < self._valued else index] for index in indexes]


def _position(glance: Glance, sort: Sort) -> DevicePosition:
    return DevicePosition(*_value(glance, sort), glance.device)


def _value(glance: Glance, sort: Sort) -> tuple[bool, str | int]:
    """Return whether a device is without a value, and the value."""
    if sort == "status":
        return False, WORST_FIRST.index(glance.status)
    value = getattr(glance, _COLUMNS[sort])
    return (True, "") if value is None or (sort in _TIMES and not value) else (False, value)
