"""Devices for tests of traces."""

from companion.opensips.events import Registration
from companion.sip import device_id
from companion.usrloc.contact import Binding, Contact, Device, contact_id


def phone(
    aor: str, name: str, uri: str, address: str, *, socket: str = "", path: str = "", ended_at: int = 0
) -> Device:
    """Return a device with one contact at an address; `name` is its SIP instance, "" for none."""
    instance = f"urn:uuid:{name}" if name else ""
    device = device_id(aor, uri, instance)
    received = f"sip:{address};transport=ws" if address else ""
    attr = f"<{instance}>" if instance else ""
    registration = Registration(received, path, "phone", socket, 0, 0, "r1", 1, attr)
    binding = Binding("edge", "location", aor, uri)
    contact = Contact(binding, contact_id(binding), device, "edge", registration, ended_at=ended_at)
    return Device(device, aor, instance, 1, [contact])
