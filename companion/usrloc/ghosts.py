"""Mark contacts that a newer contact of their device has replaced. No I/O."""

from companion.usrloc.changes import Changes
from companion.usrloc.contact import Contact, Device, ghost_spans, is_replacement


def mark_replaced(changes: Changes, device: Device, newer: Contact, ts: int, overlap_ms: int) -> None:
    """Mark the older contacts of a SIP instance that this newer one replaced by its answer."""
    if not device.instance:
        return  # two desk phones may share the fallback id
    for older in device.contacts:
        if older is newer or older.ended_at or older.superseded_at:
            continue
        if is_replacement(older, newer, overlap_ms):
            older.superseded_at, older.superseded_by = ts, newer.id
            if older.failing:
                changes.contacts[older] = None


def unmark_replaced(contact: Contact, lost_after: int, ts: int) -> None:
    """End the time in which a newer contact had replaced it; keep its lost pings of that time apart."""
    if contact.superseded_at:
        contact.was_ghost = ghost_spans(contact, lost_after, ts)
        contact.superseded_at = 0
        contact.superseded_by = ""
