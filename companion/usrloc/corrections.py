"""Correct the picture by an MI dump of some time ago: events since then count more. No I/O."""

from companion import sip
from companion.opensips.events import Registration
from companion.usrloc.changes import Changes, Stamp
from companion.usrloc.contact import Binding, Contact
from companion.usrloc.devices import Devices
from companion.usrloc.ends import Ends
from companion.usrloc.registrar import Registrar
from companion.usrloc.registrations import is_same_registration


class Corrections:
    """Correct contacts by what OpenSIPS holds. Each method returns whether anything changed."""

    def __init__(self, devices: Devices, changes: Changes, registrar: Registrar, ends: Ends) -> None:
        self._devices = devices
        self._changes = changes
        self._registrar = registrar
        self._ends = ends

    def end_missing(self, binding: Binding, stamp: Stamp) -> bool:
        """End a live contact that OpenSIPS no longer had at `stamp.ts`; return whether anything changed."""
        contact = self._devices.find(binding)
        if contact is None or contact.ended_at or contact.changed_at >= stamp.ts:
            return False
        expired = 0 < contact.expires_at <= stamp.ts
        contact.run = stamp.run
        self._ends.end(contact, "expired" if expired else "gone", self._behind(contact, stamp.ts))
        return True

    def adopt(
        self,
        binding: Binding,
        registration: Registration,
        stamp: Stamp,
        *,
        instance: str = "",
        latency_ms: int | None = None,
    ) -> bool:
        """Take over a contact that OpenSIPS had at `stamp.ts`, or its newer registration; return whether it changed.

        `registration.bflags` does not count: MI names the flags instead of numbering them. `latency_ms` is of a ping at
        an unknown time, so it is no evidence of life.
        """
        contact = self._devices.find(binding)
        if contact is not None and contact.changed_at >= stamp.ts:
            return False
        registration, socket = registration._replace(socket=""), registration.socket
        if contact is None or contact.ended_at:
            if not self._registrar.admits(binding, registration, stamp, instance, is_reconciled=True):
                return False
            contact = self._registrar.enter(binding, registration, stamp, instance)
            contact.last_latency_ms = latency_ms
            contact.changed_at = self._behind(contact, stamp.ts)
            self._changes.note(contact, contact.changed_at, "discovered", address=contact.address)
        elif is_same_registration(contact.registration, registration):
            return False
        else:
            contact.changed_at = self._behind(contact, stamp.ts)
            self._registrar.renew_without_event(contact, registration, stamp._replace(ts=contact.changed_at))
            self.identify(binding, instance, stamp)
        contact.advertised_socket = socket
        contact.run = stamp.run
        self._changes.contacts[contact] = None
        self._changes.active[self._devices.by_id[contact.device]] = contact.changed_at
        return True

    def identify(self, binding: Binding, instance: str, stamp: Stamp) -> bool:
        """Move a contact to the device of the SIP instance that MI tells; return whether it moved.

        Events may tell none, or that of another contact in the same REGISTER.
        """
        contact = self._devices.find(binding)
        if not instance or contact is None or contact.ended_at or not self._registrar.move(contact, instance, stamp):
            return False
        own_instance = sip.contact_instance(contact.registration.attr, binding.uri)
        contact.mi_instance = instance if instance != own_instance else ""
        self._changes.contacts[contact] = None
        return True

    def _behind(self, contact: Contact, ts: int) -> int:
        """Return `ts`, or a time just behind the device's timeline, which takes no entry older than its last."""
        contacts = self._devices.by_id[contact.device].contacts
        return max(ts, 1 + max(max(other.changed_at, other.disconnected_at) for other in contacts))
