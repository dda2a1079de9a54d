"""What is packed comes back as it was."""

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from companion.opensips.events import Registration
from companion.usrloc.contact import Binding, Contact, Device
from companion.usrloc.evidence import NodeEvidence
from companion.usrloc.packed_devices import PackedDevices
from tests.unit.usrloc.world import UNSET

texts = st.text(max_size=20)
numbers = st.integers(0, (1 << 53) - 1)
registrations = st.builds(Registration, texts, texts, texts, texts, numbers, numbers, texts, numbers, texts)
evidence = st.builds(NodeEvidence, numbers, numbers, numbers, numbers)
BY_TYPE: dict[Any, st.SearchStrategy[Any]] = {
    str: texts,
    int: numbers,
    bool: st.booleans(),
    int | None: st.none() | numbers,
    Binding: st.builds(Binding, texts, texts, st.just("alice"), texts),
    Registration: registrations,
    dict[str, NodeEvidence]: st.dictionaries(texts, evidence, max_size=3),
    tuple[tuple[int, int], ...]: st.lists(st.tuples(numbers, numbers), max_size=3).map(tuple),
    tuple[str, ...]: st.lists(texts, max_size=4).map(tuple),
}


def whole(shape: type[Any]) -> st.SearchStrategy[Any]:
    """Build a struct with a value for each of its fields."""
    return st.builds(shape, **{field.name: BY_TYPE[field.type] for field in msgspec.structs.fields(shape)})


BY_TYPE[list[Contact]] = st.lists(whole(Contact), max_size=2)
devices = st.lists(whole(Device), min_size=1, max_size=2)


def values(shape: Any) -> Any:
    """Return all fields of a struct, also of those in it, to compare: structs compare by identity."""
    if isinstance(shape, msgspec.Struct):
        return [type(shape), *(values(getattr(shape, field)) for field in shape.__struct_fields__)]
    return list(map(values, shape)) if isinstance(shape, list) else (type(shape), shape)


@given(devices)
@settings(max_examples=20)
def test_round_trip(packed: list[Device]) -> None:
    """Every field of devices and contacts comes back with its value and type, also those that are added later."""
    for device in packed:
        for contact in device.contacts:
            contact.device = device.id
    before, store = values(packed), PackedDevices()
    store.put("alice", packed)
    assert values(list(store.take("alice"))) == before


def device(number: int, aor: str = "") -> Device:
    aor = aor or f"user{number}"
    binding = Binding("c", "location", aor, f"sip:{number}@192.0.2.1")
    return Device(f"{aor}/{number}", aor, "", 1, [Contact(binding, f"{number:016x}", f"{aor}/{number}", "n", UNSET)])


def test_taken_once() -> None:
    """What was taken is not held any more."""
    store = PackedDevices()
    store.put("alice", [device(1, "alice"), device(2, "alice")])
    assert (store.count, len(store.take("alice")), store.count, store.take("alice")) == (2, 2, 0, ())


def test_drop_oldest() -> None:
    """The devices that were packed first are dropped, as many as wanted, with all of their AOR."""
    store = PackedDevices()
    store.put("many", [device(number, "many") for number in range(300)])
    for number in range(5):
        store.put(f"user{number}", [device(number)])
    store.drop_oldest(0)
    assert store.count == 305
    store.drop_oldest(299)
    assert store.count == 5
    store.drop_oldest(2)
    assert [bool(store.take(f"user{number}")) for number in range(5)] == [False, False, True, True, True]
    store.drop_oldest(9)
    assert store.count == 0


def test_what_can_not_be_packed() -> None:
    """A text or number that has no packed form costs nothing but the packing: the store has the device."""
    store = PackedDevices()
    for number, (name, value) in enumerate([("node", "\ud800"), ("run", 1 << 70)]):
        odd = device(number)
        setattr(odd.contacts[0], name, value)
        store.put(odd.aor, [odd])
        assert (store.count, store.take(odd.aor)) == (0, ())
