"""A picture of usrloc with a clock, and events to move it on."""

from collections import defaultdict
from typing import Any, Final

from companion.opensips.events import (
    DISCONNECT,
    LATENCY,
    LOST_PING_US,
    ContactEvent,
    DisconnectEvent,
    Event,
    Registration,
)
from companion.usrloc import contact as contacts
from companion.usrloc import ghosts
from companion.usrloc.changes import Stamp, TimelineEntry
from companion.usrloc.contact import Binding, Clock, Contact, Status
from companion.usrloc.picture import Usrloc

NOW: Final = 1_795_452_109_605
LOST_AFTER: Final = 3
INTERVAL_MS: Final = 1000
PHONE: Final = "<urn:uuid:1>"
DEVICE: Final = "alice/urn:uuid:1"
OLD, NEW = "sip:alice@old.invalid;transport=ws", "sip:alice@new.invalid;transport=ws"
OLD_AT, NEW_AT, ELSEWHERE = "192.0.2.1:1111", "192.0.2.2:2222", "192.0.2.3:3333"
UNSET: Final = Registration("", "", "", "", 0, 0, "", 0, "")


def event(name: str, uri: str = OLD, at: str = OLD_AT, latency_ms: int = 0, **changes: Any) -> ContactEvent:
    """Return a contact event; `at` is the far end of its WebSocket."""
    aor = changes.pop("aor", "alice")
    defaults: dict[str, Any] = {"received": f"sip:{at};transport=ws", "callid": uri, "cseq": 1, "attr": PHONE}
    registration = UNSET._replace(**defaults | changes)
    return ContactEvent(name, "location", aor, uri, registration, latency_ms * 1000)


def answer(latency_ms: int = 40, **where: Any) -> ContactEvent:
    return event(LATENCY, latency_ms=latency_ms, **where)


def loss(**where: Any) -> ContactEvent:
    return event(LATENCY, latency_ms=LOST_PING_US // 1000, **where)


def disconnect(at: str = OLD_AT) -> DisconnectEvent:
    return DisconnectEvent(DISCONNECT, at, "ws")


class World:
    """Hold a picture and a clock; `apply` moves both on, by default a second for each event."""

    def __init__(self) -> None:
        self.usrloc = Usrloc(LOST_AFTER, INTERVAL_MS)
        self.now = NOW

    def apply(self, *events: Event, node: str = "n", after_ms: int = 1000) -> None:
        for step in events:
            self.now += after_ms
            self.usrloc.apply(step, Stamp(node, "c", self.now, {"n": 7, "m": 9}[node]))

    def contact(self, uri: str = OLD) -> Contact:
        return self.usrloc.devices.contacts[Binding("c", "location", "alice", uri)]

    def status(self, uri: str = OLD) -> Status:
        return contacts.status(self.contact(uri), Clock(self.now, 120_000, LOST_AFTER), feed_alive=True)

    def is_ghost(self, uri: str = OLD) -> bool:
        return ghosts.is_ghost(self.contact(uri), LOST_AFTER)

    def timeline(self, *events: str) -> list[TimelineEntry]:
        return [entry for entry in self.usrloc.changes.entries if not events or entry.event in events]

    def lines(self) -> list[str]:
        return [entry.event for entry in self.timeline()]

    def switch_overs(self) -> list[dict[str, str | int]]:
        return [
            {key: entry.fields[key] for key in entry.fields if key != "contact"}
            for entry in self.timeline("switched-over")
        ]


def assert_consistent(usrloc: Usrloc) -> None:
    """Assert that each contact is in one device and in the index, and each live connection is indexed."""
    owned = [contact for device in usrloc.devices.by_id.values() for contact in device.contacts]
    assert len(owned) == len(usrloc.devices.contacts)
    assert set(owned) == set(usrloc.devices.contacts.values())
    assert all(contact.binding == binding for binding, contact in usrloc.devices.contacts.items())
    assert all(contact.device == device.id for device in usrloc.devices.by_id.values() for contact in device.contacts)
    connections: dict[tuple[str, str], set[Contact]] = defaultdict(set)
    for contact in owned:
        if contact.connection and not contact.ended_at:
            connections[contact.binding.cluster, contact.connection].add(contact)
    assert dict(connections) == {key: set(on_it) for key, on_it in usrloc._connections._contacts.items()}
