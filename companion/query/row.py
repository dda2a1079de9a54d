"""A device at a glance: what a list says of it, and what one looks for in a list."""

from collections.abc import Sequence

import msgspec

from companion import quality
from companion.quality import Label
from companion.query.now import View
from companion.times import Json, iso
from companion.usrloc.contact import STATUSES, Contact, Device, Status, best


class Glance(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Times are epoch ms, 0 = never; `contacts` are those that did not end."""

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


def glance(device: Device, view: View) -> Glance:
    return of_statuses(device, [view.status(contact) for contact in device.contacts], view.bounds)


def of_statuses(device: Device, statuses: Sequence[Status], bounds: quality.Bounds) -> Glance:
    """The glance at a device whose contacts have these statuses."""
    current = speaker(device.contacts, statuses)
    if current is None:
        return Glance(device.id, device.aor, "", best(()), "", False, None, None, 0, 0, 0, 0)
    pinged = max(device.contacts, key=lambda contact: contact.last_latency_at)
    latency_ms = pinged.last_latency_ms
    return Glance(
        device.id,
        device.aor,
        current.node,
        best(statuses),
        current.registration.user_agent,
        bool(current.push_provider),
        latency_ms,
        None if latency_ms is None else quality.label(latency_ms, bounds),
        pinged.last_latency_at,
        max(contact.last_register_at for contact in device.contacts),
        current.consecutive_lost,
        sum(not contact.ended_at for contact in device.contacts),
    )


def speaker(contacts: Sequence[Contact], statuses: Sequence[Status]) -> Contact | None:
    """The contact that speaks for its device: of the best status, the last one alive."""
    ranked = zip(contacts, map(STATUSES.index, statuses), strict=True)
    first = min(ranked, key=lambda pair: (pair[1], -pair[0].alive_at), default=None)
    return first[0] if first else None


def row(glanced: Glance) -> Json:
    """A glance as people and machines read it."""
    told: Json = msgspec.structs.asdict(glanced)
    return told | {name: iso(told[name]) for name in ("last_latency_at", "last_register_at")}
