"""Our picture of usrloc: what each event means for contacts, devices, samples and timelines."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from companion import sip
from companion.bridge.clock import Stamps
from companion.opensips import events
from companion.opensips.events import (
    DELETE,
    DISCONNECT,
    INSERT,
    LATENCY,
    LOST_PING_US,
    REFRESH,
    UPDATE,
    ContactEvent,
    DisconnectEvent,
    Event,
    Registration,
)
from companion.query.pings import compute_statistics, merge_own_pings
from companion.usrloc import contact as contacts
from companion.usrloc import ghosts
from companion.usrloc.changes import Changes, Stamp, TimelineEntry
from companion.usrloc.contact import Binding, Clock, Contact, Device, Status
from companion.usrloc.devices import ENDED_KEPT
from companion.usrloc.picture import Usrloc

NOW = 1_795_452_109_605
LOST_AFTER = 3
INTERVAL_MS = 1000
PHONE = "<urn:uuid:1>"
DEVICE = "alice/urn:uuid:1"
OLD, NEW = "sip:alice@old.invalid;transport=ws", "sip:alice@new.invalid;transport=ws"
OLD_AT, NEW_AT, ELSEWHERE = "192.0.2.1:1111", "192.0.2.2:2222", "192.0.2.3:3333"
UNSET = Registration("", "", "", "", 0, 0, "", 0, "")


def said(name: str, uri: str = OLD, at: str = OLD_AT, latency_ms: int = 0, **changes: Any) -> ContactEvent:
    """A contact event; `at` is the far end of its WebSocket."""
    aor = changes.pop("aor", "alice")
    defaults: dict[str, Any] = {"received": f"sip:{at};transport=ws", "callid": uri, "cseq": 1, "attr": PHONE}
    registration = UNSET._replace(**defaults | changes)
    return ContactEvent(name, "location", aor, uri, registration, latency_ms * 1000)


def answered(latency_ms: int = 40, **where: Any) -> ContactEvent:
    return said(LATENCY, latency_ms=latency_ms, **where)


def lost(**where: Any) -> ContactEvent:
    return said(LATENCY, latency_ms=LOST_PING_US // 1000, **where)


def died(at: str = OLD_AT) -> DisconnectEvent:
    return DisconnectEvent(DISCONNECT, at, "ws")


class World:
    """A Usrloc and a clock; `tell` says an event, by default a second after the last one."""

    def __init__(self) -> None:
        self.usrloc = Usrloc(LOST_AFTER, INTERVAL_MS)
        self.now = NOW

    def tell(self, *said: Event, node: str = "n", after_ms: int = 1000) -> None:
        for event in said:
            self.now += after_ms
            self.usrloc.apply(event, Stamp(node, "c", self.now, {"n": 7, "m": 9}[node]))

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


@pytest.fixture
def world() -> World:
    return World()


# Registrations


def test_register(world: World) -> None:
    """A REGISTER makes a contact and its device, and is evidence of life."""
    world.tell(said(INSERT))
    contact = world.contact()
    assert world.lines() == ["registered"]
    assert (DEVICE, "online", world.now, world.now) == (
        contact.device,
        world.status(),
        contact.registered_at,
        contact.alive_at,
    )
    assert [contact] == world.usrloc.devices.by_id[DEVICE].contacts


def test_latency_of_a_register_is_no_sample(world: World) -> None:
    """INSERT, UPDATE and DELETE repeat the last latency, the sentinel too: none of it is a sample."""
    world.tell(
        said(INSERT, latency_ms=40),
        said(UPDATE, latency_ms=50, cseq=2),
        said(UPDATE, latency_ms=LOST_PING_US // 1000, cseq=3),
        said(DELETE, latency_ms=60, cseq=3),
    )
    assert (world.usrloc.changes.answered, world.usrloc.changes.lost) == ([], [])
    assert (world.contact().last_latency_ms, world.contact().consecutive_lost) == (None, 0)


def test_replicated_register(world: World) -> None:
    """Each member of a cluster tells of a REGISTER: it is one contact, one registration, one line."""
    world.tell(said(INSERT))
    before = world.contact().last_register_at
    world.tell(said(INSERT, socket="ws:192.0.2.99:80"), node="m")
    assert (["registered"], before, 1) == (
        world.lines(),
        world.contact().last_register_at,
        len(world.usrloc.devices.contacts),
    )


def test_replicated_register_that_is_late(world: World) -> None:
    """Another member's word of an older REGISTER does not take the newer one back."""
    world.tell(said(INSERT), said(UPDATE, cseq=2), said(UPDATE, cseq=3))
    world.tell(said(INSERT), said(UPDATE, cseq=2), said(UPDATE, cseq=3), node="m")
    assert world.lines() == ["registered", "re-registered"]
    assert world.contact().registration.cseq == 3


def test_re_registrations_are_noted_sparsely(world: World) -> None:
    """A REGISTER that changes nothing but the time is noted once an hour, one from elsewhere or after a loss always."""
    world.tell(said(INSERT), *(said(UPDATE, cseq=cseq) for cseq in range(2, 9)))
    assert world.lines() == ["registered", "re-registered"]
    world.now += 3_600_000
    world.tell(said(UPDATE, cseq=9), said(UPDATE, cseq=10), lost(), said(UPDATE, cseq=11))
    assert world.lines()[2:] == ["re-registered", "lost", "re-registered", "recovered"]
    world.tell(said(UPDATE, cseq=12, user_agent="Phone 2.0"))
    assert world.lines()[-1] == "re-registered"


def test_two_clusters(world: World) -> None:
    """The same URI in the usrloc of two clusters is two contacts."""
    world.tell(said(INSERT))
    world.usrloc.apply(said(INSERT), Stamp("x", "other", NOW, 1))
    assert len(world.usrloc.devices.contacts) == 2


def test_register_ends_losses(world: World) -> None:
    """A REGISTER is evidence of life: it ends a run of losses and a death."""
    world.tell(said(INSERT), answered(), lost(), lost(), lost(), said(UPDATE, cseq=2))
    assert (world.status(), world.contact().consecutive_lost, world.contact().lost_since) == ("online", 0, 0)
    recovered = world.timeline("recovered")[0].fields
    assert (recovered["by"], recovered["lost"], recovered["after_ms"]) == ("register", 3, 3000)


def test_fallback_device(world: World) -> None:
    """Without an instance the URI's user names the device; it stays the same when the host changes."""
    world.tell(said(INSERT, "sip:bob@1.invalid", attr=""), said(INSERT, "sip:bob@2.invalid", attr=""))
    assert {device.id: len(device.contacts) for device in world.usrloc.devices.by_id.values()} == {"alice/bob": 2}


def test_instance_that_shows_up(world: World) -> None:
    """A contact whose instance is told later moves to the device of that name, and no device has it twice."""
    world.tell(said(INSERT, attr=""), answered(), said(UPDATE, cseq=2))
    owners = [device.id for device in world.usrloc.devices.by_id.values() if world.contact() in device.contacts]
    assert (owners, world.contact().device) == ([DEVICE], DEVICE)


def test_devices_of_one_aor(world: World) -> None:
    """Two instances under one AOR are two devices; one instance under two AORs is two devices too."""
    world.tell(said(INSERT), said(INSERT, NEW, attr="<urn:uuid:2>"), said(INSERT, aor="bob"))
    assert {DEVICE, "alice/urn:uuid:2", "bob/urn:uuid:1"} == set(world.usrloc.devices.by_id)


# Pings


def test_answered_ping(world: World) -> None:
    """An answer is a sample in ms, and the contact's last latency."""
    world.tell(said(INSERT), said(LATENCY)._replace(latency_us=42_923))
    assert [(DEVICE, world.now, 43)] == [tuple(sample) for sample in world.usrloc.changes.answered]
    assert (43, world.now) == (world.contact().last_latency_ms, world.contact().last_latency_at)


def test_lost_ping_is_no_latency(world: World) -> None:
    """The sentinel is a loss of its contact and never a latency."""
    world.tell(said(INSERT), answered(40), lost())
    changes = world.usrloc.changes
    assert [sample.value for sample in changes.answered] == [40]
    assert [world.contact().number] == [sample.value for sample in changes.lost]
    assert (world.contact().last_latency_ms, world.contact().consecutive_lost, world.status()) == (40, 1, "losing")


def test_losing_stale_recovered(world: World) -> None:
    """A run of losses is told at its first, at the one that makes stale, and when it ends."""
    world.tell(said(INSERT), *[lost()] * 5, answered())
    assert world.lines() == ["registered", "lost", "stale", "recovered"]
    recovered = world.timeline("recovered")[0].fields
    assert (recovered["by"], recovered["lost"], recovered["after_ms"]) == ("ping", 5, 5000)
    assert world.status() == "online"


@pytest.mark.parametrize("ping", [answered(), lost()])
def test_discovered(world: World, ping: ContactEvent) -> None:
    """A ping of a contact nobody told of makes it known, with its sample; its registration is not dated."""
    world.tell(ping)
    assert (world.contact().registered_at, world.contact().last_register_at) == (0, 0)
    assert world.lines()[0] == "discovered"
    assert len(world.usrloc.changes.answered + world.usrloc.changes.lost) == 1


def test_refresh(world: World) -> None:
    """OpenSIPS' own push is a line of the timeline, and nothing else."""
    world.tell(said(INSERT))
    before = world.contact().alive_at
    world.tell(said(REFRESH))
    assert (["registered", "push-sent"], before) == (world.lines(), world.contact().alive_at)


@pytest.mark.parametrize("name", [DELETE, REFRESH])
def test_word_of_nobody(world: World, name: str) -> None:
    """The end, or the push, of a contact that is not known makes none."""
    world.tell(said(name))
    assert (world.usrloc.devices.contacts, world.usrloc.devices.by_id, world.lines()) == ({}, {}, [])


# Ends


def test_unregistered(world: World) -> None:
    """A DELETE ends a contact, and its device keeps it as offline."""
    world.tell(said(INSERT), answered(), said(DELETE))
    assert (world.contact().ended_by, world.status()) == ("unregistered", "offline")
    assert [world.contact()] == world.usrloc.devices.by_id[DEVICE].contacts


def test_removed_after_lost_pings(world: World) -> None:
    """A DELETE right behind a lost ping is OpenSIPS' own doing."""
    sentinel_ms = LOST_PING_US // 1000
    world.tell(said(INSERT), *[lost()] * 5)
    world.tell(said(DELETE, latency_ms=sentinel_ms), after_ms=1)
    assert world.contact().ended_by == "removed-after-lost-pings"


def test_unregistered_after_losses(world: World) -> None:
    """A DELETE some time after a lost ping is the phone's own."""
    world.tell(said(INSERT), lost(), said(DELETE, latency_ms=LOST_PING_US // 1000), after_ms=5000)
    assert world.contact().ended_by == "unregistered"


def test_expired(world: World) -> None:
    """A DELETE when `expires` has passed is an expiry; when it never comes, `expire` does the same."""
    expires_at = NOW + 1500
    world.tell(said(INSERT, expires_at=expires_at), said(DELETE, expires_at=expires_at))
    assert world.contact().ended_by == "expired"
    world.tell(said(INSERT, NEW, expires_at=world.now + 2500))
    assert not world.usrloc.ends.expire(world.contact(NEW), world.now + 1499, world.now + 9000)
    assert not world.contact(NEW).ended_at
    assert world.usrloc.ends.expire(world.contact(NEW), world.now + 1500, world.now + 9000)
    assert ("expired", world.now + 9000) == (world.contact(NEW).ended_by, world.contact(NEW).ended_at)


def test_permanent_contact_never_expires(world: World) -> None:
    """`expires` 0 is never."""
    world.tell(said(INSERT))
    world.usrloc.ends.expire(world.contact(), 1 << 50, 1 << 50)
    assert not world.contact().ended_at


@pytest.mark.parametrize("late", [answered(), lost(), said(INSERT)])
@pytest.mark.parametrize("node", ["n", "m"])
def test_late_word(world: World, late: ContactEvent, node: str) -> None:
    """What was under way when a contact ended does not bring it back: a ping, another member's word of its REGISTER."""
    world.tell(said(INSERT), answered(), said(DELETE))
    world.usrloc.changes.take()
    world.tell(late, node=node, after_ms=9999)
    assert ("offline", 1, Changes()) == (world.status(), world.usrloc.ignored["after_end"], world.usrloc.changes)


def test_ping_long_after_the_end(world: World) -> None:
    """A contact that is pinged ten seconds after its end is there after all."""
    world.tell(said(INSERT), said(DELETE))
    world.tell(answered(), after_ms=10_000)
    assert (world.status(), len(world.usrloc.devices.by_id[DEVICE].contacts)) == ("online", 1)


def test_registered_again(world: World) -> None:
    """A new REGISTER of an ended contact counts at once."""
    world.tell(said(INSERT), said(DELETE), said(INSERT, cseq=3))
    assert (world.lines(), world.status()) == (["registered", "unregistered", "registered"], "online")
    assert len(world.usrloc.devices.by_id[DEVICE].contacts) == 1


def test_replicated_delete(world: World) -> None:
    """Each member of a cluster tells of an end: it is one."""
    world.tell(said(INSERT), said(DELETE))
    world.tell(said(DELETE), node="m")
    assert world.lines() == ["registered", "unregistered"]


def test_replicated_delete_that_is_late(world: World) -> None:
    """Another member's word of the end of an older REGISTER does not end the newer one."""
    world.tell(said(INSERT), said(UPDATE, cseq=2))
    world.tell(said(DELETE, cseq=1), node="m")
    assert world.status() == "online"


def test_ended_contacts_are_forgotten_in_time(world: World) -> None:
    """A device that makes a new contact each time it comes remembers the last ones, not all."""
    for number in range(ENDED_KEPT + 20):
        uri = f"sip:alice@{number}.invalid"
        world.tell(said(INSERT, uri), said(DELETE, uri))
    device = world.usrloc.devices.by_id[DEVICE]
    assert len(device.contacts) == ENDED_KEPT + 1
    assert set(device.contacts) == set(world.usrloc.devices.contacts.values())
    assert device.contacts[-1].binding.uri.startswith(f"sip:alice@{ENDED_KEPT + 19}.")


# Connections


def test_disconnect(world: World) -> None:
    """When its WebSocket dies a contact is stale at once."""
    world.tell(said(INSERT), answered(), died())
    assert ("stale", world.now) == (world.status(), world.contact().disconnected_at)
    assert world.lines() == ["registered", "disconnected"]


def test_answer_that_was_under_way(world: World) -> None:
    """An answer to a ping from before the death is a sample, but does not bring a contact back; a later one does."""
    world.tell(said(INSERT), died())
    world.tell(answered(2000))
    assert (world.status(), len(world.usrloc.changes.answered)) == ("stale", 1)
    world.tell(answered(500))
    assert (world.status(), world.lines()[-1]) == ("online", "recovered")


@pytest.mark.parametrize(
    "registered",
    [
        [said(INSERT), said(INSERT, NEW)],
        [said(INSERT, path="<sip:proxy;lr>")],
        [said(INSERT, received=f"sip:{OLD_AT}")],
        [said(INSERT, received=f"sip:{OLD_AT};transport=tcp")],
        [said(INSERT), said(DELETE)],
        [said(INSERT), said(UPDATE, at=NEW_AT, cseq=2)],
    ],
    ids=["shared", "path", "udp", "tcp", "ended", "moved"],
)
def test_disconnect_that_says_nothing(world: World, registered: list[Event]) -> None:
    """The death of a shared address, of UDP, behind a Path, or where a contact no longer is, changes no contact."""
    world.tell(*registered)
    world.usrloc.changes.take()
    world.tell(died())
    assert world.usrloc.changes == Changes()
    assert not any(contact.disconnected_at for contact in world.usrloc.devices.contacts.values())


def test_disconnect_of_another_cluster(world: World) -> None:
    """The same address may be in use in two clusters' networks."""
    world.tell(said(INSERT))
    world.usrloc.apply(died(), Stamp("x", "other", world.now + 1, 1))
    assert not world.contact().disconnected_at


def test_connection_shared_no_longer(world: World) -> None:
    """When one of two lines has ended, the death of their connection tells of the other."""
    world.tell(said(INSERT), said(INSERT, NEW), said(DELETE), died())
    assert (world.contact().disconnected_at, world.status(NEW)) == (0, "stale")


def test_death_in_the_same_millisecond(world: World) -> None:
    """Events of one AOR and a death may share a millisecond: each still counts."""
    world.tell(said(INSERT))
    world.tell(died(), after_ms=0)
    assert world.status() == "stale"
    world.tell(died(ELSEWHERE))
    world.tell(said(UPDATE, cseq=2), after_ms=0)
    assert world.status() == "online"


# Ghosts


def test_ghost(world: World) -> None:
    """An old contact is a ghost once it is dead and a newer one of its instance has answered since."""
    world.tell(said(INSERT), answered(), died(), said(INSERT, NEW, NEW_AT))
    assert not world.is_ghost()
    world.tell(answered(uri=NEW, at=NEW_AT))
    assert (True, False, world.now) == (world.is_ghost(), world.is_ghost(NEW), world.contact().superseded_at)


def test_ghost_by_losses(world: World) -> None:
    """An old contact that lost N pings is a ghost from the newer one's first answer since it last showed life on."""
    world.tell(said(INSERT), said(INSERT, NEW, NEW_AT), answered(), answered(uri=NEW, at=NEW_AT))
    since = world.now
    world.tell(lost(), answered(uri=NEW, at=NEW_AT), lost())
    assert not world.is_ghost()
    world.tell(lost())
    assert (True, since) == (world.is_ghost(), world.contact().superseded_at)


def test_older_contact_is_the_live_one(world: World) -> None:
    """A newer contact that died is no ghost of an older one that answers."""
    world.tell(said(INSERT), said(INSERT, NEW, NEW_AT), died(NEW_AT), answered())
    assert not world.is_ghost(NEW)


@pytest.mark.parametrize("life", [answered(), said(UPDATE, cseq=2)])
def test_ghost_that_lives(world: World, life: ContactEvent) -> None:
    """A ghost that shows life is none, until a newer contact answers again."""
    world.tell(said(INSERT), said(INSERT, NEW, NEW_AT), *[lost()] * 3, answered(uri=NEW, at=NEW_AT))
    assert world.is_ghost()
    world.tell(life)
    assert (world.is_ghost(), world.contact().superseded_at) == (False, 0)
    world.tell(*[lost()] * 3)
    assert not world.is_ghost()


# Switch-overs


def test_switch_over_seen(world: World) -> None:
    """The death seen first, then the REGISTER from elsewhere: the outage is known."""
    world.tell(said(INSERT), answered(), died())
    world.tell(said(INSERT, NEW, NEW_AT), after_ms=1002)
    assert world.switch_overs() == [{"from": OLD_AT, "to": NEW_AT, "outage_ms": 1002}]


def test_switch_over_of_the_same_contact(world: World) -> None:
    """A contact that keeps its URI and comes from elsewhere has switched over too."""
    world.tell(said(INSERT), answered(), died())
    world.tell(said(UPDATE, at=NEW_AT, cseq=2), after_ms=700)
    assert world.switch_overs() == [{"from": OLD_AT, "to": NEW_AT, "outage_ms": 700}]


def test_switch_over_not_seen(world: World) -> None:
    """A contact that comes from elsewhere before its old connection died was away at most since it last answered."""
    world.tell(said(INSERT), answered())
    world.tell(said(UPDATE, at=NEW_AT, cseq=2), after_ms=4000)
    world.tell(died())
    assert world.switch_overs() == [{"from": OLD_AT, "to": NEW_AT, "outage_at_most_ms": 4000}]
    assert (world.contact().disconnected_at, world.status()) == (0, "online")


def test_death_told_after_the_new_contact(world: World) -> None:
    """A death that is told after the device registered from elsewhere makes a switch-over with only a bound."""
    world.tell(said(INSERT), answered())
    world.tell(said(INSERT, NEW, NEW_AT), after_ms=4000)
    assert world.switch_overs() == []
    world.tell(died())
    assert world.switch_overs() == [{"from": OLD_AT, "to": NEW_AT, "outage_at_most_ms": 4000}]


def test_losses_after_the_new_contact(world: World) -> None:
    """A half-open connection tells of its death by losses: one switch-over, whatever is told later."""
    world.tell(said(INSERT), answered(), said(INSERT, NEW, NEW_AT), *[lost()] * 5, died())
    assert world.switch_overs() == [{"from": OLD_AT, "to": NEW_AT, "outage_at_most_ms": 1000}]


@pytest.mark.parametrize(
    "story",
    [
        [said(INSERT), said(DELETE), said(INSERT, NEW, NEW_AT)],
        [said(INSERT), died(), said(INSERT, NEW)],
        [said(INSERT), answered(), said(INSERT, NEW, NEW_AT), answered()],
        [said(INSERT, attr=""), died(), said(INSERT, NEW, NEW_AT, attr="")],
        [said(INSERT), said(INSERT, NEW, NEW_AT), answered(), died()],
        [said(INSERT), died(), said(INSERT, NEW, NEW_AT, attr="<urn:uuid:2>")],
    ],
    ids=["unregistered", "same address", "two flows", "no instance", "second flow ends", "another device"],
)
def test_no_switch_over(world: World, story: list[Event]) -> None:
    """Who left on purpose, did not move, has two flows, or may be somebody else, has not switched over."""
    world.tell(*story)
    assert world.switch_overs() == []


def test_switch_over_from_a_contact_nobody_saw_alive(world: World) -> None:
    """Where there is no evidence of life, there is no bound either."""
    world.tell(lost(), said(UPDATE, at=NEW_AT, cseq=2))
    assert world.switch_overs() == [{"from": OLD_AT, "to": NEW_AT}]


# Memory


def test_put_and_drop(world: World) -> None:
    """What is dropped is gone with its contacts and connections, and what is put back goes on where it was."""
    world.tell(said(INSERT), answered(), lost())
    device, contact = world.usrloc.devices.by_id[DEVICE], world.contact()
    world.usrloc.devices.drop(device)
    assert (world.usrloc.devices.by_id, world.usrloc.devices.contacts, world.usrloc._connections._contacts) == (
        {},
        {},
        {},
    )
    world.usrloc.devices.put([device])
    world.tell(lost(), died())
    assert (2, world.now) == (contact.consecutive_lost, contact.disconnected_at)


def test_put_does_not_replace(world: World) -> None:
    """What is in memory is newer than what is stored."""
    world.tell(said(INSERT))
    world.usrloc.devices.put([Device(DEVICE, "alice", "urn:uuid:1", 1)])
    assert [world.contact()] == world.usrloc.devices.by_id[DEVICE].contacts


# Any story at all

uris = st.sampled_from([OLD, NEW, "sip:alice@third.invalid", "sip:desk@192.0.2.9"])
places = st.sampled_from([OLD_AT, NEW_AT, ELSEWHERE])
pings = st.sampled_from([40, 2500, LOST_PING_US // 1000, LOST_PING_US // 1000])
contact_events = st.builds(
    said,
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
story_events = contact_events | st.builds(died, places)
steps = st.tuples(story_events, st.sampled_from(["n", "m"]), st.sampled_from([1, 900, 11_000]))
stories = st.lists(steps, max_size=40)


def live(story: Iterable[tuple[Event, str, int]]) -> Iterator[tuple[World, Event, str]]:
    """A world after each step of a story."""
    world = World()
    for event, node, after_ms in story:
        world.tell(event, node=node, after_ms=after_ms)
        yield world, event, node


def assert_consistent(usrloc: Usrloc) -> None:
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
        assert {sample.value for sample in world.usrloc.changes.answered} <= {40, 2500}
        assert all(0 <= value <= world.now - NOW for value in outages(world))


def outages(world: World) -> list[int]:
    fields = [entry.fields for entry in world.timeline("switched-over")]
    return [int(each[key]) for each in fields for key in ("outage_ms", "outage_at_most_ms") if key in each]


@given(stories)
def test_ghosts_have_an_instance(story: list[tuple[Event, str, int]]) -> None:
    """A device without a SIP instance never has a ghost: two desk phones may share its name."""
    for world, _, _ in live(story):
        for device in world.usrloc.devices.by_id.values():
            assert device.instance or not any(contact.superseded_at for contact in device.contacts)


@given(stories)
def test_said_twice(story: list[tuple[Event, str, int]]) -> None:
    """An event that is told again with the same stamp changes nothing."""
    for world, event, node in live(story):
        world.usrloc.changes.take()
        world.tell(event, node=node, after_ms=0)
        assert world.usrloc.changes == Changes()


@given(st.lists(st.sampled_from(["answered", "lost", "register"])))
def test_consecutive_lost(story: list[str]) -> None:
    """A run of losses is as long as the losses since the last evidence of life."""
    world, cseq = World(), 0
    for step in story:
        cseq += step == "register"
        says: dict[str, Callable[..., Event]] = {
            "answered": answered,
            "lost": lost,
            "register": lambda cseq: said(UPDATE, cseq=cseq),
        }
        world.tell(says[step](cseq=cseq))
    trailing = next((n for n, step in enumerate(reversed(story)) if step != "lost"), len(story))
    if story:
        assert world.contact().consecutive_lost == trailing


@given(st.lists(st.tuples(st.sampled_from([(OLD, OLD_AT), (NEW, NEW_AT)]), st.integers(0, LOST_AFTER - 1))))
def test_two_flows(rounds: list[tuple[tuple[str, str], int]]) -> None:
    """Two flows of one device (RFC 5626) that both answer, some losses between, are never ghosts."""
    world = World()
    world.tell(said(INSERT), said(INSERT, NEW, NEW_AT))
    for (uri, at), losses in rounds:
        world.tell(*[lost(uri=uri, at=at)] * losses)
        assert not world.is_ghost(OLD)
        assert not world.is_ghost(NEW)
        world.tell(answered(uri=uri, at=at))
    assert world.switch_overs() == []


# The capture

T0 = 1_795_452_109_605
Capture = list[tuple[int, str, dict[str, Any]]]
DAVE, ALICE = (
    "dave/urn:uuid:9531985d-5d9d-c9f8-1818-e811892f902b",
    "alice/urn:uuid:6513270e-269e-0d37-f2a7-4de452e6b438",
)


class Replay:
    """The capture up to a second of it, stamped as a bridge stamps."""

    def __init__(self, capture: Capture, until: float) -> None:
        self.now = T0 + round(until * 1000)
        self.usrloc = Usrloc(LOST_AFTER, INTERVAL_MS)
        self.said = [each for each in capture if each[0] <= self.now]
        times = iter([at for at, _, _ in self.said])
        stamps = Stamps(lambda: next(times))
        for _, name, params in self.said:
            ts = stamps.next(params.get("aor"))
            self.usrloc.apply(events.parse(name, params), Stamp("n", "c", ts, 1))

    def device(self, name: str) -> Device:
        return next(device for device in self.usrloc.devices.by_id.values() if device.id.startswith(f"{name}/"))

    def statuses(self) -> dict[str, Status]:
        """Each device's status; alice has two."""
        clock = Clock(self.now, 5000, LOST_AFTER)
        return {
            device.id if device.aor == "alice" else device.aor: contacts.best(
                contacts.status(contact, clock, feed_alive=True) for contact in device.contacts
            )
            for device in self.usrloc.devices.by_id.values()
        }

    def statistics(self, device: Device) -> dict[str, Any]:
        changes = self.usrloc.changes
        spans = {c.number: ghosts.ghost_spans(c, LOST_AFTER) for c in device.contacts}
        answers = [(sample.ts, sample.value) for sample in changes.answered if sample.device == device.id]
        losses = [(sample.ts, sample.value) for sample in changes.lost if sample.device == device.id]
        return compute_statistics(merge_own_pings(answers, losses, spans))

    def lines(self, name: str) -> list[str]:
        device = self.device(name)
        return [entry.event for entry in self.usrloc.changes.entries if entry.device == device.id]


@pytest.fixture(scope="module")
def middle(capture: Capture) -> Replay:
    return Replay(capture, 65)


@pytest.fixture(scope="module")
def end(capture: Capture) -> Replay:
    return Replay(capture, 130)


def count(capture: Capture, aor: str, attr: str, *, until: float) -> dict[str, Any]:
    """A device's pings, counted from the raw events. Dave's old contact is a ghost once his new one answered."""
    pings = [
        (at, params["uri"], params["latency"])
        for at, name, params in capture
        if name == "E_UL_LATENCY_UPDATE" and (params["aor"], params["attr"]) == (aor, attr) and at <= T0 + until * 1000
    ]
    new_answers = [at for at, uri, us in pings if us != 1800000000 and uri.startswith("sip:dave@383677bd891f")]
    ghost_from = min(new_answers, default=1 << 62)
    lost_pings = [
        at
        for at, uri, us in pings
        if us == 1800000000 and not (uri.startswith("sip:dave@ae97d0eda82f") and at > ghost_from)
    ]
    ms = [round(us / 1000) for _, _, us in pings if us != 1800000000]
    return {
        "average_ms": round(sum(ms) / len(ms), 1),
        "max_ms": max(ms),
        "min_ms": min(ms),
        "total": len(ms) + len(lost_pings),
        "answered": len(ms),
        "lost": len(lost_pings),
        "loss_ratio": round(len(lost_pings) / (len(ms) + len(lost_pings)), 4),
    }


@pytest.mark.parametrize("until", [10, 45, 65, 130])
def test_capture_statistics(capture: Capture, until: float) -> None:
    """Each device's numbers are those that a count of the raw events gives."""
    replay = Replay(capture, until)
    raw = {(params["aor"], params["attr"]) for _, name, params in capture if name == "E_UL_CONTACT_INSERT"}
    assert len(raw) == 10
    for aor, attr in raw:
        device = replay.usrloc.devices.by_id[f"{aor}/{attr.strip('<>') or aor}"]
        assert replay.statistics(device) == count(capture, aor, attr, until=until)


def test_capture_in_the_middle(middle: Replay) -> None:
    """At t = 65 each of the ten devices is in the state its phone was in."""
    expected = {
        ALICE: "online",
        "alice/urn:uuid:a170b338-3926-3059-f28c-105d1fb17c23": "online",
        "bob": "online",
        "carol": "offline",
        "dave": "online",
        "erin": "stale",
        "frank": "losing",
        "grace": "offline",
        "heidi": "offline",
        "ivan x": "online",
    }
    assert middle.statuses() == expected


def test_capture_at_the_end(end: Replay) -> None:
    """At the end who was still connected is stale, and who had gone is offline."""
    gone, stale = [ALICE, "carol", "erin", "frank", "heidi"], ["bob", "dave", "grace", "ivan x"]
    other_alice = "alice/urn:uuid:a170b338-3926-3059-f28c-105d1fb17c23"
    assert end.statuses() == dict.fromkeys(gone, "offline") | dict.fromkeys([*stale, other_alice], "stale")


def test_dave(middle: Replay, end: Replay) -> None:
    """Dave's page reload: two contacts of one device, the old one a ghost whose losses are not the device's."""
    device = middle.device("dave")
    old, new = device.contacts
    assert (device.id, ghosts.is_ghost(old, LOST_AFTER), ghosts.is_ghost(new, LOST_AFTER)) == (DAVE, True, False)
    assert (old.consecutive_lost, new.consecutive_lost, middle.statistics(device)["lost"]) == (3, 0, 0)
    assert end.statistics(end.device("dave"))["lost"] == 0
    assert new.registration.user_agent == 'Weird "UA" \\ \xe9 \t<b>x</b>'


def test_switch_over_of_dave(middle: Replay) -> None:
    """Dave was away for the second between his connection's death and his new page."""
    entries = [entry for entry in middle.usrloc.changes.entries if entry.event == "switched-over"]
    assert [entry.device for entry in entries] == [DAVE]
    assert [entry.fields["outage_ms"] for entry in entries] == [1002]


def test_bob(middle: Replay) -> None:
    """Bob has no instance, lost three pings and is back."""
    device = middle.device("bob")
    assert (device.id, device.instance, device.contacts[0].consecutive_lost) == ("bob/bob", "", 0)
    assert middle.lines("bob") == ["registered", "lost", "stale", "recovered"]


@pytest.mark.parametrize(
    ("name", "ended_by", "ended_at_s"),
    [
        ("heidi", "removed-after-lost-pings", 64.160),
        ("carol", "removed-after-lost-pings", 45.415),
        ("grace", "unregistered", 34.964),
    ],
)
def test_ends(middle: Replay, name: str, ended_by: str, ended_at_s: float) -> None:
    """What OpenSIPS removed for lost pings and what unregistered are told apart."""
    contact = middle.device(name).contacts[0]
    assert contact.ended_by == ended_by
    assert contact.ended_at == pytest.approx(T0 + ended_at_s * 1000, abs=2)


def test_heidi(middle: Replay) -> None:
    """Heidi's connection died, her pings got lost, OpenSIPS removed her; nobody switched over."""
    assert middle.lines("heidi") == ["registered", "disconnected", "lost", "stale", "removed-after-lost-pings"]


def test_grace(end: Replay) -> None:
    """Grace came back with another URI: one device, two contacts, no switch-over."""
    device = end.device("grace")
    assert [bool(contact.ended_at) for contact in device.contacts] == [True, False]
    assert len({contact.binding.uri for contact in device.contacts}) == 2
    assert end.lines("grace") == ["registered", "unregistered", "registered", "disconnected"]


def test_ivan(end: Replay) -> None:
    """An AOR with a space is an AOR."""
    assert end.device("ivan x").contacts[0].binding.uri.startswith("sip:ivan%20x@")


def test_push(end: Replay) -> None:
    """Carol and erin can be woken by push."""
    woken = {
        d.aor: d.contacts[0].push_provider for d in end.usrloc.devices.by_id.values() if d.contacts[0].push_provider
    }
    assert woken == {"carol": "fcm", "erin": "webpush"}


def test_capture_is_consistent(end: Replay) -> None:
    """The real stream leaves a consistent picture, and device times that rise."""
    assert_consistent(end.usrloc)
    for device in end.usrloc.devices.by_id.values():
        times = [entry.ts for entry in end.usrloc.changes.entries if entry.device == device.id]
        assert all(one <= other for one, other in pairwise(times))
        assert device.id == sip.device_id(device.aor, device.contacts[0].binding.uri, device.instance)
