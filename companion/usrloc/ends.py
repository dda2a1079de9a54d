"""End contacts: by an event, or because they expired. No I/O."""

from collections import Counter
from typing import Final

from companion.opensips.events import LATENCY, ContactEvent
from companion.usrloc.changes import Changes, Stamp
from companion.usrloc.connections import Connections
from companion.usrloc.contact import Contact
from companion.usrloc.devices import Devices
from companion.usrloc.registrations import is_overtaken, is_same_register

LATE_MS: Final = 10_000
"""Events about a contact that arrive this soon after its end were under way when it ended."""
REMOVED_BEHIND_LOSS_MS: Final = 1_000
"""A DELETE this soon after a lost ping is a removal by OpenSIPS itself (nathelper remove_on_timeout)."""


class Ends:
    """End contacts, and count by node those that OpenSIPS itself removed after lost pings (`removals`)."""

    def __init__(self, devices: Devices, connections: Connections, changes: Changes) -> None:
        self.removals: Counter[str] = Counter()
        self._devices = devices
        self._connections = connections
        self._changes = changes

    def delete(self, event: ContactEvent, stamp: Stamp, contact: Contact | None) -> None:
        """End a contact of which OpenSIPS says that it is no more, unless it registered again meanwhile."""
        if contact is None or contact.ended_at or is_overtaken(contact, event.registration, stamp):
            return
        contact.run = stamp.run
        expires_at = contact.registration.expires_at
        if event.lost and stamp.ts - contact.last_lost_at <= REMOVED_BEHIND_LOSS_MS:
            self.removals[stamp.node] += 1
            self.end(contact, "removed-after-lost-pings", stamp.ts)
        elif 0 < expires_at <= stamp.ts:
            self.end(contact, "expired", stamp.ts)
        else:
            self.end(contact, "unregistered", stamp.ts)

    def expire(self, contact: Contact, before: int, now: int) -> bool:
        """End a contact that expired before a time (epoch ms); return whether it did."""
        due = not contact.ended_at and 0 < contact.registration.expires_at <= before
        if due:
            self.end(contact, "expired", max(now, contact.changed_at + 1))
        return due

    def end(self, contact: Contact, reason: str, ts: int) -> None:
        """End a live contact."""
        self._connections.disconnect(contact, self._changes)
        contact.ended_at = contact.changed_at = ts
        contact.ended_by = reason
        self._changes.note(contact, ts, reason, address=contact.address)
        self._changes.contacts[contact] = None
        self._changes.answers.pop(contact, None)
        self._changes.active[self._devices.by_id[contact.device]] = ts


def is_late(contact: Contact, event: ContactEvent, stamp: Stamp) -> bool:
    """Return whether an event was under way when the contact ended: a ping, or the last REGISTER again."""
    is_repeated = event.name == LATENCY or is_same_register(contact.registration, event.registration)
    return is_repeated and stamp.ts - contact.ended_at < LATE_MS
