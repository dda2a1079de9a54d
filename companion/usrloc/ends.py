"""End contacts: by an event, or because they expired. No I/O."""

from collections import Counter
from typing import Final

from companion.opensips.events import LATENCY, AorEvent, ContactEvent
from companion.usrloc.changes import Changes, Stamp
from companion.usrloc.connections import Connections
from companion.usrloc.contact import Binding, Contact
from companion.usrloc.devices import Devices
from companion.usrloc.registrations import is_overtaken, is_same_register, may_be_older_binding

LATE_MS: Final = 10_000
"""Events about a contact that arrive this soon after its end were under way when it ended."""
GUESSED_ENDS: Final = frozenset({"expired", "gone", "replaced"})
REMOVED_BEHIND_LOSS_MS: Final = 1_000
"""A DELETE this soon after a lost ping is a removal by OpenSIPS itself (nathelper remove_on_timeout)."""


class Ends:
    """End contacts, and count by node those that OpenSIPS itself removed after lost pings (`removals`).

    `own_removals` holds the ids of contacts that the companion removed a moment ago.
    """

    def __init__(self, devices: Devices, connections: Connections, changes: Changes, ignored: Counter[str]) -> None:
        self.removals: Counter[str] = Counter()
        self.own_removals: set[str] = set()
        self._ignored = ignored
        self._latest: dict[str, Binding] = {}
        self._devices = devices
        self._connections = connections
        self._changes = changes

    def delete(self, event: ContactEvent, stamp: Stamp, contact: Contact | None) -> None:
        """End a contact of which OpenSIPS says that it is no more, unless it registered again meanwhile."""
        if contact is None or contact.ended_at or is_overtaken(contact, event.registration, stamp):
            return
        if may_be_older_binding(contact, event.registration):
            self._ignored["older_binding"] += 1
            return
        contact.run = stamp.run
        reason = self._reason(event, stamp, contact)
        self.removals[stamp.node] += reason == "removed-after-lost-pings"
        self.end(contact, reason, stamp.ts)
        self._latest[stamp.node] = contact.binding

    def _reason(self, event: ContactEvent, stamp: Stamp, contact: Contact) -> str:
        if contact.failing and contact.id in self.own_removals:
            return "removed"
        if event.lost and stamp.ts - contact.last_lost_at <= REMOVED_BEHIND_LOSS_MS:
            return "removed-after-lost-pings"
        return "expired" if 0 < contact.registration.expires_at <= stamp.ts else "unregistered"

    def empty(self, event: AorEvent, stamp: Stamp) -> None:
        """Note that an AOR has no contact any more: nothing took the place of the last one."""
        binding = self._latest.get(stamp.node)
        if binding and (binding.domain, binding.aor) == (event.domain, event.aor):
            contact = self._devices.find(binding)
            if contact and contact.ended_at:
                contact.left_empty = True

    def expire(self, contact: Contact, before: int, now: int) -> bool:
        """End a contact that expired before a time (epoch ms); return whether it did."""
        due = not contact.ended_at and 0 < contact.expires_at <= before
        if due:
            self.end(contact, "expired", max(now, contact.changed_at + 1))
        elif not contact.ended_at:
            self._changes.contacts[contact] = None  # the index has an earlier time, of before its last ping
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
    """Return whether an event was under way when OpenSIPS ended the contact: a ping, or the last REGISTER again.

    An end that nobody told us of was only a guess: any later event shows that it was wrong.
    """
    if contact.ended_by in GUESSED_ENDS or event.registration.callid != contact.registration.callid:
        return False
    is_repeated = event.name == LATENCY or is_same_register(contact.registration, event.registration)
    return is_repeated and stamp.ts - contact.ended_at < LATE_MS
