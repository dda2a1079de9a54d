"""Hold the devices in memory, each with its contacts. No I/O."""

from collections.abc import Container, Iterable, Sequence
from typing import Final

from companion import sip
from companion.usrloc.changes import Changes
from companion.usrloc.connections import Connections
from companion.usrloc.contact import Binding, Contact, Device
from companion.usrloc.packed_devices import PackedDevices

ENDED_KEPT: Final = 50
"""The number of ended contacts that a device keeps: enough to leave out their lost pings."""
PACKED_AT_ONCE: Final = 10_000
"""Contacts that are packed at once, or a fourth of those that are too many: a tenth of a second of work."""


class Devices:
    """Hold devices by id and contacts by binding. Each contact belongs to exactly one device.

    The devices of an AOR are all in `by_id`, and their contacts in `contacts`, or all in `packed`. Whoever begins with
    an AOR unpacks it: `find` and `put` do so, and all behind them need not.
    """

    def __init__(self, changes: Changes, connections: Connections) -> None:
        self.by_id: dict[str, Device] = {}
        self.contacts: dict[Binding, Contact] = {}
        self.removed: set[str] = set()
        """Ids of devices that are not deleted in the store yet."""
        self._of_aor: dict[str, tuple[Device, ...]] = {}
        self._changes = changes
        self._connections = connections
        self.packed = PackedDevices()
        self.lately_entered: set[str] = set()
        """AORs whose devices were unpacked or put into memory since the last `pack_oldest`."""

    def put(self, devices: Iterable[Device], clusters: Container[str] | None = None) -> None:
        """Put stored devices with all their contacts into memory. Those that are in memory stay as they are.

        But their contacts in other clusters than these are as stored: others record them. None: all are ours.
        """
        for device in devices:
            self.unpack(device.aor)
            if device.id not in self.by_id and device.id not in self.removed:
                self.lately_entered.add(device.aor)
                self._enter(device)
            elif clusters is not None and device.id in self.by_id:
                self._follow_others(self.by_id[device.id], device, clusters)

    def _follow_others(self, device: Device, stored: Device, clusters: Container[str]) -> None:
        """Replace the contacts of a device that other consumers record by the stored ones."""
        before = [contact for contact in device.contacts if contact.binding.cluster not in clusters]
        others = [contact for contact in stored.contacts if contact.binding.cluster not in clusters]
        for contact in before:
            device.contacts.remove(contact)
            self._connections.forget(contact)
            if self.contacts.get(contact.binding) is contact:
                del self.contacts[contact.binding]
        device.contacts[:0] = others
        self._connections.index(others)
        self.contacts.update((contact.binding, contact) for contact in others)

    def find(self, binding: Binding) -> Contact | None:
        """Return a contact, None if it is not in memory."""
        contact = self.contacts.get(binding)
        if contact is None and self.unpack(binding.aor):
            contact = self.contacts.get(binding)
        return contact

    def of_aor(self, aor: str) -> tuple[Device, ...]:
        """Return the devices of an AOR that are in memory."""
        self.unpack(aor)
        return self._of_aor.get(aor, ())

    def unpack(self, aor: str) -> bool:
        """Unpack the devices of an AOR; return whether they were packed."""
        devices = self.packed.take(aor)
        if devices:
            self.lately_entered.add(aor)
            for device in devices:
                self._enter(device)
        return bool(devices)

    def pack_oldest(self, max_contacts: int, max_devices: int) -> Sequence[Contact]:
        """Pack the devices that came first until `max_contacts` are left unpacked, and return their contacts.

        Those with changes that are not stored yet stay. Packed devices beyond `max_devices` in all are dropped.
        """
        packed: list[Contact] = []
        self.lately_entered.clear()
        if self._is_beyond(max_contacts, max_devices):
            unstored = self._changes.aors()
            most = max(PACKED_AT_ONCE, (len(self.contacts) - max_contacts) // 4)
            for aor in list(self._of_aor):
                if len(packed) >= most or not self._is_beyond(max_contacts, max_devices):
                    break
                if aor not in unstored:
                    packed += self._pack(aor)
        self.packed.drop_oldest(len(self.by_id) + self.packed.count - max_devices)
        return packed

    def drop_cluster(self, cluster: str) -> Sequence[Contact]:
        """Drop the devices with contacts of a cluster that another consumer records, and return their contacts.

        Those with changes that are not stored yet stay: a device may have contacts of several clusters.
        """
        self.packed.drop_cluster(cluster)
        unstored = self._changes.aors()
        ours = [contact.device for binding, contact in self.contacts.items() if binding.cluster == cluster]
        devices = [device for one in dict.fromkeys(ours) if (device := self.by_id[one]).aor not in unstored]
        for device in devices:
            self.drop(device)
        return [contact for device in devices for contact in device.contacts]

    def _is_beyond(self, max_contacts: int, max_devices: int) -> bool:
        return len(self.contacts) > max_contacts or len(self.by_id) > max_devices

    def _pack(self, aor: str) -> Iterable[Contact]:
        devices = self._of_aor[aor]
        for device in devices:
            self.drop(device)
        self.packed.put(aor, devices)
        return [contact for device in devices for contact in device.contacts]

    def _enter(self, device: Device) -> None:
        self._enlist(device)
        self._connections.index(device.contacts)
        self.contacts.update((contact.binding, contact) for contact in device.contacts)

    def _enlist(self, device: Device) -> None:
        self.by_id[device.id] = device
        self._of_aor[device.aor] = (*self._of_aor.get(device.aor, ()), device)

    def remove_device(self, device: Device) -> None:
        """Drop a device whose contacts have all ended, and have it deleted in the store."""
        self.drop(device)
        self.removed.add(device.id)
        self._changes.removed[device.id] = device
        self._changes.dropped.update((contact.id, contact) for contact in device.contacts)  # one may come back: `add`

    def settle_removed(self, ids: Iterable[str]) -> None:
        """Note that these devices are deleted in the store."""
        self.removed -= set(ids) - self._changes.removals()

    def drop(self, device: Device) -> None:
        """Drop a stored device from memory."""
        del self.by_id[device.id]
        others = tuple(other for other in self._of_aor[device.aor] if other is not device)
        if others:
            self._of_aor[device.aor] = others
        else:
            del self._of_aor[device.aor]
        for contact in device.contacts:
            self.contacts.pop(contact.binding, None)
            self._connections.forget(contact)

    def add(self, contact: Contact, instance: str, ts: int) -> None:
        """Add a contact to its device, which is made when there is none. The oldest ended contacts are removed."""
        self.contacts[contact.binding] = contact
        self._changes.dropped.pop(contact.id, None)
        device = self.by_id.get(contact.device)
        if device is None:
            device = Device(contact.device, contact.binding.aor, instance, ts)
            self._changes.removed.pop(device.id, None)
            self._enlist(device)
        ended = [other for other in device.contacts if other.ended_at]
        for oldest in ended[:-ENDED_KEPT]:
            device.contacts.remove(oldest)
            self.contacts.pop(oldest.binding, None)
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
