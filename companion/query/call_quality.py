"""How the calls of the last hour sound, all together: computed by the scheduler, read by whoever asks."""

from collections.abc import Sequence
from typing import Final

from companion import sip
from companion.media import fleet
from companion.query.calls import row
from companion.query.now import View
from companion.query.row import speaker
from companion.store.calls import CallRecord, count_recent_calls, load_recent_calls
from companion.store.devices import load_devices
from companion.store.store import Store
from companion.times import Json, iso
from companion.usrloc.contact import Device

WINDOW_MS: Final = 3_600_000
MAX_CALLS: Final = 2000
"""So many are looked at, the newest: an hour of more is told of as well by these."""
_MAPPED: Final = ("srflx", "prflx")
"""Candidates whose address is the one that a NAT gave: that of the network as others see it."""


def compute(store: Store, view: View) -> Json:
    """How the calls are that were told of in the last hour; `cut` when there were more than were looked at."""
    since = view.clock.now - WINDOW_MS
    found = load_recent_calls(store, since, limit=MAX_CALLS)
    networks = _networks(store, view, found)
    heard = [fleet.Heard(row(call, view.clock.now), networks.get(call.ref, "")) for call in found]
    total = count_recent_calls(store, since)
    return {
        "at": iso(view.clock.now),
        "window_seconds": WINDOW_MS // 1000,
        "total": total,
        "cut": total > len(found),
        **fleet.add_up(heard),
    }


def _networks(store: Store, view: View, found: Sequence[CallRecord]) -> dict[str, str]:
    """The network of each call, by its ref: as STUN saw it, else the one that the device is registered from."""
    networks = {call.ref: _mapped(call) for call in found}
    unknown = {call.device for call in found if not networks[call.ref]}
    registered = {device.id: _registered(view, device) for device in load_devices(store, sorted(unknown))}
    return {call.ref: networks[call.ref] or registered.get(call.device, "") for call in found}


def _mapped(call: CallRecord) -> str:
    path = call.totals.path or {}
    return sip.network_prefix(path.get("local_address", "")) if path.get("local") in _MAPPED else ""


def _registered(view: View, device: Device) -> str:
    current = speaker(device.contacts, [view.status(contact) for contact in device.contacts])
    if current is None:
        return ""
    address = sip.network_address(current.registration.received, current.binding.uri)
    return sip.network_prefix(address.rpartition(":")[0])
