"""Find the device that a person means."""

from companion.errors import NoSuchDeviceError, SeveralDevicesError
from companion.store.calls import has_calls
from companion.store.devices import load_ids_of, select_stored_devices
from companion.store.store import Store


def find_device_id(store: Store, name: str) -> str:
    """Return the id of a device by its id, its SIP instance, its AOR, or `AOR/…end` as tables show it.

    Raises NoSuchDeviceError, or SeveralDevicesError with the candidates.
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


def find_or_accept_device_id(store: Store, name: str) -> str:
    """Return the id of a device as `find_device_id` does, or the name itself where it can be the id of a new device.

    Raises NoSuchDeviceError for any other name, and SeveralDevicesError.
    """
    try:
        return find_device_id(store, name)
    except NoSuchDeviceError:
        if "/" not in name:
            raise
        return name


def has_records(store: Store, device: str) -> bool:
    """Return whether the store holds a device with this id, or a call of it."""
    return bool(select_stored_devices(store, [device])) or has_calls(store, device)
