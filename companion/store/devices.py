"""Read devices and their index."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Final, TypeVar

import msgspec

from companion.store.connection import Command
from companion.store.contacts import (
    ContactRef,
    aor_of,
    load_brief_contacts,
    load_contacts,
    load_device_ids,
    parse_ref,
    prepare_contacts,
)
from companion.store.fleet_changes import prepare_fleet_changes
from companion.store.reading import Reading, check, read
from companion.store.records import decode_record, prepare_records
from companion.store.store import REFRESH_MS, Store
from companion.usrloc.brief import BriefDevice
from companion.usrloc.contact import Binding, Contact, Device, contact_id

PAGE: Final = 500
"""Devices that are read at once."""
MAX_CONNECTED: Final = 100
"""Contacts of one connection that are looked at when it ends."""
MAX_DEVICES: Final = 10_000
"""Devices of one AOR or instance that are read at once: as many as an AOR may have."""
_MEMBERS: Final = """
local members = {}
for i = 1, #KEYS do
  members[i] = redis.call('SRANDMEMBER', KEYS[i], ARGV[1])
end
return members
"""
"""Return the members of each set, at most ARGV[1] of it."""
T = TypeVar("T")


class _DeviceRecord(msgspec.Struct, omit_defaults=True, gc=False):
    """Hold what is stored of a device beside its id, which begins with the AOR and may end with the SIP instance."""

    first_seen_at: int
    contacts: tuple[str, ...] = ()
    has_instance: bool = False


_record: Final = msgspec.json.Decoder(_DeviceRecord)


def encode_device(device: Device) -> bytes:
    """Return the record of a device."""
    return encode_device_record(
        device.first_seen_at, [contact.id for contact in device.contacts], has_instance=bool(device.instance)
    )


def encode_device_record(first_seen_at: int, contacts: Sequence[str], *, has_instance: bool) -> bytes:
    """Return the record of a device whose contacts have these ids, oldest first."""
    return msgspec.json.encode(_DeviceRecord(first_seen_at, tuple(contacts), has_instance))


def _make_device(device: str, record: _DeviceRecord, contacts: Mapping[str, Contact]) -> Device:
    aor, _, instance = device.rpartition("/")
    instance = instance if record.has_instance else ""
    return Device(device, aor, instance, record.first_seen_at, _select(record, contacts))


def load_device(store: Store, device: str) -> Device | None:
    """Return a device with all its contacts, None when the store has none with this id."""
    return next(iter(load_devices(store, [device])), None)


def load_device_beside(store: Store, device: str, other: Reading[T]) -> tuple[Device | None, T]:
    """Return a device as `load_device` does, and what else is read of it, in two round trips."""
    records, more = read(store.connection, _prepare_device_records(store, [device]).beside(other))
    return next(iter(_make_devices(store, records)), None), more


def load_devices(store: Store, ids: Sequence[str]) -> list[Device]:
    """Return the stored ones of these devices, each with all its contacts, in two round trips."""
    records = read(store.connection, _prepare_device_records(store, ids))
    return _make_devices(store, records)


def load_brief_devices(store: Store, ids: Sequence[str]) -> list[BriefDevice]:
    """Return the stored and listed ones of these devices in brief, in two round trips."""
    stored = read(store.connection, _prepare_device_records(store, ids)).items()
    records = {device: record for device, record in stored if record.contacts or record.has_instance}
    contacts = load_brief_contacts(store, _refs(records))
    return [BriefDevice(device, tuple(_select(record, contacts))) for device, record in records.items()]


def _prepare_device_records(store: Store, ids: Sequence[str]) -> Reading[dict[str, _DeviceRecord]]:
    texts = prepare_records(store, list(map(store.keys.device, ids)))
    return texts.then(
        lambda texts: {device: decode_record(text, _record) for device, text in zip(ids, texts, strict=True) if text}
    )


def _make_devices(store: Store, records: Mapping[str, _DeviceRecord]) -> list[Device]:
    contacts = load_contacts(store, _refs(records))
    return [_make_device(device, record, contacts) for device, record in records.items()]


def _refs(records: Mapping[str, _DeviceRecord]) -> list[ContactRef]:
    return [ContactRef(aor_of(device), contact) for device, record in records.items() for contact in record.contacts]


def _select(record: _DeviceRecord, contacts: Mapping[str, T]) -> list[T]:
    """Return those contacts of a device that are stored, the oldest first."""
    return [contacts[contact] for contact in record.contacts if contact in contacts]


def load_devices_of_bindings(store: Store, bindings: Mapping[Binding, str]) -> list[Device]:
    """Return the stored devices of these bindings, also those that the bindings are mapped to, which they may join.

    Of a binding that is not stored, return all listed devices of its AOR. What is most likely is read at once: of a
    fleet that is new, or that is as it was, nothing else is left to read. Then what else there is, device by device.
    """
    refs = [ContactRef(binding.aor, contact_id(binding)) for binding in bindings]
    ids = set(bindings.values())
    likely = prepare_contacts(store, refs).beside(_prepare_device_records(store, sorted(ids)))
    (contacts, records), own = read(
        store.connection, likely.beside(_prepare_ids_of_aors(store, {ref.aor for ref in refs}))
    )
    new_aors = {ref.aor for ref in refs if ref.contact not in contacts}
    relatives = {device for device in own if aor_of(device) in new_aors}
    others = {contact.device for contact in contacts.values()} | relatives
    if others - ids:
        more = read(store.connection, _prepare_device_records(store, sorted(others - ids)))
        records |= more
    _unlist(store, relatives - records.keys())
    contacts |= load_contacts(store, [ref for ref in _refs(records) if ref.contact not in contacts])
    devices = [_make_device(device, record, contacts) for device, record in records.items()]
    _note_refreshed(store, devices)
    return devices


def _note_refreshed(store: Store, devices: Sequence[Device]) -> None:
    """Note when the keys of these devices were refreshed last: their index tells."""
    by_shard: defaultdict[int, list[Device]] = defaultdict(list)
    for device in devices:
        by_shard[store.keys.shard(device.aor)].append(device)
    replies = store.connection.pipeline(
        ("ZMSCORE", store.keys.devices(shard), *(device.id for device in own)) for shard, own in by_shard.items()
    )
    for own, scores in zip(by_shard.values(), replies, strict=True):
        for device, score in zip(own, scores, strict=True):
            device.refreshed_at = int(score or 0)


def load_devices_of_aors(store: Store, aors: Iterable[str]) -> list[Device]:
    """Return the listed devices of these AORs, at most MAX_DEVICES of each. Vanished ones leave their AOR's list."""
    ids = read(store.connection, _prepare_ids_of_aors(store, aors))
    devices = load_devices(store, ids)
    _unlist(store, set(ids) - {device.id for device in devices})
    return devices


def _unlist(store: Store, vanished: Iterable[str]) -> None:
    store.connection.pipeline(("SREM", store.keys.aor(aor_of(device)), device) for device in vanished)


def _prepare_ids_of_aors(store: Store, aors: Iterable[str]) -> Reading[list[str]]:
    """Prepare to read the ids of the listed devices of these AORs, most of which may have none: a script for many."""
    by_shard: defaultdict[int, list[str]] = defaultdict(list)
    for aor in aors:
        by_shard[store.keys.shard(aor)].append(store.keys.aor(aor))
    parts = (own[start : start + PAGE] for own in by_shard.values() for start in range(0, len(own), PAGE))
    commands = [("EVAL", _MEMBERS, len(keys), *keys, MAX_DEVICES) for keys in parts]
    return Reading(
        commands, lambda replies: [device for ids in chain.from_iterable(map(check, replies)) for device in ids]
    )


def load_devices_of_contacts(store: Store, refs: Iterable[str]) -> list[Device]:
    """Return the stored devices of contacts given as `ID AOR`, as index keys hold them."""
    return load_devices(store, sorted(load_device_ids(store, list(map(parse_ref, refs)))))


def load_clusters(store: Store, aor: str) -> set[str]:
    """Return the clusters in which an AOR has live contacts."""
    devices = load_devices(store, store.connection.call("SMEMBERS", store.keys.aor(aor)))
    return {contact.binding.cluster for device in devices for contact in device.contacts if not contact.ended_at}


def load_connected_devices(store: Store, connections: Iterable[tuple[str, str]]) -> list[Device]:
    """Return the stored devices with a contact on one of these connections, given as (cluster, address).

    Of a connection with many contacts, such as a proxy's, MAX_CONNECTED will do: its end says nothing of any of them.
    """
    members = store.connection.pipeline(
        ("SRANDMEMBER", store.keys.connection(cluster, address), MAX_CONNECTED) for cluster, address in connections
    )
    return load_devices_of_contacts(store, (ref for refs in members for ref in refs))


def load_expired_devices(store: Store, before: int, skip: int, limit: int) -> list[Device]:
    """Return the devices of contacts that expired before this time (epoch ms) without an event.

    Of each shard the first `skip` contacts are left out, and `limit` are read. Contacts that Redis does not hold any
    more leave the index.
    """
    key_of_ref: dict[str, str] = {}
    for key in map(store.keys.expires, range(store.keys.shards)):
        refs = store.connection.call("ZRANGEBYSCORE", key, 1, before, "LIMIT", skip, limit)
        key_of_ref.update(dict.fromkeys(refs, key))
    devices = load_devices_of_contacts(store, key_of_ref)
    stored = {f"{contact.id} {contact.binding.aor}" for device in devices for contact in device.contacts}
    store.connection.pipeline(("ZREM", key, ref) for ref, key in key_of_ref.items() if ref not in stored)
    return devices


def iterate_device_ids(store: Store) -> Iterator[list[str]]:
    """Return the ids of all devices, PAGE by PAGE, those that were active last first within each shard."""
    for shard in range(store.keys.shards):
        ids = store.connection.call("ZRANGE", store.keys.devices(shard), 0, -1, "REV")
        for start in range(0, len(ids), PAGE):
            yield ids[start : start + PAGE]


def scan_device_ids(store: Store) -> Iterator[list[str]]:
    """Return the ids of all devices, about PAGE at a time and in no order; one may come twice."""
    for shard in range(store.keys.shards):
        cursor = -1
        while cursor:
            cursor, members = store.connection.call("ZSCAN", store.keys.devices(shard), max(0, cursor), "COUNT", PAGE)
            yield [device for device, _ in members]


def count_devices(store: Store) -> int:
    """Return the number of devices in the index."""
    shards = range(store.keys.shards)
    return sum(store.connection.pipeline(("ZCARD", store.keys.devices(shard)) for shard in shards))


def select_stored_devices(store: Store, ids: Sequence[str]) -> list[str]:
    """Return those of these ids whose devices are stored."""
    exist = store.connection.pipeline(("EXISTS", store.keys.device(device)) for device in ids)
    return [device for device, is_there in zip(ids, exist, strict=True) if is_there]


def load_ids_of(store: Store, *, instances: Iterable[str], aors: Iterable[str]) -> list[set[str]]:
    """Return a set of device ids for each of these SIP instances, then one for each of these AORs, MAX_DEVICES each."""
    keys = [*map(store.keys.instance, instances), *map(store.keys.aor, aors)]
    return list(map(set, store.connection.pipeline(("SRANDMEMBER", key, MAX_DEVICES) for key in keys)))


def forget_vanished_devices(store: Store, now: int) -> int:
    """Take devices off the indexes whose keys have expired by `now` (epoch ms); return how many."""
    before, count = now - store.retention_ms - REFRESH_MS, 0
    for key in map(store.keys.devices, range(store.keys.shards)):
        while ids := store.connection.call("ZRANGEBYSCORE", key, "-inf", before, "LIMIT", 0, PAGE):
            unlisting = chain.from_iterable(map(partial(_prepare_unlisting, store, key), ids))
            store.connection.pipeline([*unlisting, prepare_fleet_changes(store.keys, ids, ())])
            count += len(ids)
    return count


def _prepare_unlisting(store: Store, key: str, device: str) -> list[Command]:
    """Prepare to take a device off the list of its AOR and its instance, which others may keep alive, and off `key`."""
    aor, _, instance = device.rpartition("/")
    return [
        ("SREM", store.keys.aor(aor), device),
        ("SREM", store.keys.instance(instance), device),
        ("ZREM", key, device),
    ]
