"""Compute how the calls of the last hour sound, all together."""

from collections.abc import Sequence
from typing import Final

from companion import sip
from companion.media import fleet
from companion.query.calls import render_call_row
from companion.query.now import View
from companion.query.row import select_speaker
from companion.store.calls import CallRecord, count_recent_calls, load_recent_calls
from companion.store.devices import load_devices
from companion.store.store import Store
from companion.text import Json
from companion.times import iso
from companion.usrloc.contact import Device

WINDOW_MS: Final = 3_600_000
MAX_CALLS: Final = 2000
"""Calls that are counted in, the newest: they stand for an hour of more."""
_MAPPED: Final = ("srflx", "prflx")
"""ICE candidates whose address is one that a NAT gave: that of the network as others see it."""


def compute_call_quality(store: Store, view: View) -> Json:
    """Return the quality of the calls with a report in the last hour; `cut` when there were more than MAX_CALLS."""
    since = view.clock.now - WINDOW_MS
    recent = load_recent_calls(store, since, limit=MAX_CALLS)
    networks = _networks(store, view, recent)
    calls = [fleet.Heard(render_call_row(call, view.clock.now), networks.get(call.ref, "")) for call in recent]
    total = count_recent_calls(store, since)
    return {
        "at": iso(view.clock.now),
        "window_seconds": WINDOW_MS // 1000,
        "total": total,
        "cut": total > len(recent),
        **fleet.add_up(calls),
    }


def _networks(store: Store, view: View, calls: Sequence[CallRecord]) -> dict[str, str]:
    """Return the network of each call, by its ref: as STUN showed it, else the one its device is registered from."""
    networks = {call.ref: _mapped(call) for call in calls}
    unknown = {call.device for call in calls if not networks[call.ref]}
    registered = {device.id: _registered(view, device) for device in load_devices(store, sorted(unknown))}
    return {call.ref: networks[call.ref] or registered.get(call.device, "") for call in calls}


def _mapped(call: CallRecord) -> str:
    path = call.totals.path or {}
    return sip.network_prefix(path.get("local_address", "")) if path.get("local") in _MAPPED else ""


def _registered(view: View, device: Device) -> str:
    current = select_speaker(device.contacts, [view.status(contact) for contact in device.contacts])
    if current is None:
        return ""
    address = sip.network_address(current.registration.received, current.binding.uri)
    return sip.network_prefix(address.rpartition(":")[0])
