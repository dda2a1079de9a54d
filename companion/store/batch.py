"""Write a batch of changes to Redis in a few pipelines."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, groupby
from operator import attrgetter
from typing import Any, Final, NamedTuple

from companion import metrics
from companion.store.connection import Command
from companion.store.contacts import encode_answer, encode_contact, format_ref
from companion.store.devices import encode_device
from companion.store.fence import RolledBackError, by_shard, fence, read_errors
from companion.store.fleet_changes import prepare_fleet_changes
from companion.store.format import prepare_format
from companion.store.keys import Keys
from companion.store.marks import Lead, Marks
from companion.store.series import Row
from companion.store.shards import prepare_shards
from companion.store.store import REFRESH_MS, Store
from companion.store.timeline import encode_entries, prepare_trimming
from companion.store.witnesses import prepare_witnesses
from companion.usrloc.changes import Changes
from companion.usrloc.contact import Contact, Device

NEVER: Final = "+inf"
TOGETHER: Final = 120
"""Arguments that one command writes: a script passes so many fastest."""
KEPT: Final = 1000
"""Keys whose life one script extends."""
_KEEP: Final = """
for i = 1, #KEYS do
  redis.call('PEXPIRE', KEYS[i], ARGV[1])
end
"""


class Prepared(NamedTuple):
    """Hold what a batch writes: samples of both kinds and state.

    `state` is in parts, each to be written after the one before. `lead` names the numbers of scripts, on a Cluster.
    `refreshed`: devices whose keys live on, with a time. `sampled`: devices that have a series from now on.
    """

    latency: list[Row]
    lost: list[Row]
    state: list[list[Command]]
    refreshed: list[tuple[Device, int]]
    sampled: list[Device]
    removed: list[str]
    lead: Lead | None = None

    @property
    def is_empty(self) -> bool:
        """Return whether it writes nothing but the format and the number of shards."""
        return not self.latency and not self.lost and sum(map(len, self.state)) == 2


class Batch:
    """Write changes so that a repetition changes nothing: values are absolute, entries and samples have times."""

    def __init__(self, store: Store) -> None:
        self._connection = store.connection
        self._keys = store.keys
        self._series = store.series
        self._retention_ms = store.retention_ms
        self._ttl_ms = store.ttl_ms
        self._marks = Marks(store.keys)

    def prepare(self, changes: Changes, tokens: Mapping[str, str] | None = None) -> Prepared:
        """Copy what is to be written as it is now; later changes belong to another batch.

        `tokens`: those of our leases, by node.
        """
        latency, lost = self._keys.latency, self._keys.lost
        refreshed = [(device, ts) for device, ts in changes.active.items() if ts - device.refreshed_at >= REFRESH_MS]
        sampled = _first_sampled(changes)
        return Prepared(
            [(latency(device), ts, value) for device, ts, value in changes.answered],
            [(lost(device), ts, value) for device, ts, value in changes.lost],
            [list(part) for part in self._state(changes, refreshed, sampled, tokens or {})],
            refreshed,
            sampled,
            list(changes.removed),
            min(tokens.items()) if tokens and self._connection.is_cluster else None,
        )

    def write(self, prepared: Prepared, also: Iterable[Command] = ()) -> None:
        """Store the samples, then the state, and `also` last, so that it only stands when all the rest does.

        That takes three round trips, and five on a Cluster, whose servers do not wait for each other. Sent with the
        state, the progress of one node would stand also when the state was refused because another node was lost, and
        its events would be left out for good.

        Samples go first, since a new series is only made after the server refused its samples. If progress went with
        them and we died in between, the next consumer would leave those samples out for good.

        A master that hung may wake up after its replica took over, and store samples until it learns of that. Then the
        servers tell of the new master before they take all of the batch, and it is written once more, to that one.

        Raises FencedError when another consumer took over a node. Then no state is written. Samples may be: they are
        the same, whoever writes them.
        """
        is_stored = False
        while not is_stored:
            before = self._connection.map_changes
            self._write_data(prepared)
            is_stored = self._connection.map_changes == before
        self._check(self._connection.pipeline(also, raise_on_error=False))
        for device, ts in prepared.refreshed:
            device.refreshed_at = ts
        for device in prepared.sampled:
            device.sampled = True

    def _write_data(self, prepared: Prepared) -> None:
        self._marks.begin(prepared.lead)
        self._write_samples(prepared)
        marks = self._marks.prepare(key for key, _, _ in chain(prepared.latency, prepared.lost))
        first, *others = prepared.state
        for commands in self._connection.steps([[*marks, *first], *others]):
            self._check(self._connection.pipeline(self._marks.number(commands), raise_on_error=False))

    def _write_samples(self, prepared: Prepared) -> None:
        latency, lost = self._series.commands(prepared.latency), self._series.commands(prepared.lost)
        replies = self._connection.pipeline([*latency, *lost], raise_on_error=False)
        self._series.settle(self._connection, "latency", prepared.latency, replies[: len(latency)])
        self._series.settle(self._connection, "lost", prepared.lost, replies[len(latency) :])

    def _check(self, replies: Sequence[Any]) -> None:
        try:
            _count_errors(read_errors(replies))
        except RolledBackError:
            self._marks.forget()
            raise
        self._marks.acknowledge()

    def _state(
        self,
        changes: Changes,
        refreshed: Sequence[tuple[Device, int]],
        sampled: Iterable[Device],
        tokens: Mapping[str, str],
    ) -> Iterator[Iterable[Command]]:
        """Put the contacts' own records, which say that events were applied, behind all that the events changed.

        A consumer that gets the same events again after we died half-way then leaves out only complete ones.
        """
        answers = self._encode_answers(changes.answers)
        yield chain(
            [prepare_format(self._keys), prepare_shards(self._keys)],
            self._fence(tokens, self._surroundings(changes)),
            self._keep(self._kept(changes, refreshed, sampled)),
        )
        yield self._fence(tokens, chain(self._index(changes, refreshed), self._contacts(changes, answers)))
        yield chain(
            prepare_witnesses(self._keys, changes.answers, self._ttl_ms),
            self._trimming(changes),
            self._telling(changes, list(chain.from_iterable(answers.values()))),
        )

    def _fence(self, tokens: Mapping[str, str], commands: Iterable[Command]) -> Iterator[Command]:
        for shard, own in by_shard(self._keys, commands).items():
            yield from fence(self._keys.writers(shard), tokens, own, ttl_ms=self._ttl_ms)

    def _telling(self, changes: Changes, answers: Sequence[str]) -> Iterator[Command]:
        """Tell the readers of the fleet what is written, after it is."""
        devices = {contact.device for contact in changes.contacts}
        devices.update(device.id for device in changes.devices)
        devices.update(changes.removed)
        if devices or answers:
            yield prepare_fleet_changes(self._keys, devices, answers)

    def _surroundings(self, changes: Changes) -> Iterator[Command]:
        yield from self._timelines(changes)
        yield from self._connections(changes)
        for device in changes.devices:
            yield from self._device(device)
        yield from self._indexes(changes)

    def _contacts(self, changes: Changes, answers: Mapping[int, Sequence[str]]) -> Iterator[Command]:
        keys, ttl_ms = self._keys, self._ttl_ms
        for contact in changes.contacts:
            yield ("SET", keys.contact(contact.binding.aor, contact.id), encode_contact(contact), "PX", ttl_ms)
        yield from self._answers(answers)
        yield from self._ended_answers(changes)
        for contact in changes.dropped.values():
            yield from self._contact_removal(contact)
        for device in changes.removed.values():
            yield from self._device_removal(device)

    def _contact_removal(self, contact: Contact) -> list[Command]:
        aor, keys = contact.binding.aor, self._keys
        shard, ref = keys.shard(aor), format_ref(contact)
        return [
            ("DEL", keys.contact(aor, contact.id)),
            ("DEL", keys.care_state(aor, contact.id)),
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

    def _encode_answers(self, contacts: Iterable[Contact]) -> Mapping[int, list[str]]:
        """Return the id of each contact and its last answered ping, by shard. Each ping of a batch passes here."""
        if self._keys.shards == 1:
            return {0: [part for contact in contacts for part in (contact.id, encode_answer(contact))]}
        shards: defaultdict[int, list[str]] = defaultdict(list)
        for contact in contacts:
            shards[self._keys.shard(contact.binding.aor)] += contact.id, encode_answer(contact)
        return shards

    def _answers(self, answers: Mapping[int, Sequence[str]]) -> Iterator[Command]:
        """Write the last answered pings, as many as fit in a command: they change with every ping."""
        for shard, parts in answers.items():
            for start in range(0, len(parts), TOGETHER):
                yield ("HSET", self._keys.answers(shard), *parts[start : start + TOGETHER])

    def _ended_answers(self, changes: Changes) -> Iterator[Command]:
        """Delete the last answered pings of contacts that ended."""
        entries = _Grouped(self._keys)
        for contact in changes.contacts:
            if contact.ended_at:
                entries.add("HDEL", self._keys.answers, contact.binding.aor, contact.id)
        return entries.commands()

    def _indexes(self, changes: Changes) -> Iterator[Command]:
        """Write what all contacts of a shard are found by."""
        entries, keys = _Grouped(self._keys), self._keys
        for contact in changes.contacts:
            aor, ref, is_live = contact.binding.aor, format_ref(contact), not contact.ended_at
            if is_live and (expires_at := contact.expires_at or NEVER):
                entries.add("ZADD", keys.expires, aor, expires_at, ref)
            else:
                entries.add("ZREM", keys.expires, aor, ref)
            if is_live and (since := contact.lost_since or contact.disconnected_at or contact.doubted_at):
                entries.add("ZADD", keys.failing, aor, since, ref)
            else:
                entries.add("ZREM", keys.failing, aor, ref)
        return entries.commands()

    def _device(self, device: Device) -> Iterator[Command]:
        yield ("SET", self._keys.device(device.id), encode_device(device), "PX", self._ttl_ms)
        if _is_listed(device):
            yield ("SADD+", self._keys.aor(device.aor), device.id)
        else:
            yield ("SREM", self._keys.aor(device.aor), device.id)
        if device.instance:
            yield ("SADD+", self._keys.instance(device.instance), device.id)

    def _timelines(self, changes: Changes) -> Iterable[Command]:
        ordered = sorted(changes.entries, key=attrgetter("device", "ts"))
        for device, entries in groupby(ordered, attrgetter("device")):
            yield ("HSET+", self._keys.timeline(device), *encode_entries(list(entries)))

    def _trimming(self, changes: Changes) -> Iterable[Command]:
        """Keep the timelines that grew within their bounds. No fence: whoever does it, only what is old goes.

        That of a new device is short.
        """
        new = {device.id for device in changes.devices if not device.refreshed_at}
        grown = {entry.device for entry in changes.entries} - new
        if grown:
            before = max(entry.ts for entry in changes.entries) - self._retention_ms
            for keys in self._by_shard(map(self._keys.timeline, grown)):
                yield from prepare_trimming(keys, before)

    def _connections(self, changes: Changes) -> Iterable[Command]:
        for contact, address in changes.disconnected:
            key = self._keys.connection(contact.binding.cluster, address)
            yield ("SREM", key, format_ref(contact))
        for contact, address in changes.connected.items():
            yield ("SADD+", self._keys.connection(contact.binding.cluster, address), format_ref(contact))

    def _kept(
        self, changes: Changes, refreshed: Sequence[tuple[Device, int]], sampled: Iterable[Device]
    ) -> Iterator[str]:
        """Return the keys of active devices that are to live on: hourly, and of series that may be new.

        What the batch writes of a new device lives on anyway.
        """
        keys = self._keys
        for device, ts in refreshed:
            if ts != device.first_seen_at or device not in changes.devices:
                yield from self._keys_of(changes, device)
        for device in sampled:
            yield keys.latency(device.id)
        for device_id in {device for device, _, _ in changes.lost}:
            yield keys.lost(device_id)

    def _keep(self, kept: Iterable[str]) -> Iterator[Command]:
        """Extend the life of keys. No fence: whoever does it, nothing else changes."""
        for keys in self._by_shard(kept):
            for start in range(0, len(keys), KEPT):
                part = keys[start : start + KEPT]
                yield ("EVAL", _KEEP, len(part), *part, self._ttl_ms)

    def _by_shard(self, keys: Iterable[str]) -> Iterable[Sequence[str]]:
        shards: defaultdict[int, list[str]] = defaultdict(list)
        for key in keys:
            shards[self._keys.shard_of(key)].append(key)
        return shards.values()

    def _index(self, changes: Changes, refreshed: Sequence[tuple[Device, int]]) -> Iterator[Command]:
        """List the devices of a shard by when their keys were refreshed last. Who reads a device anew relies on it."""
        entries, key = _Grouped(self._keys), self._keys.devices
        times = {device: device.refreshed_at or device.first_seen_at for device in changes.devices}
        times.update(refreshed)
        for device, ts in times.items():
            if _is_listed(device):
                entries.add("ZADD", key, device.aor, ts, device.id)
            else:
                entries.add("ZREM", key, device.aor, device.id)
        return entries.commands()

    def _keys_of(self, changes: Changes, device: Device) -> Iterator[str]:
        """Return the keys of a device, and those of its live contacts that `changes` do not write."""
        keys = self._keys
        yield keys.device(device.id)
        yield keys.timeline(device.id)
        yield keys.aor(device.aor)
        if device.instance:
            yield keys.instance(device.instance)
        yield keys.latency(device.id)
        yield keys.lost(device.id)
        for contact in device.contacts:
            if not contact.ended_at:
                if contact not in changes.contacts:
                    yield keys.contact(device.aor, contact.id)
                if contact.failing:
                    yield keys.care_state(device.aor, contact.id)
                if contact not in changes.connected and contact.connection:
                    yield keys.connection(contact.binding.cluster, contact.connection)


class _Grouped:
    """Put entries of keys that a whole shard shares into few commands."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._parts: defaultdict[tuple[str, str], list[str | int]] = defaultdict(list)

    def add(self, name: str, key: Callable[[int], str], aor: str, *parts: str | int) -> None:
        """Add the arguments of a command that `name` and `key` are of."""
        self._parts[name, key(self._keys.shard(aor))].extend(parts)

    def commands(self) -> Iterator[Command]:
        for (name, key), parts in self._parts.items():
            for start in range(0, len(parts), TOGETHER):
                yield (name, key, *parts[start : start + TOGETHER])


def _first_sampled(changes: Changes) -> list[Device]:
    """Return the devices whose series an answered ping may have made."""
    unsampled = [device for device in changes.active if not device.sampled]
    answered = {device for device, _, _ in changes.answered} if unsampled else set()
    return [device for device in unsampled if device.id in answered]


def _is_listed(device: Device) -> bool:
    """Return False for a device without instance whose only contact turned out to be of another device."""
    return bool(device.contacts or device.instance)


def _count_errors(errors: Iterable[str]) -> None:
    for error in errors:
        if "equal or smaller" not in error:
            metrics.REFUSED.labels("redis").inc()
