"""When a contact is a ghost."""

import pytest

from companion.opensips.events import INSERT, UPDATE, ContactEvent
from tests.unit.usrloc.world import NEW, NEW_AT, World, answer, disconnect, event, loss


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
