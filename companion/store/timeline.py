"""Store what happened to each device: a hash from times to short texts, at most about MAX_ENTRIES entries.

Redis keeps a small hash in one compact block, as long as no value is longer than 64 bytes. So a longer text is cut into
pieces: `1795460219685` has the first, `1795460219685-1` the next. What happened in the same millisecond is one text of
several lines.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import Any, Final
from urllib.parse import quote, unquote

from companion.store.connection import Command
from companion.store.reading import Reading, make_mapping, read
from companion.store.store import Store
from companion.times import now_ms
from companion.usrloc.changes import TimelineEntry

MAX_ENTRIES: Final = 1000
MAX_CARE_ENTRIES: Final = 200
PIECE: Final = 64
"""The longest value that Redis keeps in the compact form of a hash, by default."""
TRIMMED: Final = 500
"""Timelines that one script looks at."""

_NUMBERS: Final = frozenset(
    {"lost", "after_ms", "outage_ms", "outage_at_most_ms", "attempt", "count", "answered"}
    | {"min_ms", "average_ms", "max_ms"}
)
_PLAIN: Final = "!\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~"
"""All of ASCII that stands for itself in a value; the rest is written %XX."""
_IS_PLAIN: Final = re.compile(r"[!-$&-~]*").fullmatch

_TRIM: Final = """
local most, before = tonumber(ARGV[1]), tonumber(ARGV[2])
for _, key in ipairs(KEYS) do
  local count = redis.pcall('HLEN', key)
  if type(count) == 'number' and count > 0 and (count > most or count % 16 == 0) then
    local fields, times = redis.call('HKEYS', key), {}
    for i, field in ipairs(fields) do
      times[i] = tonumber(string.match(field, '^%d+')) or 0
    end
    local least = before
    if count > most then
      local sorted = {}
      for i, at in ipairs(times) do
        sorted[i] = at
      end
      table.sort(sorted)
      least = math.max(least, sorted[count - math.floor(most * 0.9) + 1])
    end
    for i, field in ipairs(fields) do
      if times[i] < least then
        redis.call('HDEL', key, field)
      end
    end
  end
end
"""
"""Delete what is older than ARGV[2], and the oldest entries when there are more than ARGV[1]; not at every call."""
_APPEND: Final = """
local at = tonumber(ARGV[1])
while redis.call('HEXISTS', KEYS[1], string.format('%.0f', at)) == 1 do
  at = at + 1
end
for i = 3, #ARGV do
  local field = string.format('%.0f', at)
  redis.call('HSET', KEYS[1], i == 3 and field or field .. '-' .. (i - 3), ARGV[i])
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""
"""Add a text of several pieces at the first free millisecond from ARGV[1] on: other processes append, too."""


def encode_entries(entries: Sequence[TimelineEntry]) -> list[str | int]:
    """Return fields and values of entries, oldest first. An entry that is written again has the same."""
    parts: list[str | int] = []
    for ts, together in groupby(entries, attrgetter("ts")):
        text = "\n".join([encode_entry(entry.event, entry.fields) for entry in together])
        parts += ts, text[:PIECE]
        for number, piece in enumerate(_cut(text[PIECE:]), 1):
            parts += f"{ts}-{number}", piece
    return parts


def prepare_trimming(keys: Sequence[str], before: int, most: int = MAX_ENTRIES) -> Iterator[Command]:
    """Prepare to keep timelines, all of one shard, within bounds: no entry before a time, and how many."""
    for start in range(0, len(keys), TRIMMED):
        part = keys[start : start + TRIMMED]
        yield ("EVAL", _TRIM, len(part), *part, most, before)


def prepare_care_entry(
    store: Store, device: str, event: str, fields: Mapping[str, str | int], at: int | None = None
) -> list[Command]:
    """Prepare to add an entry to what was done about a device, at a time (epoch ms), by default now."""
    key, now = store.keys.care(device), now_ms() if at is None else at
    pieces = _cut(encode_entry(event, fields))
    return [
        ("EVAL", _APPEND, 1, key, now, store.retention_ms, *pieces),
        *prepare_trimming([key], now - store.retention_ms, MAX_CARE_ENTRIES),
    ]


def append_ping_run(store: Store, device: str, fields: Mapping[str, str | int]) -> None:
    """Append a run of pings that somebody asked for: node, count, answered, lost, min_ms, average_ms, max_ms."""
    store.connection.pipeline(prepare_care_entry(store, device, "pinged", fields))


def load_timeline(store: Store, device: str, since: int, until: int) -> list[dict[str, Any]]:
    """Return what happened to a device and what remediation did, from `since` to `until`, oldest first.

    `at` is epoch ms.
    """
    return read(store.connection, prepare_timeline(store, device, since, until))


def prepare_timeline(store: Store, device: str, since: int, until: int) -> Reading[list[dict[str, Any]]]:
    """Prepare to read a timeline as `load_timeline` does."""

    def make(hashes: Sequence[Any]) -> list[dict[str, Any]]:
        entries = (
            {"at": at, **decode_entry(line)}
            for pieces in hashes
            for at, text in _join(make_mapping(pieces))
            if since <= at <= until
            for line in text.split("\n")
        )
        return sorted(entries, key=itemgetter("at"))

    return Reading([("HGETALL", key(device)) for key in (store.keys.timeline, store.keys.care)], make)


def encode_entry(event: str, fields: Mapping[str, str | int]) -> str:
    """Return an entry as text: the event, the id of its contact, and `name=value` of its other fields."""
    contact = str(fields.get("contact", ""))
    bare = "contact" if contact and "=" not in contact else None
    words = [event, _quote(contact)] if bare else [event]
    words += [f"{name}={_quote(value)}" for name, value in fields.items() if name != bare]
    return " ".join(words)


def decode_entry(text: str) -> dict[str, Any]:
    """Read what `encode_entry` wrote."""
    event, *words = text.split(" ")
    entry: dict[str, Any] = {"event": event}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            name, value = "contact", word
        entry[name] = int(value) if name in _NUMBERS else unquote(value)
    return entry


def _quote(value: str | int) -> str:
    text = str(value)
    return text if _IS_PLAIN(text) else quote(text, safe=_PLAIN)


def _cut(text: str) -> Iterable[str]:
    return (text[start : start + PIECE] for start in range(0, len(text), PIECE))


def _join(pieces: Mapping[str, str]) -> Iterator[tuple[int, str]]:
    """Return the texts with their times (epoch ms), the earliest first."""
    numbered = sorted((*_read_field(field), piece) for field, piece in pieces.items())
    for at, together in groupby(numbered, itemgetter(0)):
        yield at, "".join(piece for _, _, piece in together)


def _read_field(field: str) -> tuple[int, int]:
    at, _, number = field.partition("-")
    return int(at), int(number or 0)
