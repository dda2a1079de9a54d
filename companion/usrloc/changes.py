"""Collect what a batch of events changed, for the store to write. No I/O."""

from dataclasses import dataclass, field, replace
from typing import NamedTuple

from companion.usrloc.contact import Contact, Device

Fields = dict[str, str | int]


class Stamp(NamedTuple):
    """Name where and when an event happened: node, its cluster, time (epoch ms) and the publisher's run."""

    node: str
    cluster: str
    ts: int
    run: int


Sample = tuple[str, int, int]
"""One ping: the device's id, epoch ms, and the latency in ms; of a lost ping, the number of its contact.

A plain tuple: one is made of each ping, and a named one takes five times as long.
"""


class TimelineEntry(NamedTuple):
    """Hold one line of a device's timeline."""

    device: str
    ts: int
    event: str
    fields: Fields


@dataclass(slots=True)
class Changes:
    """Hold what one batch of events changed. The dicts are ordered sets.

    `answers`: contacts with a newer answered ping. `active`: devices that an event spoke of, and when (epoch ms).
    `dropped` and `removed`: contacts and devices to be deleted, by id.
    """

    answered: list[Sample] = field(default_factory=list)
    lost: list[Sample] = field(default_factory=list)
    entries: list[TimelineEntry] = field(default_factory=list)
    answers: dict[Contact, None] = field(default_factory=dict)
    contacts: dict[Contact, None] = field(default_factory=dict)
    devices: dict[Device, None] = field(default_factory=dict)
    active: dict[Device, int] = field(default_factory=dict)
    connected: dict[Contact, str] = field(default_factory=dict)
    disconnected: list[tuple[Contact, str]] = field(default_factory=list)
    dropped: dict[str, Contact] = field(default_factory=dict)
    removed: dict[str, Device] = field(default_factory=dict)
    being_written: "Changes | None" = field(default=None, compare=False, repr=False)
    """The batch that was taken last, until it is stored."""

    def note(self, contact: Contact, ts: int, event: str, **fields: str | int) -> None:
        """Add a line about a contact to its device's timeline."""
        self.entries.append(TimelineEntry(contact.device, ts, event, {"contact": contact.id, **fields}))

    def aors(self) -> set[str]:
        """Return the AORs of whose devices or contacts anything is not stored yet."""
        devices = {device.aor for own in (self.active, self.devices) for device in own}
        aors = devices.union(contact.binding.aor for own in (self.contacts, self.connected) for contact in own)
        return aors | self.being_written.aors() if self.being_written else aors

    def removals(self) -> set[str]:
        """Return the ids of the devices that are not deleted in the store yet."""
        return {*self.removed, *(self.being_written.removed if self.being_written else ())}

    def take(self) -> "Changes":
        """Return what was collected, and begin an empty batch."""
        batch = replace(self, being_written=None)
        Changes.__init__(self, being_written=batch)
        return batch

    def settle(self) -> None:
        """Note that the batch that was taken last is stored."""
        self.being_written = None
