"""Recognise ghosts: dead contacts that a newer contact of their device has replaced. No I/O."""

from typing import Final

from companion.usrloc.changes import Changes
from companion.usrloc.contact import FOR_EVER, Contact, Device, Span, is_dead

GHOST_SPANS: Final = 10
"""The number of times as a ghost that a contact keeps."""


def is_ghost(contact: Contact, lost_after: int) -> bool:
    """Return whether it is dead while a newer contact of its device has answered."""
    return bool(contact.superseded_at) and is_dead(contact, lost_after)


def ghost_spans(contact: Contact, lost_after: int, until: int = FOR_EVER) -> tuple[Span, ...]:
    """Return the times in which it was a ghost: its lost pings of those times are not its device's."""
    if not is_ghost(contact, lost_after):
        return contact.was_ghost
    return (*contact.was_ghost, (contact.superseded_at, until))[-GHOST_SPANS:]


def mark_replaced(changes: Changes, device: Device, newer: Contact, ts: int, overlap_ms: int) -> None:
    """Mark the older contacts of a SIP instance that this newer one replaced by its answer."""
    if not device.instance:
        return  # two desk phones may share the fallback id
    for older in device.contacts:
        if older is newer or older.ended_at or older.superseded_at:
            continue
        if is_replacement(older, newer, overlap_ms) and not _is_one_of_two(older, device, overlap_ms):
            older.superseded_at, older.superseded_by = ts, newer.id
            if older.failing:
                changes.contacts[older] = None


def unmark_replaced(contact: Contact, lost_after: int, ts: int) -> None:
    """End the time in which a newer contact had replaced it; keep its lost pings of that time apart."""
    contact.was_ghost = ghost_spans(contact, lost_after, ts)
    contact.superseded_at = 0
    contact.superseded_by = ""


def is_replacement(older: Contact, newer: Contact, overlap_ms: int) -> bool:
    """Return whether a newer contact of the same SIP instance stands for the same phone as an older one.

    Some phones make their instance from the AOR, so two phones may share one. They differ in their push token, or both
    show life at the same time for longer than `overlap_ms`. Independent clusters never share contacts.
    """
    if older.binding.cluster != newer.binding.cluster or older.registered_at >= newer.registered_at:
        return False
    if older.push_token and newer.push_token and older.push_token != newer.push_token:
        return False
    return older.alive_at <= newer.registered_at + overlap_ms


def _is_one_of_two(contact: Contact, device: Device, overlap_ms: int) -> bool:
    """Return whether a contact lived beside another one of its device: two phones share the SIP instance for good.

    The other one may have ended since, or be dead: it restarted with a new URI while this one slept.
    """
    return any(
        min(contact.alive_at, other.alive_at) - max(_born_at(contact), _born_at(other)) > overlap_ms
        for other in device.contacts
        if other is not contact and other.binding.cluster == contact.binding.cluster
    )


def _born_at(contact: Contact) -> int:
    """Return its first REGISTER, or the oldest sign of life that is known of it."""
    return contact.registered_at or min(filter(None, (contact.last_register_at, contact.last_latency_at)), default=0)
