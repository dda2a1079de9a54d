"""When a contact is a ghost."""

import pytest

from companion.opensips.events import INSERT, UPDATE, ContactEvent
from tests.unit.usrloc.world import ELSEWHERE, NEW, NEW_AT, World, answer, disconnect, event, loss


def test_ghost(world: World) -> None:
    """An old contact is a ghost once it is dead and a newer one of its instance has answered since."""
    world.apply(event(INSERT), answer(), disconnect(), event(INSERT, NEW, NEW_AT))
    assert not world.is_ghost()
    world.apply(answer(uri=NEW, at=NEW_AT))
    assert (True, False, world.now) == (world.is_ghost(), world.is_ghost(NEW), world.contact().superseded_at)


def test_ghost_by_losses(world: World) -> None:
    """An old contact that lost N pings is a ghost from the newer one's first answer since it last showed life on."""
    world.apply(event(INSERT), event(INSERT, NEW, NEW_AT), answer(), answer(uri=NEW, at=NEW_AT))
    since = world.now
    world.apply(loss(), answer(uri=NEW, at=NEW_AT), loss())
    assert not world.is_ghost()
    world.apply(loss())
    assert (True, since) == (world.is_ghost(), world.contact().superseded_at)


def test_older_contact_is_the_live_one(world: World) -> None:
    """A newer contact that died is no ghost of an older one that answers."""
    world.apply(event(INSERT), event(INSERT, NEW, NEW_AT), disconnect(NEW_AT), answer())
    assert not world.is_ghost(NEW)


@pytest.mark.parametrize("life", [answer(), event(UPDATE, cseq=2)])
def test_ghost_that_lives(world: World, life: ContactEvent) -> None:
    """A ghost that shows life is none, until a newer contact answers again."""
    world.apply(event(INSERT), event(INSERT, NEW, NEW_AT), *[loss()] * 3, answer(uri=NEW, at=NEW_AT))
    assert world.is_ghost()
    world.apply(life)
    assert (world.is_ghost(), world.contact().superseded_at) == (False, 0)
    world.apply(*[loss()] * 3)
    assert not world.is_ghost()


def test_two_phones_with_one_instance(world: World) -> None:
    """Two phones that lived beside each other stay two: the one that sleeps is no ghost of the one that restarts."""
    other, restarted = "sip:alice@other.invalid;transport=ws", "sip:alice@restarted.invalid;transport=ws"
    world.apply(event(INSERT), event(INSERT, other, NEW_AT))
    for _ in range(3):
        world.apply(answer(), answer(uri=other, at=NEW_AT))
    world.apply(*[loss()] * 3)
    world.apply(event(INSERT, restarted, ELSEWHERE), answer(uri=restarted, at=ELSEWHERE))
    assert not world.is_ghost()
    world.apply(disconnect(NEW_AT), answer(uri=restarted, at=ELSEWHERE))
    assert not world.is_ghost()


def test_contacts_one_after_the_other(world: World) -> None:
    """A phone that took a new URI twice is one phone: both older contacts are ghosts."""
    third = "sip:alice@third.invalid;transport=ws"
    world.apply(event(INSERT), answer(), event(INSERT, NEW, NEW_AT), answer(uri=NEW, at=NEW_AT))
    world.apply(event(INSERT, third, ELSEWHERE), answer(uri=third, at=ELSEWHERE), disconnect(), disconnect(NEW_AT))
    assert (world.is_ghost(), world.is_ghost(NEW), world.is_ghost(third)) == (True, True, False)
