"""Why contacts end: they unregister, expire, or OpenSIPS removes them."""

from companion.opensips.events import DELETE, INSERT, LOST_PING_US, UPDATE
from tests.unit.usrloc.world import DEVICE, NEW, NOW, World, answer, event, loss


def test_unregistered(world: World) -> None:
    """A DELETE ends a contact, and its device keeps it as offline."""
    world.apply(event(INSERT), answer(), event(DELETE))
    assert (world.contact().ended_by, world.status()) == ("unregistered", "offline")
    assert [world.contact()] == world.usrloc.devices.by_id[DEVICE].contacts


def test_removed_after_lost_pings(world: World) -> None:
    """A DELETE right behind a lost ping is OpenSIPS' own doing."""
    sentinel_ms = LOST_PING_US // 1000
    world.apply(event(INSERT), *[loss()] * 5)
    world.apply(event(DELETE, latency_ms=sentinel_ms), after_ms=1)
    assert world.contact().ended_by == "removed-after-lost-pings"


def test_unregistered_after_losses(world: World) -> None:
    """A DELETE some time after a lost ping is the phone's own."""
    world.apply(event(INSERT), loss(), event(DELETE, latency_ms=LOST_PING_US // 1000), after_ms=5000)
    assert world.contact().ended_by == "unregistered"


def test_expired(world: World) -> None:
    """A DELETE when `expires` has passed is an expiry; when it never comes, `expire` does the same."""
    expires_at = NOW + 1500
    world.apply(event(INSERT, expires_at=expires_at), event(DELETE, expires_at=expires_at))
    assert world.contact().ended_by == "expired"
    world.apply(event(INSERT, NEW, expires_at=world.now + 2500))
    assert not world.usrloc.ends.expire(world.contact(NEW), world.now + 1499, world.now + 9000)
    assert not world.contact(NEW).ended_at
    assert world.usrloc.ends.expire(world.contact(NEW), world.now + 1500, world.now + 9000)
    assert ("expired", world.now + 9000) == (world.contact(NEW).ended_by, world.contact(NEW).ended_at)


def test_permanent_contact_never_expires(world: World) -> None:
    """`expires` 0 is never."""
    world.apply(event(INSERT))
    world.usrloc.ends.expire(world.contact(), 1 << 50, 1 << 50)
    assert not world.contact().ended_at


def test_replicated_delete(world: World) -> None:
    """Each member of a cluster tells of an end: it is one."""
    world.apply(event(INSERT), event(DELETE))
    world.apply(event(DELETE), node="m")
    assert world.lines() == ["registered", "unregistered"]


def test_replicated_delete_that_is_late(world: World) -> None:
    """Another member's word of the end of an older REGISTER does not end the newer one."""
    world.apply(event(INSERT), event(UPDATE, cseq=2))
    world.apply(event(DELETE, cseq=1), node="m")
    assert world.status() == "online"
