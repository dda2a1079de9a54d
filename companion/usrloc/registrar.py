"""Enter contacts into the picture and keep their registrations, as REGISTERs, pings and MI tell them. No I/O."""

from typing import Final

from companion import sip
from companion.opensips.events import UPDATE, ContactEvent, Registration
from companion.times import HOUR_MS
from companion.usrloc.admission import Admission
from companion.usrloc.changes import Changes, Stamp
from companion.usrloc.connections import Connections
from companion.usrloc.contact import Binding, Contact, Device, contact_id
from companion.usrloc.ends import Ends
from companion.usrloc.failures import Failures
from companion.usrloc.ghosts import ghost_spans, unmark_replaced
from companion.usrloc.pushes import find_replaced
from companion.usrloc.registrations import (
    holder,
    is_other_phone,
    is_overtaken,
    is_same_register,
    is_same_registration,
    with_own_socket,
)
from companion.usrloc.switch_over import Outage, note_arrival, note_move

OLDER_CALLIDS: Final = 4
"""Older Call-IDs that a contact keeps; a phone makes a new one at each start."""


class Registrar:
    """Enter contacts and renew their registrations."""

    def __init__(
        self,
        admission: Admission,
        connections: Connections,
        changes: Changes,
        failures: Failures,
        ends: Ends,
    ) -> None:
        self._admission = admission
        self._devices = admission.devices
        self._connections = connections
        self._changes = changes
        self._failures = failures
        self._ends = ends

    def register(self, event: ContactEvent, stamp: Stamp, binding: Binding, contact: Contact | None) -> None:
        """Take in a REGISTER: of a new contact, the same again from another node, or a newer one."""
        if contact is None or contact.ended_at:
            entered = self._replace(event, stamp, binding) or self._enter_registered(event, stamp, binding)
            if entered is None:
                return
            contact = entered
        elif is_same_register(contact.registration, event.registration):
            self._take_replica(contact, event.registration, stamp)
            return
        elif is_overtaken(contact, event.registration, stamp):
            return
        else:
            self._note_renewal(contact, event, stamp.ts)
            _remember_callid(contact, event.registration.callid)
            self._renew(contact, event.registration, stamp, contact.disconnected_at)
            contact.holder = holder(event.registration, stamp.node) or contact.holder  # a shared address moves
        contact.last_register_at = contact.changed_at = stamp.ts
        contact.run = stamp.run
        self._changes.contacts[contact] = None
        self._changes.active[self._devices.by_id[contact.device]] = stamp.ts

    def discover(self, event: ContactEvent, stamp: Stamp, binding: Binding) -> Contact | None:
        """Enter a contact without its REGISTER, which came before our start or was lost; None if it is left out."""
        if not self.admits(binding, event.registration, stamp):
            return None
        contact = self.enter(binding, event.registration, stamp)
        self._changes.note(contact, stamp.ts, "discovered", address=contact.address)
        self._changes.contacts[contact] = None
        return contact

    def admits(
        self,
        binding: Binding,
        registration: Registration,
        stamp: Stamp,
        instance: str = "",
        *,
        is_reconciled: bool = False,
    ) -> bool:
        """Return whether to enter a new contact."""
        instance = instance or sip.contact_instance(registration.attr, binding.uri)
        device_id = sip.device_id(binding.aor, binding.uri, instance)
        if self._admission.admits(binding, device_id, stamp, is_reconciled=is_reconciled):
            return True
        connection = sip.connection(registration.received, registration.path)[1]
        self._connections.note_left_out(binding.cluster, connection)
        return False

    def follow(self, contact: Contact, registration: Registration, stamp: Stamp) -> None:
        """Take over what a ping tells of the contact's registration."""
        names_socket = bool(registration.socket)
        registration = with_own_socket(contact, registration, stamp)
        if contact.registration == registration or is_overtaken(contact, registration, stamp):
            return
        if contact.failing and not is_same_registration(contact.registration, registration):
            self._failures.recover(contact, stamp.ts, "register")  # its REGISTER was lost on the way
        self._take(contact, registration, stamp, names_socket=names_socket)
        self._changes.contacts[contact] = None

    def enter(
        self,
        binding: Binding,
        registration: Registration,
        stamp: Stamp,
        instance: str = "",
        device: Device | None = None,
    ) -> Contact:
        """Enter a new contact, in the place of an ended one with the same binding, or in a device that it is of."""
        previous = self._devices.contacts.get(binding)
        own_instance = sip.contact_instance(registration.attr, binding.uri)
        instance = instance or own_instance or (device.instance if device else "")
        device_id = sip.device_id(binding.aor, binding.uri, instance)
        if not instance:
            device_id = device.id if device else previous.device if previous else device_id
        contact = Contact(binding, contact_id(binding), device_id, stamp.node, registration)
        contact.mi_instance = instance if instance != own_instance else ""
        if previous:
            contact.was_ghost = ghost_spans(previous, self._failures.lost_after, stamp.ts)
            self._devices.remove(previous)
        contact.holder = holder(registration, stamp.node)
        self._devices.add(contact, instance, stamp.ts)
        self._connections.connect(contact, self._changes)
        return contact

    def renew_without_event(self, contact: Contact, registration: Registration, stamp: Stamp) -> None:
        """Take in a REGISTER that no event brought, after everything that is known of the contact."""
        address = sip.network_address(registration.received, contact.binding.uri)
        self._changes.note(contact, stamp.ts, "re-registered", address=address)
        self._renew(contact, registration._replace(bflags=contact.registration.bflags), stamp, 0)

    def _replace(self, event: ContactEvent, stamp: Stamp, binding: Binding) -> Contact | None:
        """Let a contact that registers with another URI take the place of the one with its push parameters.

        OpenSIPS says so by an UPDATE, and no event tells of the old URI any more.
        """
        if event.name != UPDATE:
            return None
        older = find_replaced(self._devices.of_aor(binding.aor), binding)
        if older is None:
            return None
        outage = Outage(older.disconnected_at, older.alive_at, stamp.ts)
        self._ends.end(older, "replaced", stamp.ts)
        contact = self.enter(binding, event.registration, stamp, device=self._devices.by_id[older.device])
        contact.registered_at = stamp.ts
        self._changes.note(contact, stamp.ts, "re-registered", address=contact.address)
        if older.address != contact.address:
            note_move(self._changes, contact, older.address, stamp.ts, outage)
        return contact

    def _enter_registered(self, event: ContactEvent, stamp: Stamp, binding: Binding) -> Contact | None:
        if not self.admits(binding, event.registration, stamp):
            return None
        contact = self.enter(binding, event.registration, stamp)
        contact.registered_at = stamp.ts
        self._changes.note(contact, stamp.ts, "registered", address=contact.address)
        device = self._devices.by_id[contact.device]
        note_arrival(self._changes, device, contact, stamp.ts, self._failures.lost_after)
        return contact

    def _take_replica(self, contact: Contact, registration: Registration, stamp: Stamp) -> None:
        """Take over socket and holder when the node that took the REGISTER tells of it after a replica did."""
        if registration.socket and not contact.registration.socket:
            self._take(contact, registration, stamp)
            self._changes.contacts[contact] = None
        elif stamp.ts < contact.last_register_at and holder(registration, stamp.node):
            contact.holder = stamp.node  # both name a shared address, and this one had the REGISTER first
            self._changes.contacts[contact] = None

    def _note_renewal(self, contact: Contact, event: ContactEvent, ts: int) -> None:
        """Note a REGISTER. One that changes only the expiry is noted once an hour: phones may send one a minute."""
        registration = event.registration
        renewed = contact.registration._replace(expires_at=registration.expires_at, cseq=registration.cseq)
        if renewed != registration or contact.failing or ts - contact.re_register_noted_at >= HOUR_MS:
            contact.re_register_noted_at = ts
            address = sip.network_address(registration.received, event.uri)
            self._changes.note(contact, ts, "re-registered", address=address)

    def _renew(self, contact: Contact, registration: Registration, stamp: Stamp, died_at: int) -> None:
        """Take over the registration of a newer REGISTER, which is evidence of life."""
        if contact.superseded_at:
            unmark_replaced(contact, self._failures.lost_after, stamp.ts)
        old_address, alive_at, ts = contact.address, contact.alive_at, stamp.ts
        self._take(contact, registration, stamp)
        if contact.failing or contact.doubts:
            self._failures.recover(contact, ts, "register")
        if old_address and contact.address != old_address:
            note_move(self._changes, contact, old_address, ts, Outage(died_at, alive_at, ts))

    def _take(self, contact: Contact, registration: Registration, stamp: Stamp, *, names_socket: bool = True) -> None:
        """Take over a registration; a SIP instance that appears moves the contact to its device.

        The node holds the contact if it names the listening socket itself (`names_socket`): a replica does not.
        """
        old_path = contact.address, contact.registration.socket
        if is_other_phone(contact.registration, registration):
            contact.evidence.clear()  # this one may ignore OPTIONS
        self._connections.disconnect(contact, self._changes)
        contact.registration = registration
        self._connections.connect(contact, self._changes)
        new_holder = holder(registration, stamp.node) if names_socket else ""
        if old_path == (contact.address, registration.socket):
            contact.holder = contact.holder or new_holder
        else:
            contact.holder = new_holder
            contact.evidence.clear()  # what reached it on the old path says nothing of the new one
            contact.address_since = stamp.ts
        if contact.instance:
            self.move(contact, contact.instance, stamp)

    def move(self, contact: Contact, instance: str, stamp: Stamp) -> bool:
        """Move a contact to the device of a SIP instance; return whether it was elsewhere and that could be made."""
        device_id = sip.device_id(contact.binding.aor, contact.binding.uri, instance)
        if device_id == contact.device or not self._admission.admits_move(contact.binding, device_id, stamp):
            return False
        return self._devices.move(contact, instance)


def _remember_callid(contact: Contact, callid: str) -> None:
    """Keep the Call-IDs of older bindings of the URI, without the one that registers now."""
    callids = dict.fromkeys((contact.registration.callid, *contact.older_callids))
    callids.pop(callid, None)
    contact.older_callids = tuple(callids)[:OLDER_CALLIDS]
