"""What a REGISTER does to a contact: enter it, renew it, or tell what another node told already."""

import pytest

from companion.opensips.events import DELETE, INSERT, LOST_PING_US, UPDATE, ContactEvent
from tests.unit.usrloc.world import DEVICE, World, answer, event, loss


def test_register(world: World) -> None:
    """A REGISTER makes a contact and its device, and is evidence of life."""
    world.apply(event(INSERT))
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
    world.apply(
        event(INSERT, latency_ms=40),
        event(UPDATE, latency_ms=50, cseq=2),
        event(UPDATE, latency_ms=LOST_PING_US // 1000, cseq=3),
        event(DELETE, latency_ms=60, cseq=3),
    )
    assert (world.usrloc.changes.answered, world.usrloc.changes.lost) == ([], [])
    assert (world.contact().last_latency_ms, world.contact().consecutive_lost) == (None, 0)


def test_replicated_register(world: World) -> None:
    """Each member of a cluster tells of a REGISTER: it is one contact, one registration, one line."""
    world.apply(event(INSERT))
    before = world.contact().last_register_at
    world.apply(event(INSERT, socket="ws:192.0.2.99:80"), node="m")
    assert (["registered"], before, 1) == (
        world.lines(),
        world.contact().last_register_at,
        len(world.usrloc.devices.contacts),
    )


def test_replicated_register_that_is_late(world: World) -> None:
    """Another member's word of an older REGISTER does not take the newer one back."""
    world.apply(event(INSERT), event(UPDATE, cseq=2), event(UPDATE, cseq=3))
    world.apply(event(INSERT), event(UPDATE, cseq=2), event(UPDATE, cseq=3), node="m")
    assert world.lines() == ["registered", "re-registered"]
    assert world.contact().registration.cseq == 3


def test_re_registrations_are_noted_sparsely(world: World) -> None:
    """A REGISTER that changes nothing but the time is noted once an hour, one from elsewhere or after a loss always."""
    world.apply(event(INSERT), *(event(UPDATE, cseq=cseq) for cseq in range(2, 9)))
    assert world.lines() == ["registered", "re-registered"]
    world.now += 3_600_000
    world.apply(event(UPDATE, cseq=9), event(UPDATE, cseq=10), loss(), event(UPDATE, cseq=11))
    assert world.lines()[2:] == ["re-registered", "lost", "re-registered", "recovered"]
    world.apply(event(UPDATE, cseq=12, user_agent="Phone 2.0"))
    assert world.lines()[-1] == "re-registered"


@pytest.mark.parametrize("ping", [answer(), loss()])
def test_discovered(world: World, ping: ContactEvent) -> None:
    """A ping of a contact nobody told of makes it known, with its sample; its registration is not dated."""
    world.apply(ping)
    assert (world.contact().registered_at, world.contact().last_register_at) == (0, 0)
    assert world.lines()[0] == "discovered"
    assert len(world.usrloc.changes.answered + world.usrloc.changes.lost) == 1
