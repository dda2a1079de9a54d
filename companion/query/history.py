"""Record the fleet's summary each minute, and read its past."""

from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Final, TypeVar

from companion.query.fleet import PERCENTILES
from companion.store.history import append_minute, load_minutes
from companion.store.store import Store
from companion.text import Json
from companion.times import MINUTE_MS, iso
from companion.usrloc.contact import STATUSES

MAX_POINTS: Final = 500
N = TypeVar("N", int, float)
_LATENCIES: Final = tuple(f"p{p}_ms" for p in PERCENTILES)


def record_summary(store: Store, summary: Json, at: int | None = None) -> None:
    """Add a summary to the history, unless its minute has one: the present one, or that of `at` (epoch ms)."""
    counts = {status: summary["devices"][status] for status in STATUSES}
    numbers = {**counts, **summary["latency"], "loss_ratio": summary["loss_ratio"]}
    append_minute(store, {name: "" if number is None else number for name, number in numbers.items()}, at)


def load_points(store: Store, since: int, until: int) -> list[Json]:
    """Return points from `since` to `until` (epoch ms), at most MAX_POINTS, oldest first.

    A point of several minutes has the average of their counts, and their highest percentiles and loss. As long as
    few minutes are known, each is a point of its own, however long the window is.
    """
    minutes = load_minutes(store, since, until)
    known_ms = until - minutes[0][0] if minutes else 0
    width = -(-known_ms // MAX_POINTS // MINUTE_MS) * MINUTE_MS or MINUTE_MS
    first = -(-since // width) * width
    return [
        {"at": iso(start), **_point([fields for _, fields in group])}
        for start, group in groupby(minutes, lambda minute: minute[0] // width * width)
        if start >= first
    ]


def _point(entries: list[Mapping[str, str]]) -> Json:
    counts: Json = {status: round(sum(int(entry[status]) for entry in entries) / len(entries)) for status in STATUSES}
    highest = {name: _highest(int(entry[name]) for entry in entries if entry[name]) for name in _LATENCIES}
    loss = _highest(float(entry["loss_ratio"]) for entry in entries if entry["loss_ratio"])
    return {**counts, **highest, "loss_ratio": loss}


def _highest(values: Iterable[N]) -> N | None:
    return max(values, default=None)
