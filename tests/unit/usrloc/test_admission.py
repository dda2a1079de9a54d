"""Which new contacts are taken in, and that those that are not change nothing."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from companion.opensips.events import DELETE, INSERT, UPDATE, Event
from companion.usrloc.admission import MAX_LEFT_OUT, AdmissionLimits, LeftOut
from companion.usrloc.changes import Stamp
from companion.usrloc.contact import Binding
from companion.usrloc.picture import Usrloc
from tests.unit.usrloc.world import INTERVAL_MS, LOST_AFTER, World, answer, disconnect, event, loss

LIMITS = AdmissionLimits(contacts_per_aor=3, devices_per_aor=4, new_aors_per_minute=5, stored_devices=20)


class Small(World):
    """A world in which little is taken in."""

    def __init__(self, limits: AdmissionLimits = LIMITS) -> None:
        super().__init__()
        self.usrloc = Usrloc(LOST_AFTER, INTERVAL_MS, limits)

    def uris(self) -> list[str]:
        return [binding.uri for binding in self.usrloc.devices.contacts]

    def left_out(self) -> LeftOut:
        return self.usrloc.admission.left_out("n", 0)


@pytest.fixture
def world() -> Small:
    return Small()


def phone(number: int) -> str:
    return f"sip:alice@{number}.invalid"


def register(number: int, **more: Any) -> Event:
    return event(INSERT, phone(number), **{"at": f"192.0.2.{number % 250}:{number % 60_000}", **more})


def test_too_many_contacts_of_an_aor(world: Small) -> None:
    """Beyond the bound contacts are left out, with their pings and ends; those before go on, and the reason is told."""
    world.apply(*map(register, range(3)))
    world.apply(register(3), answer(uri=phone(3)), register(4), loss(uri=phone(4)), event(DELETE, phone(4)))
    assert world.uris() == [phone(0), phone(1), phone(2)]
    assert world.left_out() == LeftOut(2, "alice", 2, "contacts_of_aor")
    world.apply(answer(uri=phone(0)), loss(uri=phone(1)))
    assert (world.contact(phone(0)).last_latency_ms, world.contact(phone(1)).consecutive_lost) == (40, 1)
    assert not [entry for entry in world.timeline() if entry.ts and "3.invalid" in str(entry.fields)]


def test_a_place_that_becomes_free(world: Small) -> None:
    """A contact that was left out comes in with a later ping, when another one has ended."""
    world.apply(*map(register, range(4)), event(DELETE, phone(1)), answer(uri=phone(3)))
    assert world.contact(phone(3)).last_latency_ms == 40


def test_known_contacts_come_back(world: Small) -> None:
    """A contact that is held is never refused, also after its end and at every bound."""
    world.apply(*map(register, range(3)), event(DELETE, phone(0)), register(3))
    world.usrloc.admission.is_redis_full = True
    world.apply(event(INSERT, phone(0), cseq=9), after_ms=60_000)
    assert not world.contact(phone(0)).ended_at


def test_invented_instances(world: Small) -> None:
    """An account that invents a device at each REGISTER keeps the last ones; the one longest offline is deleted."""
    for number in range(10):
        world.apply(register(number, attr=f"<urn:uuid:{number}>"), event(DELETE, phone(number)))
    assert list(world.usrloc.devices.by_id) == [f"alice/urn:uuid:{number}" for number in range(6, 10)]
    assert list(world.usrloc.changes.removed) == [f"alice/urn:uuid:{number}" for number in range(6)]
    assert len(world.usrloc.devices.contacts) == 4


def test_live_devices_are_never_replaced() -> None:
    """Where all devices of an AOR are live, the new one is left out."""
    world = Small(LIMITS._replace(contacts_per_aor=50))
    world.apply(*(register(number, attr=f"<urn:uuid:{number}>") for number in range(6)))
    assert list(world.usrloc.devices.by_id) == [f"alice/urn:uuid:{number}" for number in range(4)]
    assert world.left_out().why == "devices_of_aor"


def test_an_instance_that_changes_with_each_register(world: Small) -> None:
    """One contact that claims to be another device each time makes no more devices than the AOR may have."""
    world.apply(register(0))
    world.apply(*(event(UPDATE, phone(0), cseq=n, attr=f"<urn:uuid:{n}>") for n in range(2, 40)))
    assert len(world.usrloc.devices.of_aor("alice")) <= LIMITS.devices_per_aor
    assert world.contact(phone(0)).device in world.usrloc.devices.by_id


def strangers(count: int, first: int = 0) -> list[Event]:
    return [register(number, aor=f"stranger-{number}") for number in range(first, first + count)]


def test_new_aors_in_a_minute(world: Small) -> None:
    """A node brings so many new AORs in a minute; known ones, and those of other nodes, are not counted."""
    world.apply(*strangers(8), after_ms=1)
    assert len(world.usrloc.devices.by_id) == 5
    assert world.left_out() == LeftOut(3, "stranger-7", 1, "new_aors")
    world.apply(*(register(n, aor=f"stranger-{n}", cseq="2") for n in range(5)), after_ms=1)
    world.apply(*strangers(2, 100), node="m", after_ms=1)
    assert len(world.usrloc.devices.by_id) == 7
    world.apply(*strangers(8), after_ms=60_000)
    assert len(world.usrloc.devices.by_id) == 10


def test_a_node_that_is_new(world: Small) -> None:
    """All phones of a node that we just began to hear of come in at once, up to what may be stored."""
    world.usrloc.admission.cold_nodes = {"n"}
    world.apply(*strangers(30), after_ms=1)
    assert len(world.usrloc.devices.by_id) == LIMITS.stored_devices
    assert world.left_out().why == "devices"


def test_what_opensips_holds_is_in_no_hurry(world: Small) -> None:
    """Contacts of a whole dump of OpenSIPS are not counted as AORs of a minute."""
    for number in range(8):
        binding = Binding("c", "location", f"stranger-{number}", phone(number))
        registration = event(INSERT, phone(number)).registration
        assert world.usrloc.corrections.adopt(binding, registration, Stamp("n", "c", world.now, 7))


def test_redis_is_nearly_full(world: Small) -> None:
    """Then there are no new devices, but a known AOR may replace one that is offline."""
    world.apply(register(0), event(DELETE, phone(0)))
    world.usrloc.admission.is_redis_full = True
    world.apply(*strangers(1, 50), register(1, attr="<urn:uuid:new>"))
    assert list(world.usrloc.devices.by_id) == ["alice/urn:uuid:new"]
    assert world.left_out().why == "redis_full"


def test_the_end_of_a_connection_with_strangers(world: Small) -> None:
    """A connection that a contact we left out shares with a known one is a proxy's: its end says nothing of either."""
    world.apply(*(register(number, at="192.0.2.1:5062") for number in range(3)))
    crowded = World()
    crowded.usrloc = Usrloc(LOST_AFTER, INTERVAL_MS, LIMITS._replace(contacts_per_aor=1))
    crowded.apply(register(0, at="192.0.2.1:5062"), register(1, at="192.0.2.1:5062"), disconnect("192.0.2.1:5062"))
    assert not crowded.contact(phone(0)).disconnected_at
    assert crowded.usrloc.ignored["shared_connection"] == 1


def test_the_end_of_a_connection_with_strangers_and_a_packed_contact() -> None:
    """A contact that is packed while a stranger comes to its connection, or after that, is not taken for dead."""
    for packs_first in (True, False):
        world = World()
        world.usrloc = Usrloc(LOST_AFTER, INTERVAL_MS, LIMITS._replace(stored_devices=1))
        world.apply(register(0, at="192.0.2.1:5062"))
        world.usrloc.changes.take()
        world.usrloc.changes.settle()
        if packs_first:
            world.usrloc.devices.pack_oldest(0, 1)
        world.apply(register(1, at="192.0.2.1:5062", aor="bob"))
        world.usrloc.devices.pack_oldest(0, 1)
        world.usrloc.devices.unpack("alice")
        world.apply(disconnect("192.0.2.1:5062"))
        assert not world.contact(phone(0)).disconnected_at


def test_a_device_that_comes_back_at_once(world: Small) -> None:
    """A device that made room and registers again before it is deleted in the store is not deleted."""
    for number in range(5):
        world.apply(register(number, attr=f"<urn:uuid:{number}>"), event(DELETE, phone(number)))
    world.apply(register(9, attr="<urn:uuid:0>"))
    assert "alice/urn:uuid:0" not in world.usrloc.changes.removed
    batch = world.usrloc.changes.take()
    world.usrloc.changes.settle()
    world.usrloc.devices.settle_removed(batch.removed)
    assert world.usrloc.devices.by_id["alice/urn:uuid:0"].contacts


def test_removed_devices_are_not_read_back(world: Small) -> None:
    """What the store still holds of a device that is being deleted does not come into memory again."""
    for number in range(5):
        world.apply(register(number, attr=f"<urn:uuid:{number}>"), event(DELETE, phone(number)))
    (removed,) = world.usrloc.changes.removed.values()
    world.usrloc.devices.put([removed])
    assert removed.id not in world.usrloc.devices.by_id
    batch = world.usrloc.changes.take()
    world.usrloc.changes.settle()
    world.usrloc.devices.settle_removed(batch.removed)
    assert not world.usrloc.devices.removed


def test_what_is_told_of_those_left_out_is_bounded() -> None:
    """A million contacts that are left out cost as much as ten thousand, and are forgotten after a while."""
    world = Small(LIMITS._replace(new_aors_per_minute=1))
    world.apply(*strangers(MAX_LEFT_OUT + 500), after_ms=0)
    assert world.left_out().contacts == MAX_LEFT_OUT
    assert world.usrloc.admission.left_out("n", world.now + 1) == LeftOut()


steps = st.tuples(
    st.sampled_from(["register", "update", "end", "answer", "loss"]),
    st.integers(0, 9),
    st.sampled_from(["", "<urn:uuid:1>", "<urn:uuid:2>", "<urn:uuid:3>", "<urn:uuid:4>", "<urn:uuid:5>"]),
    st.sampled_from(["alice", "bob"]),
)


@given(st.lists(steps, max_size=60))
@settings(max_examples=150, deadline=None)
def test_whatever_happens(story: Sequence[tuple[str, int, str, str]]) -> None:
    """Whatever comes, the bounds hold, the indexes agree, and no live contact is ever dropped."""
    world = Small(LIMITS._replace(new_aors_per_minute=100))
    for step, number, attr, aor in story:
        uri = phone(number)
        more: Any = {"aor": aor, "attr": attr}
        before = {binding for binding, one in world.usrloc.devices.contacts.items() if not one.ended_at}
        world.apply(
            {
                "register": event(INSERT, uri, **more),
                "update": event(UPDATE, uri, cseq=world.now % 100_000, **more),
                "end": event(DELETE, uri, cseq=100_000, **more),
                "answer": answer(uri=uri, **more),
                "loss": loss(uri=uri, **more),
            }[step]
        )
        devices = world.usrloc.devices
        assert before <= devices.contacts.keys()
        assert {one.id for aor in ("alice", "bob") for one in devices.of_aor(aor)} == set(devices.by_id)
        for own in map(devices.of_aor, ("alice", "bob")):
            live = [contact for device in own for contact in device.contacts if not contact.ended_at]
            assert len(live) <= LIMITS.contacts_per_aor + 10  # known ones may come back
            assert len(own) <= LIMITS.devices_per_aor
        assert not [
            one for device in world.usrloc.changes.removed.values() for one in device.contacts if not one.ended_at
        ]
