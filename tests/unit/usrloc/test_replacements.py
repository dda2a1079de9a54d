"""A registrar that makes room for a new contact: a DELETE and an INSERT in one go."""

from typing import Any

import pytest

from companion.opensips.events import AOR_DELETE, DELETE, DISCONNECT, INSERT, LATENCY, AorEvent, DisconnectEvent
from tests.unit.usrloc.world import World, event

OLD, NEW = "sip:r1@aaa.invalid;transport=wss", "sip:r2@bbb.invalid;transport=wss"
OLD_AT: dict[str, Any] = {
    "received": "sip:198.51.100.50:40100;transport=wss",
    "attr": "<urn:uuid:1>",
    "socket": "wss:192.0.2.1:443",
}
NEW_AT = OLD_AT | {"received": "sip:203.0.113.50:40200;transport=wss", "callid": "new"}
MOVE = {"from": "198.51.100.50:40100", "to": "203.0.113.50:40200"}


@pytest.fixture
def world() -> World:
    world = World()
    world.apply(event(INSERT, OLD, **OLD_AT), event(LATENCY, OLD, latency_ms=40, **OLD_AT))
    return world


def test_replaced_after_a_disconnect(world: World) -> None:
    """The outage lasts from the end of the connection to the new REGISTER."""
    world.apply(DisconnectEvent(DISCONNECT, "198.51.100.50:40100", "wss", "wss:192.0.2.1:443"), after_ms=5000)
    world.apply(event(DELETE, OLD, **OLD_AT), after_ms=7000)
    world.apply(event(INSERT, NEW, **NEW_AT), after_ms=50)
    assert world.switch_overs() == [MOVE | {"outage_ms": 7050}]


def test_replaced_alive(world: World) -> None:
    """The outage is at most the time since the old contact's last answer."""
    world.apply(event(DELETE, OLD, **OLD_AT), after_ms=3000)
    world.apply(event(INSERT, NEW, **NEW_AT), after_ms=1)
    assert world.switch_overs() == [MOVE | {"outage_at_most_ms": 3001}]


def test_unregistered_at_once(world: World) -> None:
    """A phone that was the last of its AOR, and unregistered, is not replaced, however soon it is back."""
    world.apply(event(DELETE, OLD, **OLD_AT), after_ms=3000)
    world.apply(AorEvent(AOR_DELETE, "location", "alice"), event(INSERT, NEW, **NEW_AT), after_ms=1)
    assert world.switch_overs() == []


def test_unregistered_before(world: World) -> None:
    """A phone that unregisters, and registers from elsewhere later, had no outage."""
    world.apply(event(DELETE, OLD, **OLD_AT))
    world.apply(event(INSERT, NEW, **NEW_AT), after_ms=500)
    assert world.switch_overs() == []
