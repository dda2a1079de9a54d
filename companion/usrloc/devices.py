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
        self.removed: set[str] = set()
        """Ids of devices that are not deleted in the store yet."""
        self._of_aor: dict[str, tuple[Device, ...]] = {}
        self._changes = changes
        self._connections = connections
        self.pushes = PushContacts()

    def put(self, devices: Iterable[Device]) -> None:
        """Put stored devices with all their contacts into memory. Those that are in memory stay as they are."""
        for device in devices:
            if device.id in self.by_id or device.id in self.removed:
                continue
            self._enlist(device)
            self._connections.index(device.contacts)
            self.pushes.index(device.contacts)
            self.contacts.update((contact.binding, contact) for contact in device.contacts)

    def of_aor(self, aor: str) -> tuple[Device, ...]:
        """Return the devices of an AOR that are in memory."""
        return self._of_aor.get(aor, ())

    def _enlist(self, device: Device) -> None:
        self.by_id[device.id] = device
        self._of_aor[device.aor] = (*self.of_aor(device.aor), device)

    def remove_device(self, device: Device) -> None:
        """Drop a device whose contacts have all ended, and have it deleted in the store."""
        self.drop(device)
        self.removed.add(device.id)
        self._changes.removed[device.id] = device
        self._changes.dropped.update((contact.id, contact) for contact in device.contacts)  # one may come back: `add`

    def settle_removed(self, ids: Iterable[str]) -> None:
        """Note that these devices are deleted in the store."""
        self.removed -= set(ids) - self._changes.removed.keys()

    def drop(self, device: Device) -> None:
        """Drop a stored device from memory."""
        del self.by_id[device.id]
        others = tuple(other for other in self.of_aor(device.aor) if other is not device)
        if others:
            self._of_aor[device.aor] = others
        else:
            del self._of_aor[device.aor]
        for contact in device.contacts:
            self.contacts.pop(contact.binding, None)
            self._connections.forget(contact)
            self.pushes.forget(contact)

    def add(self, contact: Contact, instance: str, ts: int) -> None:
        """Add a contact to its device, which is made when there is none. The oldest ended contacts are removed."""
        self.contacts[contact.binding] = contact
        self._changes.dropped.pop(contact.id, None)
        self.pushes.index([contact])
        device = self.by_id.get(contact.device)
        if device is None:
            device = Device(contact.device, contact.binding.aor, instance, ts)
            self._changes.removed.pop(device.id, None)
            self._enlist(device)
        ended = [other for other in device.contacts if other.ended_at]
        for oldest in ended[:-ENDED_KEPT]:
            device.contacts.remove(oldest)
            self.contacts.pop(oldest.binding, None)
            self.pushes.forget(oldest)
            self._changes.dropped[oldest.id] = oldest
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
