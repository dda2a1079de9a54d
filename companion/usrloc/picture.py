"""Keep a picture of what the nodes hold in usrloc, moved on by their events. No I/O.

`Usrloc.apply` takes one event and collects in `changes` what has to be stored. The writer takes `changes` away, batch
by batch. Contacts that are stored but not in memory must be put into `devices` first, or they count as new.
"""

from collections import Counter

from companion.opensips.events import (
    AOR_DELETE,
    DELETE,
    LATENCY,
    REFRESH,
    ContactEvent,
    DisconnectEvent,
    Event,
)
from companion.usrloc.admission import Admission, AdmissionLimits
from companion.usrloc.changes import Changes, Stamp
from companion.usrloc.connections import Connections
from companion.usrloc.contact import Binding, Contact
from companion.usrloc.corrections import Corrections
from companion.usrloc.devices import Devices
from companion.usrloc.ends import Ends, is_late
from companion.usrloc.failures import Failures
from companion.usrloc.intervals import Intervals
from companion.usrloc.pings import PingResults
from companion.usrloc.registrar import Registrar
from companion.usrloc.registrations import is_older_binding


class Usrloc:
    """Move the contacts and devices in memory on, event by event. `ignored` counts events without effect, by reason."""

    def __init__(self, lost_after: int, interval_ms: int, limits: AdmissionLimits | None = None) -> None:
        self.changes = Changes()
        self.ignored: Counter[str] = Counter()
        self.intervals = Intervals(interval_ms)
        self._connections = Connections()
        self.devices = Devices(self.changes, self._connections)
        self.admission = Admission(limits or AdmissionLimits(), self.devices)
        self._failures = Failures(lost_after, self.devices, self.changes, self.ignored)
        self.pings = PingResults(lost_after, self.intervals, self.devices, self.changes, self._failures)
        self.ends = Ends(self.devices, self._connections, self.changes, self.ignored)
        self._registrar = Registrar(self.admission, self._connections, self.changes, self._failures, self.ends)
        self.corrections = Corrections(self.devices, self.changes, self._registrar, self.ends)

    def apply(self, event: Event, stamp: Stamp) -> None:
        """Move the picture on by one event."""
        if isinstance(event, ContactEvent):
            self._apply_contact(event, stamp)
        elif isinstance(event, DisconnectEvent):
            self._apply_disconnect(event, stamp)
        elif event.name == AOR_DELETE:
            self.ends.empty(event, stamp)

    def _apply_contact(self, event: ContactEvent, stamp: Stamp) -> None:
        binding = Binding(stamp.cluster, event.domain, event.aor, event.uri)
        contact = self.devices.find(binding)
        if contact is not None and (contact.run == stamp.run and stamp.ts <= contact.changed_at):
            return  # applied before: a batch that was sent again
        if contact is not None and contact.ended_at and is_late(contact, event, stamp):
            self.ignored["after_end"] += 1
            return
        if event.name == LATENCY:
            self._apply_ping(event, stamp, binding, contact)
        elif event.name == DELETE:
            self.ends.delete(event, stamp, contact)
        elif event.name == REFRESH:
            self._apply_refresh(stamp, contact)
        else:
            self._registrar.register(event, stamp, binding, contact)

    def _apply_ping(self, event: ContactEvent, stamp: Stamp, binding: Binding, contact: Contact | None) -> None:
        if contact is None or contact.ended_at:
            contact = self._registrar.discover(event, stamp, binding)
            if contact is None:
                return
        elif is_older_binding(contact, event.registration):
            self._apply_ping_of_older_binding(event, stamp, contact)
            return
        else:
            self._registrar.follow(contact, event.registration, stamp)
        self.pings.add(contact, event.latency_us, stamp.ts, stamp.node, stamp.run)

    def _apply_ping_of_older_binding(self, event: ContactEvent, stamp: Stamp, contact: Contact) -> None:
        """Take in an answer at the contact's address. A loss there may be of a phone that has moved."""
        if event.lost or event.registration.received != contact.registration.received:
            self.ignored["older_binding"] += 1
        else:
            self.pings.add(contact, event.latency_us, stamp.ts, stamp.node, stamp.run)

    def _apply_refresh(self, stamp: Stamp, contact: Contact | None) -> None:
        """Note that OpenSIPS itself asked for a push (registrar pn_enable)."""
        if contact and not contact.ended_at:
            self.changes.note(contact, stamp.ts, "push-sent", by="opensips")
            contact.changed_at = stamp.ts
            contact.run = stamp.run
            self.changes.contacts[contact] = None

    def _apply_disconnect(self, event: DisconnectEvent, stamp: Stamp) -> None:
        contacts = self._connections.matching(event, stamp)
        if len(contacts) > 1 or self._connections.is_crowded(stamp.cluster, event.address):
            self.ignored["shared_connection"] += 1
            return  # one connection for several lines, or a proxy: it says too little of any of them
        for contact in contacts:
            is_old = contact.run == stamp.run and stamp.ts < contact.changed_at
            if not contact.disconnected_at and not is_old:
                self._failures.disconnect(contact, event.address, stamp)
