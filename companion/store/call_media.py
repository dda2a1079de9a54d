"""Read the media of a call: a stream with an entry a report, whose id is the number of the next item."""

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from companion.media import totals
from companion.media.packing import unpack
from companion.media.report import Happening, Item, MediaSample
from companion.store.calls import CallRecord
from companion.store.store import Store

MAX_ITEMS: Final = 100_000
"""Items of one call that are read at once: more than a day of seconds."""
PAGE: Final = 500
"""Entries that are read at once: a call of a day has 17,280."""


class CallMedia(NamedTuple):
    """Hold the items of one call by their numbers, each once."""

    samples: tuple[MediaSample, ...]
    happenings: tuple[Happening, ...]


def load_media(store: Store, call: CallRecord, limit: int = MAX_ITEMS) -> CallMedia:
    """Return the media of a call: of a very long one the last `limit` items and what came with them."""
    items: list[Item] = []
    for packed in _load_entries(store, store.keys.media(call.device, call.ref)):
        entry = unpack(packed)
        items += entry.s
        items += entry.h
        if len(items) >= limit:
            break
    return sort_out(totals.sort_items(items))


def sort_out(items: Iterable[Item]) -> CallMedia:
    """Separate samples and happenings, each in their order."""
    every = list(items)
    samples = tuple(item for item in every if isinstance(item, MediaSample))
    return CallMedia(samples, tuple(item for item in every if isinstance(item, Happening)))


def _load_entries(store: Store, key: str) -> Iterator[bytes]:
    """Return the packed entries, newest first, page by page."""
    start = "+"
    while start:
        entries = store.connection.call_for_bytes("XREVRANGE", key, start, "-", "COUNT", PAGE)
        yield from (fields[b"items"] for _, fields in entries)
        start = f"({entries[-1][0].decode()}" if len(entries) == PAGE else ""
