"""Which contact a disconnect is about."""

import pytest

from companion.opensips.events import DELETE, INSERT, UPDATE, Event
from companion.usrloc.changes import Changes, Stamp
from companion.usrloc.connections import MAX_CROWDED
from tests.unit.usrloc.world import NEW, NEW_AT, OLD_AT, World, disconnect, event


@pytest.mark.parametrize(
    "registered",
    [
        [event(INSERT), event(INSERT, NEW)],
        [event(INSERT, path="<sip:proxy;lr>")],
        [event(INSERT, received=f"sip:{OLD_AT}")],
        [event(INSERT, received=f"sip:{OLD_AT};transport=tcp")],
        [event(INSERT), event(DELETE)],
        [event(INSERT), event(UPDATE, at=NEW_AT, cseq=2)],
    ],
    ids=["shared", "path", "udp", "tcp", "ended", "moved"],
)
def test_disconnect_that_says_nothing(world: World, registered: list[Event]) -> None:
    """The death of a shared address, of UDP, behind a Path, or where a contact no longer is, changes no contact."""
    world.apply(*registered)
    world.usrloc.changes.take()
    world.apply(disconnect())
    assert world.usrloc.changes == Changes()
    assert not any(contact.disconnected_at for contact in world.usrloc.devices.contacts.values())


def test_disconnect_of_another_cluster(world: World) -> None:
    """The same address may be in use in two clusters' networks."""
    world.apply(event(INSERT))
    world.usrloc.apply(disconnect(), Stamp("x", "other", world.now + 1, 1))
    assert not world.contact().disconnected_at


def test_crowded_connections_are_bounded(world: World) -> None:
    """Of the connections of contacts that were left out, the latest are kept; one noted again counts as late."""
    connections = world.usrloc._connections
    for number in range(MAX_CROWDED + 1):
        connections.note_left_out("c", "first")
        connections.note_left_out("c", f"192.0.2.1:{number}")
    connections.note_left_out("c", "")
    crowded = ["first", "192.0.2.1:0", "192.0.2.1:1", "192.0.2.1:2", f"192.0.2.1:{MAX_CROWDED}", ""]
    assert [connections.is_crowded("c", one) for one in crowded] == [True, False, False, True, True, False]


def test_connection_shared_no_longer(world: World) -> None:
    """When one of two lines has ended, the death of their connection tells of the other."""
    world.apply(event(INSERT), event(INSERT, NEW), event(DELETE), disconnect())
    assert (world.contact().disconnected_at, world.status(NEW)) == (0, "stale")
