"""When a device has switched over, and how long it was away."""

import pytest

from companion.opensips.events import DELETE, INSERT, UPDATE, Event
from tests.unit.usrloc.world import NEW, NEW_AT, OLD_AT, World, answer, disconnect, event, loss


def test_switch_over_seen(world: World) -> None:
    """The death seen first, then the REGISTER from elsewhere: the outage is known."""
    world.apply(event(INSERT), answer(), disconnect())
    world.apply(event(INSERT, NEW, NEW_AT), after_ms=1002)
    assert world.switch_overs() == [{"from": OLD_AT, "to": NEW_AT, "outage_ms": 1002}]


def test_switch_over_of_the_same_contact(world: World) -> None:
    """A contact that keeps its URI and comes from elsewhere has switched over too."""
    world.apply(event(INSERT), answer(), disconnect())
    world.apply(event(UPDATE, at=NEW_AT, cseq=2), after_ms=700)
    assert world.switch_overs() == [{"from": OLD_AT, "to": NEW_AT, "outage_ms": 700}]


def test_switch_over_not_seen(world: World) -> None:
    """A contact that comes from elsewhere before its old connection died was away at most since it last answered."""
    world.apply(event(INSERT), answer())
    world.apply(event(UPDATE, at=NEW_AT, cseq=2), after_ms=4000)
    world.apply(disconnect())
    assert world.switch_overs() == [{"from": OLD_AT, "to": NEW_AT, "outage_at_most_ms": 4000}]
    assert (world.contact().disconnected_at, world.status()) == (0, "online")


def test_death_told_after_the_new_contact(world: World) -> None:
    """A death that is told after the device registered from elsewhere makes a switch-over with only a bound."""
    world.apply(event(INSERT), answer())
    world.apply(event(INSERT, NEW, NEW_AT), after_ms=4000)
    assert world.switch_overs() == []
    world.apply(disconnect())
    assert world.switch_overs() == [{"from": OLD_AT, "to": NEW_AT, "outage_at_most_ms": 4000}]


def test_losses_after_the_new_contact(world: World) -> None:
    """A half-open connection tells of its death by losses: one switch-over, whatever is told later."""
    world.apply(event(INSERT), answer(), event(INSERT, NEW, NEW_AT), *[loss()] * 5, disconnect())
    assert world.switch_overs() == [{"from": OLD_AT, "to": NEW_AT, "outage_at_most_ms": 1000}]


@pytest.mark.parametrize(
    "story",
    [
        [event(INSERT), event(DELETE), event(INSERT, NEW, NEW_AT)],
        [event(INSERT), disconnect(), event(INSERT, NEW)],
        [event(INSERT), answer(), event(INSERT, NEW, NEW_AT), answer()],
        [event(INSERT, attr=""), disconnect(), event(INSERT, NEW, NEW_AT, attr="")],
        [event(INSERT), event(INSERT, NEW, NEW_AT), answer(), disconnect()],
        [event(INSERT), disconnect(), event(INSERT, NEW, NEW_AT, attr="<urn:uuid:2>")],
    ],
    ids=["unregistered", "same address", "two flows", "no instance", "second flow ends", "another device"],
)
def test_no_switch_over(world: World, story: list[Event]) -> None:
    """Who left on purpose, did not move, has two flows, or may be somebody else, has not switched over."""
    world.apply(*story)
    assert world.switch_overs() == []


def test_switch_over_from_a_contact_nobody_saw_alive(world: World) -> None:
    """Where there is no evidence of life, there is no bound either."""
    world.apply(loss(), event(UPDATE, at=NEW_AT, cseq=2))
    assert world.switch_overs() == [{"from": OLD_AT, "to": NEW_AT}]
