"""Hold the devices in memory, each with its contacts. No I/O."""

from collections.abc import Iterable
from typing import Final

from companion import sip
from companion.usrloc.changes import Changes
from companion.usrloc.connections import Connections
from companion.usrloc.contact import Binding, Contact, Device
from companion.usrloc.pushes import PushContacts

ENDED_KEPT: Final = 50
"""The number of ended contacts that a device keeps: enough to leave out their lost pings."""


class Devices:
    """Hold devices by id and contacts by binding. Each contact belongs to exactly one device."""

    def __init__(self, changes: Changes, connections: Connections) -> None:
        self.by_id: dict[str, Device] = {}
        self.contacts: dict[Binding, Contact] = {}
        self._changes = changes
        self._connections = connections
        self.pushes = PushContacts()

    def put(self, devices: Iterable[Device]) -> None:
        """Put stored devices with all their contacts into memory. Those that are in memory stay as they are."""
        for device in devices:
            if device.id in self.by_id:
                continue
            self.by_id[device.id] = device
            self._connections.index(device.contacts)
            self.pushes.index(device.contacts)
            self.contacts.update((contact.binding, contact) for contact in device.contacts)

    def drop(self, device: Device) -> None:
        """Drop a stored device from memory."""
        del self.by_id[device.id]
        for contact in device.contacts:
            self.contacts.pop(contact.binding, None)
            self._connections.forget(contact)
            self.pushes.forget(contact)

    def add(self, contact: Contact, instance: str, ts: int) -> None:
        """Add a contact to its device, which is made when there is none. The oldest ended contacts are dropped."""
        self.contacts[contact.binding] = contact
        self.pushes.index([contact])
        device = self.by_id.get(contact.device)
        if device is None:
            device = Device(contact.device, contact.binding.aor, instance, ts)
            self.by_id[device.id] = device
        ended = [other for other in device.contacts if other.ended_at]
        for oldest in ended[:-ENDED_KEPT]:
            device.contacts.remove(oldest)
            self.contacts.pop(oldest.binding, None)
            self.pushes.forget(oldest)
        device.contacts.append(contact)
        self._changes.devices[device] = None

    def remove(self, contact: Contact) -> None:
        """Remove a contact from its device, because it moves or is replaced."""
        device = self.by_id[contact.device]
        device.contacts.remove(contact)
        self._changes.devices[device] = None

    def move(self, contact: Contact, instance: str) -> bool:
        """Move a contact to the device of a SIP instance; return whether it was elsewhere."""
        device_id = sip.device_id(contact.binding.aor, contact.binding.uri, instance)
        if device_id == contact.device:
            return False
        self.remove(contact)
        contact.device = device_id
        self.add(contact, instance, contact.changed_at)
        device, active = self.by_id[device_id], self._changes.active
        active[device] = max(contact.changed_at, active.get(device, 0))
        return True
