"""Bring the data in Redis to the format of this version.

Each key is converted by itself, and has its old or its new value at any moment. So a migration that was interrupted is
continued by the next one: what is converted already has another type. A large fleet has millions of keys, and each
reply takes its time: so there are as few commands as possible.
"""

from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from itertools import chain
from typing import Any, Final, NamedTuple

from companion.store import format_1
from companion.store.connection import Command, ResponseError
from companion.store.contacts import encode_contact
from companion.store.devices import encode_device_record
from companion.store.format import FORMAT, check_format, load_format, save_format
from companion.store.maintenance import Progress, alone, count_keys, iterate_tagged_keys
from companion.store.store import Store
from companion.store.timeline import encode_entries


class Migrated(NamedTuple):
    """Hold what a migration did: the numbers of keys that it converted, and of keys that it could not read."""

    stored: int
    converted: int = 0
    unreadable: int = 0


class _Value(NamedTuple):
    """Hold a key of the old format: its kind and its name behind the kind, its value, and its time to live in ms."""

    key: str
    kind: str
    name: str
    content: Any
    ttl_ms: int


def migrate(store: Store, progress: Progress) -> Migrated:
    """Convert what an earlier version stored, while no companion runs.

    Raises UsageError when one runs, StoreFormatError when the data is of a newer version.
    """
    stored = load_format(store.connection, store.keys)
    if stored is None or stored >= FORMAT:
        check_format(store.connection, store.keys)
        return Migrated(FORMAT)
    with alone(store, "migration") as renew:
        save_format(store.connection, store.keys, stored)  # until all is converted
        converted = unreadable = looked_at = 0
        for page in iterate_tagged_keys(store):
            renew()
            values = _load_old(store, page)
            done = _convert(store, values)
            converted, unreadable, looked_at = converted + done, unreadable + len(values) - done, looked_at + len(page)
            progress(looked_at, max(looked_at, count_keys(store)))
        save_format(store.connection, store.keys)
    return Migrated(stored, converted, unreadable)


_OLD_TYPES: Final = {"contact": "hash", "device": "hash", "timeline": "stream", "care": "stream"}


def _load_old(store: Store, keys: Sequence[str]) -> list[_Value]:
    """Return the values of those keys that have an old type."""
    tagged = len(store.keys.prefix)
    split = [key[key.index("}", tagged) + 2 :].partition(":") for key in keys]
    ours = [(key, kind, name) for key, (kind, _, name) in zip(keys, split, strict=True) if kind in _OLD_TYPES]
    reads = chain.from_iterable((_read(key, kind), ("PTTL", key)) for key, kind, _ in ours)
    replies = store.connection.pipeline(reads, raise_on_error=False)
    pairs = zip(ours, replies[::2], replies[1::2], strict=True)
    return [_Value(*one, content, ttl_ms) for one, content, ttl_ms in pairs if _is_old(content)]


def _read(key: str, kind: str) -> Command:
    return ("HGETALL", key) if _OLD_TYPES[kind] == "hash" else ("XRANGE", key, "-", "+")


def _is_old(content: Any) -> bool:
    """Return whether a key was there and had its old type. Raises any other error of Redis."""
    if isinstance(content, ResponseError) and not str(content).startswith("WRONGTYPE"):
        raise content
    return bool(content) and not isinstance(content, ResponseError)


def _convert(store: Store, values: Sequence[_Value]) -> int:
    """Replace values; return how many. One that can not be read stays, and no reader takes notice of it."""
    records: list[Command] = []
    timelines: defaultdict[int, list[Command]] = defaultdict(list)
    converted = 0
    for value in values:
        with suppress(KeyError, ValueError, TypeError):
            if _OLD_TYPES[value.kind] == "stream":
                timelines[store.keys.shard_of(value.key)] += _timeline(store, value)
            else:
                records += _RECORDS[value.kind](store, value)
            converted += 1
    store.connection.pipeline(records)
    for commands in timelines.values():
        store.connection.pipeline(commands, one_moment=True)
    return converted


def _contact(store: Store, value: _Value) -> list[Command]:
    """Write what remediation has noted about a contact under a key of its own, and then its record over its hash."""
    fields, ttl_ms = value.content, _ttl_ms(store, value)
    last: Command = ("DEL", value.key)
    if "id" in fields:
        last = ("SET", value.key, encode_contact(format_1.decode_contact(fields)), "PX", ttl_ms)
    care = [part for name in format_1.CARE_FIELDS if name in fields for part in (name, fields[name])]
    key = value.key.replace("}:contact:", "}:care-state:", 1)
    return [("HSET", key, *care), ("PEXPIRE", key, ttl_ms), last] if care else [last]


def _device(store: Store, value: _Value) -> list[Command]:
    if "id" not in value.content:
        return [("DEL", value.key)]
    device = format_1.decode_device(value.content)
    record = encode_device_record(device.first_seen_at, device.contacts, has_instance=device.has_instance)
    return [("SET", value.key, record, "PX", _ttl_ms(store, value))]


def _timeline(store: Store, value: _Value) -> list[Command]:
    entries = encode_entries(format_1.decode_entries(value.name, value.content))
    return [("DEL", value.key), ("HSET", value.key, *entries), ("PEXPIRE", value.key, _ttl_ms(store, value))]


def _ttl_ms(store: Store, value: _Value) -> int:
    """Return how long the new value lives: as long as the old one, which may have had no end yet."""
    return value.ttl_ms if value.ttl_ms > 0 else store.ttl_ms


_RECORDS: Final = {"contact": _contact, "device": _device}
