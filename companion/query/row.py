"""Make the row of a device in a list, and the glance at it that lists are searched by."""

from collections.abc import Sequence
from typing import TypeVar

import msgspec

from companion import quality
from companion.quality import Label
from companion.query.now import View
from companion.text import Json
from companion.times import iso
from companion.usrloc.brief import BriefContact, BriefDevice, abridge
from companion.usrloc.contact import STATUSES, Contact, Device, Status, best

C = TypeVar("C", Contact, BriefContact)


class Glance(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Hold the fields of a device's row. Times are epoch ms, 0 = never; `contacts` counts those that did not end."""

    device: str
    aor: str
    node: str
    status: Status
    user_agent: str
    push: bool
    last_latency_ms: int | None
    quality: Label | None
    last_latency_at: int
    last_register_at: int
    consecutive_lost: int
    contacts: int


def make_glance(device: Device, view: View) -> Glance:
    """Make the glance at a device."""
    return make_glance_of(abridge(device), [view.status(contact) for contact in device.contacts], view.bounds)


def make_glance_of(device: BriefDevice, statuses: Sequence[Status], bounds: quality.Bounds) -> Glance:
    """Make the glance at a device whose contacts have these statuses."""
    current = select_speaker(device.contacts, statuses)
    if current is None:
        return Glance(device.id, device.aor, "", best(()), "", False, None, None, 0, 0, 0, 0)
    pinged, last_register_at = current, current.last_register_at
    if len(device.contacts) > 1:  # few have more than one, and a large fleet is looked at every few seconds
        pinged = max(device.contacts, key=lambda contact: contact.last_latency_at)
        last_register_at = max(contact.last_register_at for contact in device.contacts)
    latency_ms = pinged.last_latency_ms
    return Glance(
        device.id,
        device.aor,
        current.node,
        best(statuses),
        current.user_agent,
        current.has_push,
        latency_ms,
        None if latency_ms is None else quality.label(latency_ms, bounds),
        pinged.last_latency_at,
        last_register_at,
        current.consecutive_lost,
        sum(not contact.ended_at for contact in device.contacts),
    )


def select_speaker(contacts: Sequence[C], statuses: Sequence[Status]) -> C | None:
    """Return the contact that stands for its device: of the best status, the last one alive."""
    if len(contacts) == 1:
        return contacts[0]
    ranked = zip(contacts, map(STATUSES.index, statuses), strict=True)
    first = min(ranked, key=lambda pair: (pair[1], -pair[0].alive_at), default=None)
    return first[0] if first else None


def render_row(glance: Glance) -> Json:
    """Return the row of a device with ISO 8601 times."""
    fields: Json = msgspec.structs.asdict(glance)
    return fields | {name: iso(fields[name]) for name in ("last_latency_at", "last_register_at")}
