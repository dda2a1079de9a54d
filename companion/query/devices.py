"""Render devices as people and machines read them. Times are ISO 8601."""

from collections.abc import Iterator

from companion.credentials import mask, mask_all
from companion.errors import NoSuchDeviceError
from companion.query.now import View
from companion.query.pings import compute_statistics, read_pings
from companion.query.row import make_glance, render_row, select_speaker
from companion.store.devices import iterate_device_ids, load_device, load_devices
from companion.store.store import Store
from companion.store.timeline import load_timeline
from companion.text import Json
from companion.times import MINUTE_MS, iso
from companion.usrloc.contact import Contact, Device


def iterate_devices(store: Store) -> Iterator[Device]:
    """Return all devices, those that were active last first within each shard."""
    for ids in iterate_device_ids(store):
        yield from load_devices(store, ids)


def render_device(store: Store, device_id: str, view: View, window_ms: int) -> Json:
    """Return the page of one device: row, registration, latency, contacts, samples and timeline within the window.

    Raises NoSuchDeviceError.
    """
    device = load_device(store, device_id)
    if device is None:
        raise NoSuchDeviceError(device_id)
    return render_loaded_device(store, device, view, window_ms)


def render_loaded_device(store: Store, device: Device, view: View, window_ms: int) -> Json:
    """Return the page of a device, as `render_device` does, for who has read its contacts."""
    now = view.clock.now
    pings = read_pings(store, device, view, now - window_ms)
    contacts = sorted(device.contacts, key=lambda contact: (bool(contact.ended_at), -contact.alive_at))
    return {
        **render_row(make_glance(device, view)),
        "registration": _registration(device, view),
        "latency": {"window_seconds": window_ms // 1000, **compute_statistics(pings)},
        "contacts": [_contact(contact, view) for contact in contacts],
        "samples": pings,
        "timeline": render_timeline(store, device.id, now - window_ms, now + MINUTE_MS),
    }


def render_timeline(store: Store, device_id: str, since: int, until: int) -> list[Json]:
    """Return the timeline of a device, oldest first; `at` is ISO 8601."""
    return [mask_all({**entry, "at": iso(entry["at"])}) for entry in load_timeline(store, device_id, since, until)]


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
