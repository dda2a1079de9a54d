"""Count what fails: lost pings and disconnects of contacts, until they recover. No I/O."""

from collections import Counter

from companion.usrloc.changes import Changes, Stamp
from companion.usrloc.contact import Contact
from companion.usrloc.devices import Devices
from companion.usrloc.evidence import NodeEvidence
from companion.usrloc.switch_over import note_death


class Failures:
    """Begin, count and end the failures of contacts; `lost_after` lost pings in a row make one stale."""

    def __init__(self, lost_after: int, devices: Devices, changes: Changes, ignored: Counter[str]) -> None:
        self.lost_after = lost_after
        self._devices = devices
        self._changes = changes
        self._ignored = ignored

    def add_loss(self, contact: Contact, node: str, evidence: NodeEvidence, ts: int) -> None:
        """Take in a lost ping that counts in the evidence of its node."""
        self._changes.contacts[contact] = None
        if contact.reach(node) == "no":
            self._doubt(contact, ts)
            return
        contact.node = node
        self._changes.lost.append((contact.device, ts, contact.number))
        contact.last_lost_at = ts
        if evidence.lost > contact.consecutive_lost:
            self._count_loss(contact, evidence, ts)

    def disconnect(self, contact: Contact, address: str, stamp: Stamp) -> None:
        """Take in the end of a contact's connection. `changed_at` stays: its own event may have the same time."""
        contact.disconnected_at = stamp.ts
        contact.disconnected_by = stamp.node
        self._changes.note(contact, stamp.ts, "disconnected", address=address)
        if contact.consecutive_lost < self.lost_after:
            self._note_death(contact, stamp.ts)
        self._changes.contacts[contact] = None

    def recover(self, contact: Contact, ts: int, by: str) -> None:
        """End a run of lost pings on every node, or withdraw a disconnect."""
        if contact.failing:
            since = min(filter(None, (contact.lost_since, contact.disconnected_at)))
            self._changes.note(contact, ts, "recovered", by=by, lost=contact.consecutive_lost, after_ms=ts - since)
        contact.consecutive_lost = contact.lost_since = contact.disconnected_at = 0
        contact.doubts = contact.doubted_at = 0
        contact.disconnected_by = ""
        for evidence in contact.evidence.values():
            evidence.lost = evidence.lost_since = 0
        self._changes.contacts[contact] = None

    def _doubt(self, contact: Contact, ts: int) -> None:
        """Count a lost ping of a node that can not reach the contact: no evidence, but a reason to ask its holder."""
        self._ignored["not_reachable_from_node"] += 1
        contact.doubts += 1
        contact.doubted_at = contact.doubted_at or ts

    def _count_loss(self, contact: Contact, evidence: NodeEvidence, ts: int) -> None:
        contact.consecutive_lost = evidence.lost
        contact.lost_since = contact.lost_since or evidence.lost_since
        if contact.consecutive_lost == 1:
            self._changes.note(contact, ts, "lost")
        if contact.consecutive_lost == self.lost_after:
            self._changes.note(contact, ts, "stale", lost=contact.consecutive_lost)
            if not contact.disconnected_at:
                self._note_death(contact, ts)

    def _note_death(self, contact: Contact, ts: int) -> None:
        note_death(self._changes, self._devices.by_id[contact.device], contact, ts)
