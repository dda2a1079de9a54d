"""A push registration that comes with another URI is the same phone."""

import pytest

from companion.opensips.events import INSERT, LATENCY, UPDATE
from tests.unit.usrloc.world import World, event

INSTANCE = "<urn:uuid:1>"
OLD = "sip:k3j2@a.invalid;transport=ws;pn-provider=apns;pn-param=TEAM.app;pn-prid=T1"
NEW = "sip:x9q7@b.invalid;transport=ws;PN-PRID=T1;pn-provider=apns;pn-param=TEAM.app"
OLD_AT, NEW_AT = "sip:192.0.2.1:1111;transport=ws", "sip:192.0.2.2:2222;transport=ws"


@pytest.mark.parametrize("attr", ["", INSTANCE])
def test_reload(world: World, attr: str) -> None:
    """The UPDATE with a new URI ends the old one, and the device stays the same, with or without a SIP instance."""
    world.apply(event(INSERT, OLD, received=OLD_AT, attr=attr))
    world.apply(event(LATENCY, OLD, latency_ms=20, received=OLD_AT, attr=attr))
    world.apply(event(UPDATE, NEW, received=NEW_AT, attr=attr, callid="new"))
    world.apply(event(LATENCY, NEW, latency_ms=30, received=NEW_AT, attr=attr, callid="new"))
    assert world.contact(OLD).ended_by == "replaced"
    assert world.contact(NEW).device == world.contact(OLD).device
    assert [value for _, _, value in world.usrloc.changes.answered] == [20, 30]
    assert len({device for device, _, _ in world.usrloc.changes.answered}) == 1
    assert world.switch_overs() == [
        {"from": "192.0.2.1:1111", "to": "192.0.2.2:2222", "outage_at_most_ms": 1000},
    ]


@pytest.mark.parametrize(
    "uri",
    [
        NEW.replace("T1", "T2"),
        NEW.replace("TEAM.app", "TEAM.other"),
        NEW.replace("apns", "fcm"),
        "sip:x9q7@b.invalid;transport=ws",
    ],
)
def test_other_push_parameters(world: World, uri: str) -> None:
    """Another phone of the AOR replaces nothing."""
    world.apply(event(INSERT, OLD), event(UPDATE, uri, callid="new"))
    assert (world.contact(OLD).ended_at, world.lines()) == (0, ["registered", "registered"])


def test_insert_replaces_nothing(world: World) -> None:
    """Without pn_enable the registrar keeps both contacts, and tells of an INSERT."""
    world.apply(event(INSERT, OLD), event(INSERT, NEW, callid="new"))
    assert world.contact(OLD).ended_at == 0


def test_guess_that_was_wrong(world: World) -> None:
    """A ping of the old URI shows that it was not replaced."""
    world.apply(event(INSERT, OLD), event(UPDATE, NEW, callid="new"))
    world.apply(event(LATENCY, OLD, latency_ms=20))
    assert world.status(OLD) == "online"
