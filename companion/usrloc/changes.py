"""What a batch of events changed, for the store to write. No I/O."""

from dataclasses import dataclass, field
from typing import NamedTuple

from companion.usrloc.contact import Contact, Device

Fields = dict[str, str | int]


class Stamp(NamedTuple):
    """Where and when an event happened: the node that said so, its cluster, epoch ms, the publisher's run."""

    node: str
    cluster: str
    ts: int
    run: int


class Sample(NamedTuple):
    """One ping of a device: `value` is its latency in ms, or for a lost one the number of the contact that lost it."""

    device: str
    ts: int
    value: int


class Entry(NamedTuple):
    """One line of a device's timeline."""

    device: str
    ts: int
    event: str
    fields: Fields


@dataclass(slots=True)
class Changes:
    """What one batch of events changed. The dicts are ordered sets."""

    answered: list[Sample] = field(default_factory=list)
    lost: list[Sample] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    answers: dict[Contact, None] = field(default_factory=dict)
    contacts: dict[Contact, None] = field(default_factory=dict)
    devices: dict[Device, None] = field(default_factory=dict)
    seen: dict[Device, int] = field(default_factory=dict)
    connected: dict[Contact, str] = field(default_factory=dict)
    disconnected: list[tuple[Contact, str]] = field(default_factory=list)
