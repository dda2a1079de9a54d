"""When contacts begin to fail, and when they recover."""

from companion.opensips.events import INSERT, UPDATE
from tests.unit.usrloc.world import ELSEWHERE, World, answer, disconnect, event, loss


def test_losing_stale_recovered(world: World) -> None:
    """A run of losses is told at its first, at the one that makes stale, and when it ends."""
    world.apply(event(INSERT), *[loss()] * 5, answer())
    assert world.lines() == ["registered", "lost", "stale", "recovered"]
    recovered = world.timeline("recovered")[0].fields
    assert (recovered["by"], recovered["lost"], recovered["after_ms"]) == ("ping", 5, 5000)
    assert world.status() == "online"


def test_register_ends_losses(world: World) -> None:
    """A REGISTER is evidence of life: it ends a run of losses and a death."""
    world.apply(event(INSERT), answer(), loss(), loss(), loss(), event(UPDATE, cseq=2))
    assert (world.status(), world.contact().consecutive_lost, world.contact().lost_since) == ("online", 0, 0)
    recovered = world.timeline("recovered")[0].fields
    assert (recovered["by"], recovered["lost"], recovered["after_ms"]) == ("register", 3, 3000)


def test_disconnect(world: World) -> None:
    """When its WebSocket dies a contact is stale at once."""
    world.apply(event(INSERT), answer(), disconnect())
    assert ("stale", world.now) == (world.status(), world.contact().disconnected_at)
    assert world.lines() == ["registered", "disconnected"]


def test_death_in_the_same_millisecond(world: World) -> None:
    """Events of one AOR and a death may share a millisecond: each still counts."""
    world.apply(event(INSERT))
    world.apply(disconnect(), after_ms=0)
    assert world.status() == "stale"
    world.apply(disconnect(ELSEWHERE))
    world.apply(event(UPDATE, cseq=2), after_ms=0)
    assert world.status() == "online"


def test_answer_that_was_under_way(world: World) -> None:
    """An answer to a ping from before the death is a sample, but does not bring a contact back; a later one does."""
    world.apply(event(INSERT), disconnect())
    world.apply(answer(2000))
    assert (world.status(), len(world.usrloc.changes.answered)) == ("stale", 1)
    world.apply(answer(500))
    assert (world.status(), world.lines()[-1]) == ("online", "recovered")
