"""Devices as people and machines read them: a row in a list, a page of one. Times in them are ISO 8601."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import NamedTuple

from companion import sip
from companion.errors import NoSuchDeviceError, SeveralDevicesError
from companion.query.now import View
from companion.query.row import glance, row, speaker
from companion.store.devices import (
    iterate_device_ids,
    load_brief_devices,
    load_device,
    load_devices,
    load_ids_of,
    select_stored_devices,
)
from companion.store.pings import aggregate_answered_pings, load_answered_pings, load_lost_pings
from companion.store.series import Aggregate, Point, aggregate
from companion.store.store import Store
from companion.store.timeline import load_timeline
from companion.times import MINUTE_MS, Json, iso
from companion.usrloc.contact import Contact, Device, Ping, Span, Status, ghost_spans


class Bucket(NamedTuple):
    """The pings of a while from `start` (epoch ms) on: of the answered ones in ms (None of none), and how many."""

    start: int
    min_ms: int | None
    average_ms: float | None
    max_ms: int | None
    answered: int
    lost: int


def find(store: Store, name: str) -> str:
    """The id of the device that a person means: by its id, its SIP instance, its AOR, or `AOR/…end` as tables show it.

    Raises NoSuchDeviceError, or SeveralDevicesError with all that it may be.
    """
    if select_stored_devices(store, [name]):
        return name
    bare = name.strip("<>")
    aor, _, end = name.rpartition("/")
    *by_name, of_aor = load_ids_of(store, instances=(bare.lower(), f"urn:uuid:{bare.lower()}"), aors=(name, aor))
    with_this_end = {device for device in of_aor if device.endswith(end.lstrip("…."))}
    for candidates in (*by_name, with_this_end):
        stored = select_stored_devices(store, sorted(candidates))
        if len(stored) == 1:
            return stored[0]
        if stored:
            raise SeveralDevicesError(name, stored)
    raise NoSuchDeviceError(name)


def walk(store: Store) -> Iterator[Device]:
    """All devices, those last heard of first within each shard."""
    for ids in iterate_device_ids(store):
        yield from load_devices(store, ids)


def survey(store: Store, view: View) -> Iterator[tuple[Device, list[Status]]]:
    """All devices with the statuses of their contacts, of which only what a glance tells is there: 40 µs a device."""
    for ids in iterate_device_ids(store):
        for device in load_brief_devices(store, ids):
            yield device, [view.status(contact) for contact in device.contacts]


def page(store: Store, device_id: str, view: View, window_ms: int) -> Json:
    """All about one device: its row, registration, latency, contacts, samples and timeline within the window.

    Raises NoSuchDeviceError.
    """
    device = load_device(store, device_id)
    if device is None:
        raise NoSuchDeviceError(device_id)
    now = view.clock.now
    pings = read_pings(store, device, view, now - window_ms)
    known = sorted(device.contacts, key=lambda contact: (bool(contact.ended_at), -contact.alive_at))
    return {
        **row(glance(device, view)),
        "registration": _registration(device, view),
        "latency": {"window_seconds": window_ms // 1000, **statistics(pings)},
        "contacts": [_contact(contact, view) for contact in known],
        "samples": pings,
        "timeline": timeline(store, device_id, now - window_ms, now + MINUTE_MS),
    }


def timeline(store: Store, device_id: str, since: int, until: int) -> list[Json]:
    """What happened to a device, oldest first; `at` is ISO 8601."""
    return [{**entry, "at": iso(entry["at"])} for entry in load_timeline(store, device_id, since, until)]


def read_pings(store: Store, device: Device, view: View, since: int, until: int | None = None) -> list[Ping]:
    """The device's own pings, oldest first: a ghost's losses since a newer contact answered are not among them."""
    until = view.clock.now + MINUTE_MS if until is None else until
    answered = load_answered_pings(store, device.id, since, until)
    lost = load_lost_pings(store, device.id, since, until)
    return own_pings(answered, lost, _ghosts(device, view))


def read_buckets(store: Store, device: Device, view: View, since: int, bucket_ms: int) -> list[Bucket]:
    """The device's own pings since then in buckets of one width, oldest first; empty ones are left out.

    Of the answered ones only what is in a bucket is read; the lost ones, which are few, each, for whose they are.
    """
    until = view.clock.now + MINUTE_MS
    answered = aggregate_answered_pings(store, device.id, since, until, bucket_ms)
    lost = load_lost_pings(store, device.id, since, until)
    return _buckets(answered, _own_losses(lost, _ghosts(device, view)), bucket_ms)


def in_buckets(pings: Sequence[Ping], bucket_ms: int) -> list[Bucket]:
    """The same of pings that were read already."""
    answered = ((ts, latency_ms) for ts, latency_ms in pings if latency_ms is not None)
    lost = [ts for ts, latency_ms in pings if latency_ms is None]
    return _buckets(aggregate(answered, bucket_ms), lost, bucket_ms)


def _buckets(answered: Sequence[Aggregate], lost: Iterable[int], bucket_ms: int) -> list[Bucket]:
    buckets = {
        start: Bucket(start, least, round(total / points, 1), most, points, 0)
        for start, least, total, most, points in answered
    }
    for start, count in Counter(ts // bucket_ms * bucket_ms for ts in lost).items():
        empty = Bucket(start, None, None, None, 0, 0)
        buckets[start] = buckets.get(start, empty)._replace(lost=count)
    return sorted(buckets.values())


def _ghosts(device: Device, view: View) -> dict[int, Sequence[Span]]:
    """When which contact, by its number, was a ghost."""
    return {contact.number: ghost_spans(contact, view.clock.lost_after) for contact in device.contacts}


def own_pings(answered: Sequence[Point], lost: Sequence[Point], ghosts: Mapping[int, Sequence[Span]]) -> list[Ping]:
    """Merge both series; `ghosts` tells of a contact's number when its losses are left out."""
    own = (Ping(ts, None) for ts in _own_losses(lost, ghosts))
    return sorted([*map(Ping._make, answered), *own], key=itemgetter(0))


def _own_losses(lost: Sequence[Point], ghosts: Mapping[int, Sequence[Span]]) -> Iterator[int]:
    """The times of those that are no ghost's."""
    for ts, number in lost:
        if not any(since <= ts <= until for since, until in ghosts.get(number, ())):
            yield ts


def statistics(pings: Sequence[Ping]) -> Json:
    """Average, maximum and minimum over answered pings only; total = answered + lost; null where there is none."""
    answered = [latency_ms for _, latency_ms in pings if latency_ms is not None]
    lost = len(pings) - len(answered)
    return {
        "average_ms": round(sum(answered) / len(answered), 1) if answered else None,
        "max_ms": max(answered, default=None),
        "min_ms": min(answered, default=None),
        "total": len(pings),
        "answered": len(answered),
        "lost": lost,
        "loss_ratio": round(lost / len(pings), 4) if pings else None,
    }


def _registration(device: Device, view: View) -> Json:
    current = speaker(device.contacts, [view.status(contact) for contact in device.contacts])
    if current is None:
        return {"registered": False, "expires_at": None, "user_agent": "", "received": "", "push": False} | {
            "last_register_at": None
        }
    return {
        "registered": view.status(current) != "offline",
        "expires_at": iso(current.registration.expires_at),
        "user_agent": current.registration.user_agent,
        "received": current.registration.received,
        "push": bool(current.push_provider),
        "last_register_at": iso(current.last_register_at),
    }


def _contact(contact: Contact, view: View) -> Json:
    return {
        "contact": contact.id,
        "uri": sip.mask(contact.binding.uri),
        "cluster": contact.binding.cluster,
        "node": contact.node,
        "status": view.status(contact),
        "ghost": view.is_ghost(contact) and not contact.ended_at,
        "user_agent": contact.registration.user_agent,
        "received": contact.registration.received,
        "path": contact.registration.path,
        "push": bool(contact.push_provider),
        "registered_at": iso(contact.registered_at),
        "last_register_at": iso(contact.last_register_at),
        "expires_at": iso(contact.registration.expires_at),
        "last_latency_ms": contact.last_latency_ms,
        "last_latency_at": iso(contact.last_latency_at),
        "consecutive_lost": contact.consecutive_lost,
        "lost_since": iso(contact.lost_since),
        "disconnected_at": iso(contact.disconnected_at),
        "ended_at": iso(contact.ended_at),
        "ended_by": contact.ended_by,
    }
