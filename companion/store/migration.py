"""Bring the data in Redis to the format of this version.

Each key is converted by itself, in one transaction that deletes the old value and writes the new one. So a migration
that was interrupted is continued by the next one: what is converted already has another type.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from typing import Any, Final, NamedTuple

from companion.errors import UsageError
from companion.store import format_1
from companion.store.connection import Command
from companion.store.consumers import load_consumers
from companion.store.contacts import encode_contact
from companion.store.devices import encode_device_record
from companion.store.format import FORMAT, check_format, load_format, save_format
from companion.store.leases import LEASE_SECONDS
from companion.store.locks import HeldLock, acquire_lock
from companion.store.store import Store
from companion.store.timeline import encode_entries
from companion.times import SECOND_MS, now_ms

PAGE: Final = 500
"""Keys that are looked at together."""
FRESH_MS: Final = 15 * SECOND_MS
"""A consumer reports every two seconds: one that has not for so long does not run."""

Progress = Callable[[int, int], None]
"""Called with how many keys were looked at, and how many there are."""


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
    with _alone(store) as renew:
        save_format(store.connection, store.keys, stored)  # until all is converted
        converted = unreadable = looked_at = 0
        for page in _iterate_keys(store):
            renew()
            values = _load_old(store, page)
            done = _convert(store, values)
            converted, unreadable, looked_at = converted + done, unreadable + len(values) - done, looked_at + len(page)
            progress(looked_at, max(looked_at, int(store.connection.call("DBSIZE"))))
        save_format(store.connection, store.keys)
    return Migrated(stored, converted, unreadable)


@contextmanager
def _alone(store: Store) -> Iterator[Callable[[], None]]:
    """Hold all that a running companion would hold: the leases of all nodes, and the lock of the sweeper."""
    keys, now = store.keys, now_ms()
    if any(abs(now - report.at) < FRESH_MS for report in load_consumers(store).values()):
        raise UsageError("a consumer runs on this Redis: stop all companions, then try again (15 s after a crash)")
    nodes = sorted(store.connection.call("SMEMBERS", keys.nodes()))
    locks: list[HeldLock] = []
    try:
        for key in (*map(keys.lease, nodes), keys.sweeper()):
            lock = acquire_lock(store, key, LEASE_SECONDS, token=f"migration/{now}")
            if lock is None:
                raise UsageError(f"a companion runs on this Redis and holds {key}: stop all companions, then try again")
            locks.append(lock)
        yield lambda: _renew(locks)
    finally:
        for lock in locks:
            lock.release()


def _renew(locks: Sequence[HeldLock]) -> None:
    renewed = [lock.renew() for lock in locks]
    if not all(renewed):
        raise UsageError("the migration lost its locks, because Redis did not answer: run it again")


def _iterate_keys(store: Store) -> Iterator[list[str]]:
    """Return all keys with a hash tag, some at a time; one may come twice."""
    pattern, cursor = re.sub(r"([*?\[\]\\^-])", r"\\\1", store.keys.prefix) + "{*", -1
    while cursor:
        cursor, keys = store.connection.call("SCAN", max(0, cursor), "MATCH", pattern, "COUNT", PAGE)
        cursor = int(cursor)
        yield keys


_OLD_TYPES: Final = {"contact": "hash", "device": "hash", "timeline": "stream", "care": "stream"}


def _load_old(store: Store, keys: Sequence[str]) -> list[_Value]:
    """Return the values of those keys that have an old type."""
    call, tagged = store.connection.pipeline, len(store.keys.prefix)
    split = [key[key.index("}", tagged) + 2 :].partition(":") for key in keys]
    ours = [(key, kind, name) for key, (kind, _, name) in zip(keys, split, strict=True) if kind in _OLD_TYPES]
    types = call(("TYPE", key) for key, _, _ in ours)
    old = [one for one, own in zip(ours, types, strict=True) if own == _OLD_TYPES[one[1]]]
    reads = ((_read(key, kind), ("PTTL", key)) for key, kind, _ in old)
    replies = call(chain.from_iterable(reads))
    return [
        _Value(*one, content, ttl_ms)
        for one, content, ttl_ms in zip(old, replies[::2], replies[1::2], strict=True)
        if content
    ]


def _read(key: str, kind: str) -> Command:
    return ("HGETALL", key) if _OLD_TYPES[kind] == "hash" else ("XRANGE", key, "-", "+")


def _convert(store: Store, values: Sequence[_Value]) -> int:
    """Replace values; return how many. One that can not be read stays, and no reader takes notice of it."""
    commands: defaultdict[int, list[Command]] = defaultdict(list)
    converted = 0
    for value in values:
        with suppress(KeyError, ValueError, TypeError):
            replacement = list(_CONVERSIONS[value.kind](store, value))
            commands[store.keys.shard_of(value.key)] += [("DEL", value.key), *replacement]
            converted += 1
    for own in commands.values():
        store.connection.pipeline(own, one_moment=True)
    return converted


def _contact(store: Store, value: _Value) -> Iterator[Command]:
    """Write the record of a contact, and what remediation has noted about it under a key of its own."""
    fields, ttl_ms = value.content, _ttl_ms(store, value)
    care = [part for name in format_1.CARE_FIELDS if name in fields for part in (name, fields[name])]
    if "id" in fields:
        contact = format_1.decode_contact(fields)
        yield ("SET", value.key, encode_contact(contact), "PX", ttl_ms)
    if care:
        key = value.key.replace("}:contact:", "}:care-state:", 1)
        yield ("HSET", key, *care)
        yield ("PEXPIRE", key, ttl_ms)


def _device(store: Store, value: _Value) -> Iterator[Command]:
    if "id" in value.content:
        device = format_1.decode_device(value.content)
        record = encode_device_record(device.first_seen_at, device.contacts, has_instance=device.has_instance)
        yield ("SET", value.key, record, "PX", _ttl_ms(store, value))


def _entries(store: Store, value: _Value) -> Iterator[Command]:
    yield ("HSET", value.key, *encode_entries(format_1.decode_entries(value.name, value.content)))
    yield ("PEXPIRE", value.key, _ttl_ms(store, value))


def _ttl_ms(store: Store, value: _Value) -> int:
    """Return how long the new value lives: as long as the old one, which may have had no end yet."""
    return value.ttl_ms if value.ttl_ms > 0 else store.ttl_ms


_CONVERSIONS: Final[dict[str, Callable[[Store, _Value], Iterator[Command]]]] = {
    "contact": _contact,
    "device": _device,
    "timeline": _entries,
    "care": _entries,
}
