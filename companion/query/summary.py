"""Add up the whole fleet, or list it, for who needs it once."""

from collections.abc import Callable

from companion.query.fleet import LiveFleet
from companion.query.now import View
from companion.store.devices import load_brief_devices, scan_device_ids
from companion.store.store import Store
from companion.text import Json


def load_fleet(store: Store, view: View, progress: Callable[[int], object] = lambda _: None) -> LiveFleet:
    """Read the whole fleet: about 30 µs a device. `progress` is called with the number of devices read so far."""
    fleet = LiveFleet(view)
    for ids in scan_device_ids(store):
        for device in load_brief_devices(store, ids):
            fleet.put(device)
        progress(len(fleet))
    return fleet


def compute_summary(store: Store, view: View) -> Json:
    """Return the summary of the whole fleet."""
    return load_fleet(store, view).summarise()
