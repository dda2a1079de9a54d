"""What an answered and a lost ping are for samples and latencies."""

from companion.opensips.events import INSERT, LATENCY
from tests.unit.usrloc.world import DEVICE, World, answer, event, loss


def test_answered_ping(world: World) -> None:
    """An answer is a sample in ms, and the contact's last latency."""
    world.apply(event(INSERT), event(LATENCY)._replace(latency_us=42_923))
    assert [(DEVICE, world.now, 43)] == [tuple(sample) for sample in world.usrloc.changes.answered]
    assert (43, world.now) == (world.contact().last_latency_ms, world.contact().last_latency_at)


def test_lost_ping_is_no_latency(world: World) -> None:
    """The sentinel is a loss of its contact and never a latency."""
    world.apply(event(INSERT), answer(40), loss())
    changes = world.usrloc.changes
    assert [value for _, _, value in changes.answered] == [40]
    assert [world.contact().number] == [value for _, _, value in changes.lost]
    assert (world.contact().last_latency_ms, world.contact().consecutive_lost, world.status()) == (40, 1, "losing")
