"""Write a batch of changes to Redis in two pipelines."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from operator import attrgetter
from typing import Final, NamedTuple

from companion import metrics
from companion.store.connection import Command
from companion.store.contacts import encode_answer, encode_contact, format_ref
from companion.store.devices import encode_device
from companion.store.fence import by_shard, fence, read_errors
from companion.store.series import Row
from companion.store.store import REFRESH_MS, Store
from companion.store.timeline import prepare_entries, prepare_trimming
from companion.store.witnesses import prepare_witnesses
from companion.usrloc.changes import Changes
from companion.usrloc.contact import Contact, Device

NEVER: Final = "+inf"
ANSWERS: Final = 60
"""Answers that one command writes: a script passes so many arguments fastest."""


class Prepared(NamedTuple):
    """Hold what a batch writes: samples of both kinds, state, and the devices whose keys live on, with a time."""

    latency: list[Row]
    lost: list[Row]
    state: list[Command]
    refreshed: list[tuple[Device, int]]
    sampled: set[str]
    removed: list[str]


class Batch:
    """Write changes so that a repetition changes nothing: values are absolute, entries and samples have times."""

    def __init__(self, store: Store) -> None:
        self._connection = store.connection
        self._keys = store.keys
        self._series = store.series
        self._retention_ms = store.retention_ms
        self._ttl_ms = store.ttl_ms

    def prepare(self, changes: Changes, tokens: Mapping[str, str] | None = None) -> Prepared:
        """Copy what is to be written as it is now; later changes belong to another batch.

        `tokens`: those of our leases, by node.
        """
        latency, lost = self._keys.latency, self._keys.lost
        due = [device for device, ts in changes.active.items() if _is_due(device, ts)]
        return Prepared(
            [(latency(device), ts, value) for device, ts, value in changes.answered],
            [(lost(device), ts, value) for device, ts, value in changes.lost],
            list(self._state(changes, due, tokens or {})),
            [(device, changes.active[device]) for device in due],
            {device for device, _, _ in changes.answered} if due else set(),
            list(changes.removed),
        )

    def write(self, prepared: Prepared, also: Iterable[Command] = ()) -> None:
        """Store the samples, then the state, and `also` last, so that it only stands when all the rest does.

        That takes three round trips. Sent with the state, the progress of one node would stand also when the state was
        refused because another node was lost, and its events would be left out for good.

        Samples go first, since a new series is only made after the server refused its samples. If progress went with
        them and we died in between, the next consumer would leave those samples out for good.

        Raises FencedError when another consumer took over a node. Then no state is written. Samples may be: they are
        the same, whoever writes them.
        """
        latency, lost = self._series.commands(prepared.latency), self._series.commands(prepared.lost)
        replies = self._connection.pipeline([*latency, *lost], raise_on_error=False)
        self._series.settle(self._connection, "latency", prepared.latency, replies[: len(latency)])
        self._series.settle(self._connection, "lost", prepared.lost, replies[len(latency) :])
        for commands in (prepared.state, also):
            _count_errors(read_errors(self._connection.pipeline(commands, raise_on_error=False)))
        for device, ts in prepared.refreshed:
            device.refreshed_at = ts
            device.sampled |= device.id in prepared.sampled

    def _state(self, changes: Changes, due: Iterable[Device], tokens: Mapping[str, str]) -> Iterator[Command]:
        """Put the contacts' own records, which say that events were applied, behind all that the events changed.

        A consumer that gets the same events again after we died half-way then leaves out only complete ones.
        """
        for commands in (self._surroundings(changes, due), self._contacts(changes)):
            for shard, own in by_shard(self._keys, commands).items():
                yield from fence(self._keys.writers(shard), tokens, own)
        yield from prepare_witnesses(self._keys, changes.answers, self._ttl_ms)
        yield from self._trimming(changes)

    def _surroundings(self, changes: Changes, due: Iterable[Device]) -> Iterator[Command]:
        yield from self._timelines(changes)
        yield from self._connections(changes)
        for device in changes.devices:
            yield from self._device(device)
        yield from self._refresh(changes, due)

    def _contacts(self, changes: Changes) -> Iterator[Command]:
        for contact in changes.contacts:
            yield from self._contact(contact)
        yield from self._answers(changes.answers)
        for contact in changes.dropped.values():
            yield from self._contact_removal(contact)
        for device in changes.removed.values():
            yield from self._device_removal(device)

    def _contact_removal(self, contact: Contact) -> list[Command]:
        aor, keys = contact.binding.aor, self._keys
        shard, ref = keys.shard(aor), format_ref(contact)
        return [
            ("DEL", keys.contact(aor, contact.id)),
            ("HDEL", keys.answers(shard), contact.id),
            ("ZREM", keys.expires(shard), ref),
            ("ZREM", keys.failing(shard), ref),
        ]

    def _device_removal(self, device: Device) -> Iterable[Command]:
        """Delete what is kept of a device beside contacts and calls, last of all: what a batch wrote of it goes too."""
        keys = self._keys
        names = (keys.device, keys.latency, keys.lost, keys.timeline, keys.care)
        for name in names:
            yield ("DEL", name(device.id))
        yield ("ZREM", keys.devices(keys.shard(device.aor)), device.id)
        yield ("SREM", keys.aor(device.aor), device.id)
        if device.instance:
            yield ("SREM", keys.instance(device.instance), device.id)

    def _answers(self, answered: Iterable[Contact]) -> Iterable[Command]:
        """Write the last answered ping of each contact, as many as fit in a command: it changes with every ping."""
        fields: dict[int, list[str]] = defaultdict(list)
        shard = self._keys.shard
        for contact in answered:
            fields[shard(contact.binding.aor)] += contact.id, encode_answer(contact)
        for number, parts in fields.items():
            for start in range(0, len(parts), 2 * ANSWERS):
                yield ("HSET", self._keys.answers(number), *parts[start : start + 2 * ANSWERS])

    def _contact(self, contact: Contact) -> list[Command]:
        aor, keys = contact.binding.aor, self._keys
        shard = keys.shard(aor)
        fields = [part for pair in encode_contact(contact).items() for part in pair]
        key = keys.contact(aor, contact.id)
        ref = format_ref(contact)
        expires_at = 0 if contact.ended_at else contact.expires_at or NEVER
        failing_since = 0 if contact.ended_at else contact.lost_since or contact.disconnected_at or contact.doubted_at
        commands: list[Command] = [("HDEL", keys.answers(shard), contact.id)] if contact.ended_at else []
        commands.append(_indexed(keys.expires(shard), ref, expires_at))
        commands.append(_indexed(keys.failing(shard), ref, failing_since))
        return [*commands, ("HSET", key, *fields), ("PEXPIRE", key, self._ttl_ms)]

    def _device(self, device: Device) -> list[Command]:
        fields = [part for pair in encode_device(device).items() for part in pair]
        commands: list[Command] = [
            ("HSET", self._keys.device(device.id), *fields),
            ("SADD" if _is_listed(device) else "SREM", self._keys.aor(device.aor), device.id),
        ]
        if device.instance:
            commands.append(("SADD", self._keys.instance(device.instance), device.id))
        return commands

    def _timelines(self, changes: Changes) -> Iterable[Command]:
        ordered = sorted(changes.entries, key=attrgetter("device", "ts"))
        for device, entries in groupby(ordered, attrgetter("device")):
            yield prepare_entries(self._keys.timeline(device), list(entries))

    def _trimming(self, changes: Changes) -> Iterable[Command]:
        """Keep the timelines that grew within their bounds. No fence: whoever does it, only what is old goes."""
        if changes.entries:
            before = max(entry.ts for entry in changes.entries) - self._retention_ms
            grown: dict[int, list[str]] = defaultdict(list)
            for device in {entry.device for entry in changes.entries}:
                key = self._keys.timeline(device)
                grown[self._keys.shard_of(key)].append(key)
            for keys in grown.values():
                yield from prepare_trimming(keys, before)

    def _connections(self, changes: Changes) -> Iterable[Command]:
        for contact, address in changes.disconnected:
            key = self._keys.connection(contact.binding.cluster, address)
            yield ("SREM", key, format_ref(contact))
        for contact, address in changes.connected.items():
            key = self._keys.connection(contact.binding.cluster, address)
            yield ("SADD", key, format_ref(contact))
            yield ("PEXPIRE", key, self._ttl_ms)

    def _refresh(self, changes: Changes, due: Iterable[Device]) -> Iterable[Command]:
        """Extend the life of active devices' keys: hourly, and at once of new devices and rare series."""
        for device in dict.fromkeys((*due, *changes.devices)):
            yield from self._refresh_device(device, changes.active.get(device, device.first_seen_at))
        for device_id in {device for device, _, _ in changes.lost}:
            yield ("PEXPIRE", self._keys.lost(device_id), self._ttl_ms)

    def _refresh_device(self, device: Device, ts: int) -> Iterable[Command]:
        keys, ttl = self._keys, self._ttl_ms
        yield _indexed(keys.devices(keys.shard(device.aor)), device.id, ts if _is_listed(device) else 0)
        for key in (keys.device, keys.latency, keys.lost, keys.timeline):
            yield ("PEXPIRE", key(device.id), ttl)
        yield ("PEXPIRE", keys.aor(device.aor), ttl)
        if device.instance:
            yield ("PEXPIRE", keys.instance(device.instance), ttl)
        for contact in device.contacts:
            if not contact.ended_at:
                yield ("PEXPIRE", keys.contact(device.aor, contact.id), ttl)
                if contact.connection:
                    yield ("PEXPIRE", keys.connection(contact.binding.cluster, contact.connection), ttl)


def _is_listed(device: Device) -> bool:
    """Return False for a device without instance whose only contact turned out to be of another device."""
    return bool(device.contacts or device.instance)


def _is_due(device: Device, ts: int) -> bool:
    """Return whether to set its keys' time to live: hourly, and until its first sample has made a key."""
    return ts - device.refreshed_at >= REFRESH_MS or not device.sampled


def _indexed(key: str, member: str, score: int | str) -> Command:
    return ("ZADD", key, score, member) if score else ("ZREM", key, member)


def _count_errors(errors: Iterable[str]) -> None:
    for error in errors:
        if "equal or smaller" not in error:
            metrics.REFUSED.labels("redis").inc()
