"""What reconciling says of contacts: it is right unless an event told otherwise since."""

import pytest

from companion.opensips.events import (
    DELETE,
    DISCONNECT,
    INSERT,
    LATENCY,
    LOST_PING_US,
    UPDATE,
    ContactEvent,
    DisconnectEvent,
    Registration,
)
from companion.usrloc.changes import Stamp, TimelineEntry
from companion.usrloc.contact import Binding, Clock, Contact, Status, status
from companion.usrloc.picture import Usrloc

NOW = 1_795_452_109_605
URI = "sip:alice@192.0.2.1:5060"
BINDING = Binding("c", "location", "alice", URI)
REGISTRATION = Registration("sip:192.0.2.1:4711;transport=ws", "", "Phone", "", 14, NOW + 600_000, "call", 3, "")
INSTANCE = "urn:uuid:1"
BY_USER, BY_INSTANCE = "alice/alice", f"alice/{INSTANCE}"
LOST_AFTER = 3
INTERVAL_MS = 1000


def stamp(after_ms: int) -> Stamp:
    return Stamp("n", "c", NOW + after_ms, 7)


class World:
    """A Usrloc that hears events of one contact, at times given in ms after NOW."""

    def __init__(self) -> None:
        self.usrloc = Usrloc(LOST_AFTER, INTERVAL_MS)

    def tell(self, name: str, at: int, latency_ms: int = 0, uri: str = URI, **changes: object) -> None:
        registration = REGISTRATION._replace(**changes)  # type: ignore[arg-type]
        self.usrloc.apply(ContactEvent(name, "location", "alice", uri, registration, latency_ms * 1000), stamp(at))

    def lose(self, at: int) -> None:
        self.tell(LATENCY, at, LOST_PING_US // 1000)

    @property
    def contact(self) -> Contact:
        return self.usrloc.devices.contacts[BINDING]

    def status(self, at: int) -> Status:
        return status(self.contact, Clock(NOW + at, 120_000, LOST_AFTER), feed_alive=True)

    def timeline(self) -> list[TimelineEntry]:
        return self.usrloc.changes.entries

    def lines(self) -> list[str]:
        return [entry.event for entry in self.timeline()]

    def changed(self) -> bool:
        """Whether there is anything to write since the last time this was asked."""
        changes = self.usrloc.changes.take()
        return bool(changes.entries or changes.contacts or changes.devices or changes.connected)


@pytest.fixture
def world() -> World:
    return World()


# Gone


def test_gone(world: World) -> None:
    """A contact that OpenSIPS no longer has is offline from then on, with a line in the timeline."""
    world.tell(INSERT, 0)
    assert world.usrloc.corrections.end_missing(BINDING, stamp(1000))
    assert (world.contact.ended_by, world.contact.ended_at, world.status(1000)) == ("gone", NOW + 1000, "offline")
    assert world.lines() == ["registered", "gone"]


@pytest.mark.parametrize("name", [UPDATE, LATENCY])
def test_gone_but_heard_of_since(world: World, name: str) -> None:
    """A contact that registered or answered since OpenSIPS was asked stays as it is."""
    world.tell(INSERT, 0)
    world.tell(name, 1000, 40, cseq=4)
    world.changed()
    assert not world.usrloc.corrections.end_missing(BINDING, stamp(1000))
    assert not world.changed()
    assert world.status(1000) == "online"


def test_gone_twice(world: World) -> None:
    """The same correction again changes nothing, nor does one of a contact nobody knows."""
    world.tell(INSERT, 0)
    assert world.usrloc.corrections.end_missing(BINDING, stamp(1000))
    world.changed()
    assert not world.usrloc.corrections.end_missing(BINDING, stamp(1000))
    assert not world.usrloc.corrections.end_missing(BINDING, stamp(9000))
    assert not world.usrloc.corrections.end_missing(BINDING._replace(aor="bob"), stamp(1000))
    assert not world.changed()


def test_gone_and_expired(world: World) -> None:
    """One that had expired by then is called expired."""
    world.tell(INSERT, 0, expires_at=NOW + 500)
    assert world.usrloc.corrections.end_missing(BINDING, stamp(1000))
    assert world.contact.ended_by == "expired"


def test_gone_then_registered(world: World) -> None:
    """A REGISTER after that makes a new contact, and the word of a removal that was under way changes nothing."""
    world.tell(INSERT, 0)
    world.usrloc.corrections.end_missing(BINDING, stamp(1000))
    world.tell(DELETE, 1100)
    assert world.contact.ended_by == "gone"
    world.tell(INSERT, 1200, callid="new")
    assert world.status(1200) == "online"


def test_gone_behind_the_devices_other_contacts(world: World) -> None:
    """A line that is told late comes behind those the device's timeline has, which takes no older ones."""
    other = URI.replace("5060", "5070")
    world.tell(INSERT, 0)
    world.tell(INSERT, 5000, uri=other, received="sip:192.0.2.1:4712;transport=ws")
    world.usrloc.apply(DisconnectEvent(DISCONNECT, "192.0.2.1:4712", "ws"), stamp(6000))
    assert world.usrloc.corrections.end_missing(BINDING, stamp(1000))
    assert [(entry.event, entry.ts - NOW) for entry in world.timeline()][-2:] == [
        ("disconnected", 6000),
        ("gone", 6001),
    ]


# Found


def test_found(world: World) -> None:
    """A contact nobody told of appears, of its device, with OpenSIPS' last latency, and nothing says that it lives."""
    assert world.usrloc.corrections.adopt(BINDING, REGISTRATION, stamp(0), instance=INSTANCE, latency_ms=40)
    contact = world.contact
    assert (contact.device, contact.last_latency_ms, contact.last_latency_at) == (BY_INSTANCE, 40, 0)
    assert (contact.alive_at, contact.consecutive_lost) == (0, 0)
    assert world.status(0) == "unknown"
    assert world.lines() == ["discovered"]
    assert not world.usrloc.changes.answered
    world.tell(LATENCY, 1000, 50)
    assert (world.status(1000), world.contact.device) == ("online", BY_INSTANCE)


def test_found_twice(world: World) -> None:
    """The same correction again changes nothing, and neither does one from a later dump with the same registration."""
    world.usrloc.corrections.adopt(BINDING, REGISTRATION, stamp(0))
    world.changed()
    assert not world.usrloc.corrections.adopt(BINDING, REGISTRATION, stamp(0))
    assert not world.usrloc.corrections.adopt(BINDING, REGISTRATION, stamp(5000))
    assert not world.changed()


def test_found_what_had_ended(world: World) -> None:
    """A contact we think ended is there again, unless it ended since OpenSIPS was asked."""
    world.tell(INSERT, 0)
    world.tell(DELETE, 1000)
    assert not world.usrloc.corrections.adopt(BINDING, REGISTRATION, stamp(1000))
    assert world.status(1000) == "offline"
    assert world.usrloc.corrections.adopt(BINDING, REGISTRATION._replace(cseq=9), stamp(2000))
    assert world.status(2000) == "unknown"
    assert world.lines() == ["registered", "unregistered", "discovered"]


def test_found_with_a_newer_registration(world: World) -> None:
    """A REGISTER that was missed brings its address, ends the losses before it, and leaves the flags we know."""
    world.tell(INSERT, 0)
    for at in (1000, 2000, 3000):
        world.lose(at)
    assert world.status(3000) == "stale"
    newer = REGISTRATION._replace(cseq=4, received="sip:192.0.2.9:1;transport=ws", bflags=0)
    assert world.usrloc.corrections.adopt(BINDING, newer, stamp(5000))
    contact = world.contact
    assert (contact.registration, contact.consecutive_lost) == (newer._replace(bflags=14), 0)
    assert contact.alive_at == NOW
    assert world.lines()[-3:] == ["re-registered", "recovered", "switched-over"]
    assert world.timeline()[-1].fields["outage_at_most_ms"] == 5000
    world.usrloc.apply(DisconnectEvent(DISCONNECT, "192.0.2.1:4711", "ws"), stamp(6000))
    assert world.status(6000) != "stale"


def test_found_but_heard_of_since(world: World) -> None:
    """What an event told since OpenSIPS was asked stands against the dump."""
    world.tell(INSERT, 1000, cseq=5)
    assert not world.usrloc.corrections.adopt(BINDING, REGISTRATION._replace(cseq=4), stamp(1000))
    assert world.contact.registration.cseq == 5


def test_events_from_before_are_old(world: World) -> None:
    """An event from before the dump that comes behind its correction changes nothing any more."""
    world.usrloc.corrections.adopt(BINDING, REGISTRATION, stamp(5000))
    world.changed()
    world.tell(DELETE, 4000)
    assert world.status(5000) == "unknown"
    assert not world.changed()


# Identified


def test_identified(world: World) -> None:
    """A contact whose events name no instance moves to the instance's device, and no later event moves it back."""
    world.tell(INSERT, 0)
    assert world.contact.device == BY_USER
    assert world.usrloc.corrections.identify(BINDING, INSTANCE, stamp(0))
    assert not world.usrloc.corrections.identify(BINDING, INSTANCE, stamp(0))
    world.tell(LATENCY, 1000, 40)
    world.tell(UPDATE, 2000, cseq=4)
    assert world.contact.device == BY_INSTANCE
    world.tell(DELETE, 3000)
    assert not world.usrloc.corrections.identify(BINDING, "urn:uuid:2", stamp(3000))
    world.tell(INSERT, 20_000, callid="other")
    assert world.contact.device == BY_INSTANCE
    assert world.usrloc.devices.by_id[BY_INSTANCE].instance == INSTANCE
    assert not world.usrloc.devices.by_id[BY_USER].contacts
    assert [device for device, _, _ in world.usrloc.changes.answered] == [BY_INSTANCE]


def test_two_contacts_in_one_register(world: World) -> None:
    """Events tell the first contact's instance for both: MI is right, and no later event moves the contact back."""
    world.tell(INSERT, 0, attr="<urn:uuid:2>")
    assert world.usrloc.corrections.identify(BINDING, INSTANCE, stamp(0))
    world.tell(LATENCY, 1000, 40, attr="<urn:uuid:2>")
    world.tell(UPDATE, 2000, cseq=4, attr="<urn:uuid:2>")
    assert (world.contact.device, world.contact.instance) == (BY_INSTANCE, INSTANCE)


def test_identified_with_a_newer_registration(world: World) -> None:
    """A registration that was missed brings the instance along."""
    world.tell(INSERT, 0)
    world.usrloc.corrections.adopt(BINDING, REGISTRATION._replace(cseq=4), stamp(1000), instance=INSTANCE)
    assert world.contact.device == BY_INSTANCE
