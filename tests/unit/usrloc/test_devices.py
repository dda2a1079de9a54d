"""Which device a contact belongs to, and what is in memory."""

from companion.opensips.events import DELETE, INSERT, UPDATE
from companion.query.pings import merge_own_pings
from companion.usrloc.contact import Device
from companion.usrloc.devices import ENDED_KEPT
from companion.usrloc.ghosts import ghost_spans
from tests.unit.usrloc.world import DEVICE, LOST_AFTER, NEW, World, answer, disconnect, event, loss


def test_fallback_device(world: World) -> None:
    """Without an instance the URI's user names the device; it stays the same when the host changes."""
    world.apply(event(INSERT, "sip:bob@1.invalid", attr=""), event(INSERT, "sip:bob@2.invalid", attr=""))
    assert {device.id: len(device.contacts) for device in world.usrloc.devices.by_id.values()} == {"alice/bob": 2}


def test_instance_that_shows_up(world: World) -> None:
    """A contact whose instance is told later moves to the device of that name, and no device has it twice."""
    world.apply(event(INSERT, attr=""), answer(), event(UPDATE, cseq=2))
    owners = [device.id for device in world.usrloc.devices.by_id.values() if world.contact() in device.contacts]
    assert (owners, world.contact().device) == ([DEVICE], DEVICE)


def test_devices_of_one_aor(world: World) -> None:
    """Two instances under one AOR are two devices; one instance under two AORs is two devices too."""
    world.apply(event(INSERT), event(INSERT, NEW, attr="<urn:uuid:2>"), event(INSERT, aor="bob"))
    assert {DEVICE, "alice/urn:uuid:2", "bob/urn:uuid:1"} == set(world.usrloc.devices.by_id)


def test_ended_contacts_are_forgotten_in_time(world: World) -> None:
    """A device that makes a new contact each time it comes remembers the last ones, not all."""
    for number in range(ENDED_KEPT + 20):
        uri = f"sip:alice@{number}.invalid"
        world.apply(event(INSERT, uri), event(DELETE, uri))
    device = world.usrloc.devices.by_id[DEVICE]
    assert len(device.contacts) == ENDED_KEPT + 1
    assert set(device.contacts) == set(world.usrloc.devices.contacts.values())
    assert device.contacts[-1].binding.uri.startswith(f"sip:alice@{ENDED_KEPT + 19}.")


def test_ghosts_that_are_forgotten(world: World) -> None:
    """The lost pings of ghosts never count as the device's, however often the page was loaded again since."""
    for number in range(ENDED_KEPT + 20):
        uri = f"sip:alice@{number}.invalid"
        world.apply(event(INSERT, uri), answer(uri=uri))
        if number:
            ghost = f"sip:alice@{number - 1}.invalid"
            world.apply(*[loss(uri=ghost)] * LOST_AFTER, event(DELETE, ghost))
    ghosts = {
        contact.number: ghost_spans(contact, LOST_AFTER) for contact in world.usrloc.devices.by_id[DEVICE].contacts
    }
    changes = world.usrloc.changes
    pings = merge_own_pings([], [(ts, value) for _, ts, value in changes.lost], ghosts)
    assert (pings, len(changes.lost)) == ([], LOST_AFTER * (ENDED_KEPT + 19))


def test_put_and_drop(world: World) -> None:
    """What is dropped is gone with its contacts and connections, and what is put back goes on where it was."""
    world.apply(event(INSERT), answer(), loss())
    device, contact = world.usrloc.devices.by_id[DEVICE], world.contact()
    world.usrloc.devices.drop(device)
    assert (world.usrloc.devices.by_id, world.usrloc.devices.contacts, world.usrloc._connections._contacts) == (
        {},
        {},
        {},
    )
    world.usrloc.devices.put([device])
    world.apply(loss(), disconnect())
    assert (2, world.now) == (contact.consecutive_lost, contact.disconnected_at)


def test_put_does_not_replace(world: World) -> None:
    """What is in memory is newer than what is stored."""
    world.apply(event(INSERT))
    world.usrloc.devices.put([Device(DEVICE, "alice", "urn:uuid:1", 1)])
    assert [world.contact()] == world.usrloc.devices.by_id[DEVICE].contacts
