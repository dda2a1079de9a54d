"""Store what happened to each device, in a Redis stream: at most MAX_ENTRIES entries `{at, event, …}`."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import Any, Final

from companion.store.connection import Command
from companion.store.store import Store
from companion.usrloc.changes import TimelineEntry

MAX_ENTRIES: Final = 1000

MAX_CARE_ENTRIES: Final = 200

_NUMBERS: Final = frozenset(
    {"lost", "after_ms", "outage_ms", "outage_at_most_ms", "attempt", "count", "answered"}
    | {"min_ms", "average_ms", "max_ms"}
)


def prepare_entries(key: str, entries: Sequence[TimelineEntry], retention_ms: int) -> list[Command]:
    """Prepare to append entries, oldest first, with their times as ids: Redis refuses one that is sent again."""
    commands: list[Command] = []
    for ts, together in groupby(entries, attrgetter("ts")):
        for number, entry in enumerate(together):
            fields = [part for pair in entry.fields.items() for part in pair]
            commands.append(("XADD", key, "MAXLEN", "~", MAX_ENTRIES, f"{ts}-{number}", "event", entry.event, *fields))
    if entries:
        commands.append(("XTRIM", key, "MINID", "~", max(0, entries[-1].ts - retention_ms)))
    return commands


def append_ping_run(store: Store, device: str, fields: Mapping[str, str | int]) -> None:
    """Append a run of pings that somebody asked for: node, count, answered, lost, min_ms, average_ms, max_ms.

    It goes into the stream of what was done about the device. In that of events it would be the last entry, and Redis
    would refuse an event that happened before it.
    """
    key = store.keys.care(device)
    flat = [part for pair in fields.items() for part in pair]
    store.connection.pipeline(
        [
            ("XADD", key, "MAXLEN", "~", MAX_CARE_ENTRIES, "*", "event", "pinged", *flat),
            ("PEXPIRE", key, store.retention_ms),
        ]
    )


def load_timeline(store: Store, device: str, since: int, until: int) -> list[dict[str, Any]]:
    """Return what happened to a device and what remediation did, from `since` to `until`, oldest first.

    `at` is epoch ms.
    """
    keys = (store.keys.timeline(device), store.keys.care(device))
    rows = [row for key in keys for row in store.connection.call("XRANGE", key, max(0, since), max(0, until))]
    entries = [{"at": int(entry.partition("-")[0]), **_decode(fields)} for entry, fields in rows]
    return sorted(entries, key=itemgetter("at"))


def _decode(fields: dict[str, str]) -> dict[str, Any]:
    return {name: int(value) if name in _NUMBERS else value for name, value in fields.items()}
