"""What happened to a device, in a Redis stream a device: `{at, event, …}`, seven days and at most MAX_ENTRIES of it."""

from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any, Final

from companion.store.connection import Command, Connection
from companion.usrloc.changes import Entry

MAX_ENTRIES: Final = 1000

_NUMBERS: Final = frozenset({"lost", "after_ms", "outage_ms", "outage_at_most_ms", "attempt"})


def commands(key: str, entries: Sequence[Entry], retention_ms: int) -> list[Command]:
    """Append entries, oldest first, their times as ids: one that is sent again is refused instead of doubled."""
    rows: list[Command] = []
    for ts, together in groupby(entries, attrgetter("ts")):
        for number, entry in enumerate(together):
            fields = [part for pair in entry.fields.items() for part in pair]
            rows.append(("XADD", key, "MAXLEN", "~", MAX_ENTRIES, f"{ts}-{number}", "event", entry.event, *fields))
    if entries:
        rows.append(("XTRIM", key, "MINID", "~", max(0, entries[-1].ts - retention_ms)))
    return rows


def read(connection: Connection, key: str, since: int, until: int) -> list[dict[str, Any]]:
    """Entries from `since` to `until`, oldest first; `at` is epoch ms."""
    rows = connection.call("XRANGE", key, max(0, since), max(0, until))
    return [{"at": int(entry.partition("-")[0]), **_decode(fields)} for entry, fields in rows]


def _decode(fields: dict[str, str]) -> dict[str, Any]:
    return {name: int(value) if name in _NUMBERS else value for name, value in fields.items()}
