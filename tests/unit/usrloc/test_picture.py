"""Our picture of usrloc: how events go to what they are about, and what is true after any of them."""

from collections.abc import Callable, Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from companion.opensips.events import DELETE, INSERT, LATENCY, LOST_PING_US, REFRESH, UPDATE, ContactEvent, Event
from companion.usrloc.changes import Changes, Stamp
from tests.unit.usrloc.world import (
    DEVICE,
    ELSEWHERE,
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


def test_two_clusters(world: World) -> None:
    """The same URI in the usrloc of two clusters is two contacts."""
    world.apply(event(INSERT))
    world.usrloc.apply(event(INSERT), Stamp("x", "other", NOW, 1))
    assert len(world.usrloc.devices.contacts) == 2


def test_refresh(world: World) -> None:
    """OpenSIPS' own push is a line of the timeline, and nothing else."""
    world.apply(event(INSERT))
    before = world.contact().alive_at
    world.apply(event(REFRESH))
    assert (["registered", "push-sent"], before) == (world.lines(), world.contact().alive_at)


@pytest.mark.parametrize("name", [DELETE, REFRESH])
def test_word_of_nobody(world: World, name: str) -> None:
    """The end, or the push, of a contact that is not known makes none."""
    world.apply(event(name))
    assert (world.usrloc.devices.contacts, world.usrloc.devices.by_id, world.lines()) == ({}, {}, [])


@pytest.mark.parametrize("late", [answer(), loss(), event(INSERT)])
@pytest.mark.parametrize("node", ["n", "m"])
def test_late_word(world: World, late: ContactEvent, node: str) -> None:
    """What was under way when a contact ended does not bring it back: a ping, another member's word of its REGISTER."""
    world.apply(event(INSERT), answer(), event(DELETE))
    world.usrloc.changes.take()
    world.apply(late, node=node, after_ms=9999)
    assert ("offline", 1, Changes()) == (world.status(), world.usrloc.ignored["after_end"], world.usrloc.changes)


def test_ping_long_after_the_end(world: World) -> None:
    """A contact that is pinged ten seconds after its end is there after all."""
    world.apply(event(INSERT), event(DELETE))
    world.apply(answer(), after_ms=10_000)
    assert (world.status(), len(world.usrloc.devices.by_id[DEVICE].contacts)) == ("online", 1)


def test_registered_again(world: World) -> None:
    """A new REGISTER of an ended contact counts at once."""
    world.apply(event(INSERT), event(DELETE), event(INSERT, cseq=3))
    assert (world.lines(), world.status()) == (["registered", "unregistered", "registered"], "online")
    assert len(world.usrloc.devices.by_id[DEVICE].contacts) == 1


uris = st.sampled_from([OLD, NEW, "sip:alice@third.invalid", "sip:desk@192.0.2.9"])
places = st.sampled_from([OLD_AT, NEW_AT, ELSEWHERE])
pings = st.sampled_from([40, 2500, LOST_PING_US // 1000, LOST_PING_US // 1000])
contact_events = st.builds(
    event,
    st.sampled_from([INSERT, UPDATE, DELETE, REFRESH, LATENCY, LATENCY, LATENCY]),
    uris,
    places,
    pings,
    cseq=st.integers(1, 4),
    attr=st.sampled_from([PHONE, PHONE, "", "<urn:uuid:2>"]),
    aor=st.sampled_from(["alice", "alice", "bob"]),
    path=st.sampled_from(["", "", "<sip:proxy;lr>"]),
    expires_at=st.sampled_from([0, NOW + 5000, NOW + 500_000]),
)
story_events = contact_events | st.builds(disconnect, places)
steps = st.tuples(story_events, st.sampled_from(["n", "m"]), st.sampled_from([1, 900, 11_000]))
stories = st.lists(steps, max_size=40)


def live(story: Iterable[tuple[Event, str, int]]) -> Iterator[tuple[World, Event, str]]:
    """A world after each step of a story."""
    world = World()
    for step, node, after_ms in story:
        world.apply(step, node=node, after_ms=after_ms)
        yield world, step, node


@given(stories)
def test_picture_is_consistent(story: list[tuple[Event, str, int]]) -> None:
    """After any events: each contact is in one device and in the index, and each live connection is known."""
    for world, _, _ in live(story):
        assert_consistent(world.usrloc)


@given(stories)
def test_records_make_sense(story: list[tuple[Event, str, int]]) -> None:
    """After any events: a run of losses has a start exactly when it has a length, and no latency is the sentinel."""
    for world, _, _ in live(story):
        for contact in world.usrloc.devices.contacts.values():
            assert (contact.consecutive_lost > 0) == (contact.lost_since > 0)
            assert contact.lost_since <= contact.last_lost_at <= world.now
            assert contact.last_latency_ms in {None, 40, 2500}
            assert bool(contact.ended_at) == bool(contact.ended_by)
        assert {value for _, _, value in world.usrloc.changes.answered} <= {40, 2500}
        assert all(0 <= value <= world.now - NOW for value in outages(world))


def outages(world: World) -> list[int]:
    entries = world.timeline("switched-over")
    keys = ("outage_ms", "outage_at_most_ms")
    return [int(entry.fields[key]) for entry in entries for key in keys if key in entry.fields]


@given(stories)
def test_ghosts_have_an_instance(story: list[tuple[Event, str, int]]) -> None:
    """A device without a SIP instance never has a ghost: two desk phones may share its name."""
    for world, _, _ in live(story):
        for device in world.usrloc.devices.by_id.values():
            assert device.instance or not any(contact.superseded_at for contact in device.contacts)


@given(stories)
def test_repeated_event(story: list[tuple[Event, str, int]]) -> None:
    """An event that is told again with the same stamp changes nothing."""
    for world, step, node in live(story):
        world.usrloc.changes.take()
        world.apply(step, node=node, after_ms=0)
        assert world.usrloc.changes == Changes()


@given(st.lists(st.sampled_from(["answered", "lost", "register"])))
def test_consecutive_lost(story: list[str]) -> None:
    """A run of losses is as long as the losses since the last evidence of life."""
    world, cseq = World(), 0
    for step in story:
        cseq += step == "register"
        builders: dict[str, Callable[..., Event]] = {
            "answered": answer,
            "lost": loss,
            "register": lambda cseq: event(UPDATE, cseq=cseq),
        }
        world.apply(builders[step](cseq=cseq))
    trailing = next((n for n, step in enumerate(reversed(story)) if step != "lost"), len(story))
    if story:
        assert world.contact().consecutive_lost == trailing


@given(st.lists(st.tuples(st.sampled_from([(OLD, OLD_AT), (NEW, NEW_AT)]), st.integers(0, LOST_AFTER - 1))))
def test_two_flows(rounds: list[tuple[tuple[str, str], int]]) -> None:
    """Two flows of one device (RFC 5626) that both answer, some losses between, are never ghosts."""
    world = World()
    world.apply(event(INSERT), event(INSERT, NEW, NEW_AT))
    for (uri, at), losses in rounds:
        world.apply(*[loss(uri=uri, at=at)] * losses)
        assert not world.is_ghost(OLD)
        assert not world.is_ghost(NEW)
        world.apply(answer(uri=uri, at=at))
    assert world.switch_overs() == []
