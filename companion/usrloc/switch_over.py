"""Recognise switch-overs: a device leaves one address and registers from another. No I/O.

Only a SIP instance makes sure that both contacts are of one device. The outage is known when the death of the old
connection came before the new REGISTER. Otherwise only an upper bound is known.
"""

from typing import Final, NamedTuple

from companion.usrloc.changes import Changes, Fields
from companion.usrloc.contact import Contact, Device, is_dead

_PLANNED_ENDS: Final = frozenset({"unregistered", "expired"})

REPLACED_MS: Final = 200
"""A DELETE and an INSERT of one REGISTER come within this time."""


class Outage(NamedTuple):
    """Hold what is known of the time between two addresses: epoch ms, 0 = not known."""

    died_at: int
    alive_at: int
    back_at: int

    @property
    def fields(self) -> Fields:
        """Return its duration in ms, or an upper bound, or nothing when the old contact never showed life."""
        if self.died_at:
            return {"outage_ms": self.back_at - self.died_at}
        return {"outage_at_most_ms": self.back_at - self.alive_at} if self.alive_at else {}


def note_arrival(changes: Changes, device: Device, contact: Contact, ts: int, lost_after: int) -> None:
    """Note a switch-over when a device's latest contact was dead, or is replaced, as this new one registered."""
    others = [other for other in device.contacts if other is not contact]
    if not device.instance or not others:
        return
    last = max(others, key=lambda other: other.alive_at)
    has_left = last.ended_by not in _PLANNED_ENDS and is_dead(last, lost_after)
    if (has_left or _is_replaced(last, ts)) and last.address != contact.address:
        note_move(changes, contact, last.address, ts, Outage(last.disconnected_at, last.alive_at, ts))


def _is_replaced(contact: Contact, ts: int) -> bool:
    """Return whether OpenSIPS deleted a contact to make room for the one that registers at this time.

    `max-contacts` with `force-registration` does so. Its AOR is never without a contact meanwhile, and no phone
    unregisters and registers again so fast.
    """
    is_at_once = 0 <= ts - contact.ended_at <= REPLACED_MS
    return contact.ended_by == "unregistered" and is_at_once and not contact.left_empty


def note_death(changes: Changes, device: Device, contact: Contact, ts: int) -> None:
    """Note a switch-over when a contact turns out dead after its device registered from elsewhere."""
    if not device.instance:
        return
    newer = [
        other
        for other in device.contacts
        if not other.ended_at and other.registered_at > contact.alive_at and other.address != contact.address
    ]
    if newer:
        first = min(newer, key=lambda other: other.registered_at)
        note_move(changes, first, contact.address, ts, Outage(0, contact.alive_at, first.registered_at))


def note_move(changes: Changes, contact: Contact, old_address: str, ts: int, outage: Outage) -> None:
    """Note that a device came to this contact from another address."""
    changes.note(contact, ts, "switched-over", **{"from": old_address, "to": contact.address, **outage.fields})
