"""The fleet's past: an entry a minute, in a Redis stream."""

from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Final, TypeVar

from companion.query.summary import PERCENTILES
from companion.store.connection import ResponseError
from companion.store.store import Store
from companion.times import Json, iso
from companion.usrloc.contact import STATUSES

MAX_POINTS: Final = 500
MINUTE_MS: Final = 60_000
N = TypeVar("N", int, float)
_LATENCIES: Final = tuple(f"p{p}_ms" for p in PERCENTILES)


def note(store: Store, summary: Json) -> None:
    """Write a summary down, unless this minute has one: its time is its id, which Redis takes once.

    The minute is Redis' own, lest one companion's wrong clock keep all the others out.
    """
    call, key = store.connection.call, store.keys.history()
    minute = int(call("TIME")[0]) // 60 * MINUTE_MS
    fields = {**{status: summary["devices"][status] for status in STATUSES}, **summary["latency"]}
    fields["loss_ratio"] = summary["loss_ratio"]
    told = [part for name, value in fields.items() for part in (name, "" if value is None else value)]
    try:
        call("XADD", key, "MINID", "~", max(0, minute - store.retention_ms), f"{minute}-0", *told)
    except ResponseError as error:
        if "equal or smaller" not in str(error):
            raise
    call("PEXPIRE", key, store.retention_ms)


def read(store: Store, since: int, until: int) -> list[Json]:
    """Points from `since` to `until` (epoch ms), at most MAX_POINTS, oldest first.

    Where a point stands for some minutes its counts are their average, and percentiles and loss the highest of them.
    """
    width = -(-(until - since) // MAX_POINTS // MINUTE_MS) * MINUTE_MS or MINUTE_MS
    first = -(-since // width) * width
    rows = store.connection.call("XRANGE", store.keys.history(), max(0, first), max(0, until))
    entries = ((int(entry.partition("-")[0]), fields) for entry, fields in rows)
    return [
        {"at": iso(start), **_point([fields for _, fields in group])}
        for start, group in groupby(entries, lambda entry: entry[0] // width * width)
    ]


def _point(entries: list[Mapping[str, str]]) -> Json:
    counts: Json = {status: round(sum(int(entry[status]) for entry in entries) / len(entries)) for status in STATUSES}
    highest = {name: _highest(int(entry[name]) for entry in entries if entry[name]) for name in _LATENCIES}
    loss = _highest(float(entry["loss_ratio"]) for entry in entries if entry["loss_ratio"])
    return {**counts, **highest, "loss_ratio": loss}


def _highest(values: Iterable[N]) -> N | None:
    return max(values, default=None)
