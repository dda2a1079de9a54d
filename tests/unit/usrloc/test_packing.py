"""A picture that has nearly all devices packed is the same picture."""

from collections.abc import Callable
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from companion.opensips.events import (
    AOR_DELETE,
    DELETE,
    INSERT,
    LATENCY,
    LOST_PING_US,
    REFRESH,
    UPDATE,
    AorEvent,
    Event,
)
from companion.usrloc.admission import AdmissionLimits
from companion.usrloc.changes import Changes, Stamp
from companion.usrloc.contact import Binding, Contact, Device
from companion.usrloc.picture import Usrloc
from tests.unit.usrloc.world import (
    DEVICE,
    ELSEWHERE,
    INTERVAL_MS,
    LOST_AFTER,
    NEW,
    NEW_AT,
    NOW,
    OLD,
    OLD_AT,
    PHONE,
    World,
    answer,
    assert_consistent,
    disconnect,
    event,
    loss,
)

MANY: Final = 1 << 30
AORS: Final = ("alice", "bob", "carol")
PUSH: Final = "sip:alice@one.invalid;transport=ws;pn-provider=apns;pn-param=T.app;pn-prid=T1"
PUSH_AGAIN: Final = PUSH.replace("one", "two")
LIMITS: Final = AdmissionLimits(contacts_per_aor=3, devices_per_aor=2)

Step = Callable[[Usrloc, Stamp], object]


def apply(step: Event) -> Step:
    def run(usrloc: Usrloc, stamp: Stamp) -> None:
        usrloc.apply(step, stamp)

    return run


def cut(at: str) -> Step:
    """Tell of the end of a connection; the loader has read the devices on it before, by the index in the store."""

    def run(usrloc: Usrloc, stamp: Stamp) -> None:
        for aor in AORS:
            usrloc.devices.unpack(aor)
        usrloc.apply(disconnect(at), stamp)

    return run


def end_missing(binding: Binding) -> Step:
    return lambda usrloc, stamp: usrloc.corrections.end_missing(binding, stamp)


def adopt(binding: Binding, instance: str, cseq: int) -> Step:
    registration = event(INSERT, binding.uri, cseq=cseq).registration
    return lambda usrloc, stamp: usrloc.corrections.adopt(binding, registration, stamp, instance=instance)


def identify(binding: Binding, instance: str) -> Step:
    return lambda usrloc, stamp: usrloc.corrections.identify(binding, instance, stamp)


def expire(binding: Binding) -> Step:
    """End an expired contact, as the periodic check does with what the store's index names."""

    def run(usrloc: Usrloc, stamp: Stamp) -> object:
        contact = usrloc.devices.find(binding)
        return contact and usrloc.ends.expire(contact, stamp.ts - 1000, stamp.ts)

    return run


uris = st.sampled_from([OLD, NEW, PUSH, PUSH_AGAIN, "sip:alice@third.invalid", "sip:desk@192.0.2.9"])
aors = st.sampled_from(["alice", "alice", *AORS])
places = st.sampled_from([OLD_AT, NEW_AT, ELSEWHERE])
bindings = st.builds(Binding, st.just("c"), st.just("location"), aors, uris)
instances = st.sampled_from(["urn:uuid:1", "urn:uuid:2", "urn:uuid:3"])
contact_events = st.builds(
    event,
    st.sampled_from([INSERT, INSERT, UPDATE, DELETE, REFRESH, LATENCY, LATENCY, LATENCY]),
    uris,
    places,
    st.sampled_from([40, 2500, LOST_PING_US // 1000]),
    cseq=st.integers(1, 4),
    attr=st.sampled_from([PHONE, PHONE, "", "<urn:uuid:2>", "<urn:uuid:3>"]),
    aor=aors,
    expires_at=st.sampled_from([0, NOW + 5000, NOW + 500_000]),
)
steps = (
    contact_events.map(apply)
    | contact_events.map(apply)
    | st.builds(cut, places)
    | st.builds(AorEvent, st.just(AOR_DELETE), st.just("location"), aors).map(apply)
    | st.builds(end_missing, bindings)
    | st.builds(adopt, bindings, instances, st.integers(1, 4))
    | st.builds(identify, bindings, instances)
    | st.builds(expire, bindings)
)
stories = st.lists(
    st.tuples(steps, st.sampled_from(["n", "m"]), st.sampled_from([0, 1, 150, 900, 11_000]), st.booleans()), max_size=40
)


@given(stories, st.sampled_from([0, 1, 2]))
@settings(deadline=None)
def test_same_picture(story: list[tuple[Step, str, int, bool]], unpacked: int) -> None:
    """Whatever happens: with all but some devices packed, the same is stored and held as with none packed."""
    whole, tight = (Usrloc(LOST_AFTER, INTERVAL_MS, LIMITS) for _ in range(2))
    now = NOW
    for step, node, after_ms, is_written in story:
        now += after_ms
        stamp = Stamp(node, "c", now, {"n": 7, "m": 9}[node])
        step(whole, stamp)
        step(tight, stamp)
        if is_written:
            before, after = whole.changes.take(), tight.changes.take()
            assert plain(before) == plain(after)
            whole.changes.settle()
            tight.changes.settle()
            whole.devices.settle_removed(before.removed)
            tight.devices.settle_removed(after.removed)
            tight.devices.pack_oldest(unpacked, MANY)
            assert len(tight.devices.contacts) <= unpacked
            assert_consistent(tight)
    assert plain(whole.changes) == plain(tight.changes)
    assert whole.ignored == tight.ignored
    for aor in AORS:
        assert plain(whole.devices.of_aor(aor)) == plain(tight.devices.of_aor(aor))
    assert tight.devices.packed.count == 0


def plain(value: Any) -> Any:
    """Return the values in changes, devices and contacts, to compare."""
    if isinstance(value, Contact | Device):
        return msgspec.msgpack.encode(value)
    if isinstance(value, Changes):
        return {name: plain(getattr(value, name)) for name in Changes.__slots__ if name != "being_written"}
    if isinstance(value, dict):
        return [(plain(key), plain(one)) for key, one in value.items()]
    return list(map(plain, value)) if isinstance(value, list | tuple) else value


def test_stored_first(world: World) -> None:
    """What is not stored yet stays unpacked, so that the write finds it."""
    world.apply(event(INSERT), event(INSERT, aor="bob"))
    assert not world.usrloc.devices.pack_oldest(0, MANY)
    world.usrloc.changes.take()
    assert not world.usrloc.devices.pack_oldest(0, MANY)
    world.usrloc.changes.settle()
    world.apply(answer(aor="bob"))
    assert [contact.binding.aor for contact in world.usrloc.devices.pack_oldest(0, MANY)] == ["alice"]
    assert list(world.usrloc.devices.by_id) == ["bob/urn:uuid:1"]


def test_oldest_first(world: World) -> None:
    """The devices that came into memory first are packed first; those unpacked since count as new."""
    for aor in AORS:
        world.apply(event(INSERT, aor=aor))
        world.usrloc.changes.take()
        world.usrloc.changes.settle()
    world.usrloc.devices.pack_oldest(2, MANY)
    world.usrloc.devices.unpack("alice")
    world.usrloc.devices.pack_oldest(2, MANY)
    assert list(world.usrloc.devices.by_id) == ["carol/urn:uuid:1", DEVICE]


def test_bound_of_both(world: World) -> None:
    """Packed and unpacked devices together are as many as allowed; the store has the others."""
    for number in range(20):
        world.apply(event(INSERT, aor=f"user{number}"))
    world.usrloc.changes.take()
    world.usrloc.changes.settle()
    world.usrloc.devices.pack_oldest(5, 8)
    assert (len(world.usrloc.devices.by_id), world.usrloc.devices.packed.count) == (5, 3)
    world.usrloc.devices.pack_oldest(5, 2)
    assert (len(world.usrloc.devices.by_id), world.usrloc.devices.packed.count) == (2, 0)


def test_stored_devices_do_not_replace_packed_ones(world: World) -> None:
    """What the store holds of a packed device is older than what is packed."""
    world.apply(event(INSERT), loss())
    world.usrloc.changes.take()
    world.usrloc.changes.settle()
    world.usrloc.devices.pack_oldest(0, MANY)
    world.usrloc.devices.put([Device(DEVICE, "alice", "urn:uuid:1", 1)])
    assert (world.contact().consecutive_lost, world.usrloc.devices.packed.count) == (1, 0)


@pytest.mark.parametrize("lately", [True, False])
def test_unpacked_lately(world: World, *, lately: bool) -> None:
    """An AOR counts as unpacked lately until devices are packed the next time."""
    world.apply(event(INSERT))
    world.usrloc.changes.take()
    world.usrloc.changes.settle()
    world.usrloc.devices.pack_oldest(0, MANY)
    world.apply(answer())
    if not lately:
        world.usrloc.devices.pack_oldest(0, MANY)
    assert ("alice" in world.usrloc.devices.lately_entered) is lately


@pytest.mark.parametrize("is_packed", [True, False])
def test_aor_that_was_left_empty(world: World, *, is_packed: bool) -> None:
    """Also of a packed contact it is noted that nothing took its place: a phone that registers at once did not move."""
    world.apply(event(INSERT), answer(), event(DELETE))
    world.usrloc.changes.take()
    world.usrloc.changes.settle()
    if is_packed:
        world.usrloc.devices.pack_oldest(0, MANY)
    world.apply(AorEvent(AOR_DELETE, "location", "alice"), event(INSERT, NEW, NEW_AT), after_ms=50)
    assert world.contact().left_empty
    assert not world.switch_overs()
