"""Store the past of the fleet: a Redis stream with an entry a minute."""

from collections.abc import Mapping

from companion.store.connection import ResponseError
from companion.store.server import read_time
from companion.store.store import Store
from companion.times import MINUTE_MS, SECOND_MS

Minute = tuple[int, Mapping[str, str]]
"""(epoch ms, fields)"""


def append_minute(store: Store, fields: Mapping[str, str | float], at: int | None = None) -> None:
    """Store the fields of a minute, by default the present one, unless it has an entry: Redis takes an id once.

    The present comes from the clock of Redis: one companion's wrong clock must not shut the others out. `at` is epoch
    ms, and later than the last entry.
    """
    call, key = store.connection.call, store.keys.history()
    now = int(read_time(store.connection)) * SECOND_MS if at is None else at
    minute = now // MINUTE_MS * MINUTE_MS
    parts = [part for pair in fields.items() for part in pair]
    try:
        call("XADD", key, "MINID", "~", max(0, minute - store.retention_ms), f"{minute}-0", *parts)
    except ResponseError as error:
        if "equal or smaller" not in str(error):
            raise
    call("PEXPIRE", key, store.retention_ms)


def load_minutes(store: Store, since: int, until: int) -> list[Minute]:
    """Return the entries from `since` to `until` (epoch ms), oldest first."""
    rows = store.connection.call("XRANGE", store.keys.history(), max(0, since), max(0, until))
    return [(int(entry.partition("-")[0]), fields) for entry, fields in rows]
