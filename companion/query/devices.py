"""Render devices as people and machines read them. Times are ISO 8601."""

from collections.abc import Iterator
from typing import NamedTuple

from companion.credentials import mask
from companion.errors import NoSuchDeviceError
from companion.query.now import View
from companion.query.pings import compute_statistics, select_own_pings
from companion.query.row import make_glance, render_row, select_speaker
from companion.store.devices import iterate_device_ids, load_device_beside, load_devices
from companion.store.pings import prepare_pings
from companion.store.store import Store
from companion.store.timeline import load_timeline, prepare_timeline
from companion.text import Json
from companion.times import MINUTE_MS, iso
from companion.usrloc.contact import Contact, Device, Ping


class DevicePast(NamedTuple):
    """Hold a device, its own pings and its rendered timeline since some time, the oldest first."""

    device: Device
    pings: list[Ping]
    timeline: list[Json]


def iterate_devices(store: Store) -> Iterator[Device]:
    """Return all devices, those that were active last first within each shard."""
    for ids in iterate_device_ids(store):
        yield from load_devices(store, ids)


def render_device(store: Store, device_id: str, view: View, window_ms: int) -> Json:
    """Return the page of one device, as `render_past` does. Raises NoSuchDeviceError."""
    past = load_past(store, device_id, view, view.clock.now - window_ms)
    if past is None:
        raise NoSuchDeviceError(device_id)
    return render_past(past, view, window_ms)


def load_past(store: Store, device_id: str, view: View, since: int) -> DevicePast | None:
    """Return a device and its past since then, in two round trips; None when the store has none with this id."""
    span = since, view.clock.now + MINUTE_MS
    past = prepare_pings(store, device_id, *span).beside(prepare_timeline(store, device_id, *span))
    device, ((answered, lost), entries) = load_device_beside(store, device_id, past)
    if device is None:
        return None
    return DevicePast(device, select_own_pings(device, answered, lost, view), list(map(_entry, entries)))


def render_past(past: DevicePast, view: View, window_ms: int) -> Json:
    """Return the page of a device: row, registration, latency, contacts, samples and timeline within the window."""
    device = past.device
    contacts = sorted(device.contacts, key=lambda contact: (bool(contact.ended_at), -contact.alive_at))
    return {
        **render_row(make_glance(device, view)),
        "registration": _registration(device, view),
        "latency": {"window_seconds": window_ms // 1000, **compute_statistics(past.pings)},
        "contacts": [_contact(contact, view) for contact in contacts],
        "samples": past.pings,
        "timeline": past.timeline,
    }


def render_timeline(store: Store, device_id: str, since: int, until: int) -> list[Json]:
    """Return the timeline of a device, oldest first; `at` is ISO 8601."""
    return list(map(_entry, load_timeline(store, device_id, since, until)))


def _entry(entry: Json) -> Json:
    """Render an entry. Its values are texts of others and numbers, the names of its fields are ours."""
    own = {name: mask(value) if isinstance(value, str) else value for name, value in entry.items()}
    own["at"] = iso(entry["at"])
    return own


def _registration(device: Device, view: View) -> Json:
    current = select_speaker(device.contacts, [view.status(contact) for contact in device.contacts])
    if current is None:
        return {"registered": False, "expires_at": None, "user_agent": "", "received": "", "push": False} | {
            "last_register_at": None
        }
    return {
        "registered": view.status(current) != "offline",
        "expires_at": iso(current.registration.expires_at),
        "user_agent": current.registration.user_agent,
        "received": mask(current.registration.received),
        "push": bool(current.push_provider),
        "last_register_at": iso(current.last_register_at),
    }


def _contact(contact: Contact, view: View) -> Json:
    return {
        "contact": contact.id,
        "uri": mask(contact.binding.uri),
        "cluster": contact.binding.cluster,
        "node": contact.node,
        "status": view.status(contact),
        "ghost": view.is_ghost(contact) and not contact.ended_at,
        "user_agent": contact.registration.user_agent,
        "received": mask(contact.registration.received),
        "path": mask(contact.registration.path),
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
