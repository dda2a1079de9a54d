"""Bindings of one URI, and ends that were only guesses."""

from typing import Any

import pytest

from companion.opensips.events import DELETE, INSERT, LATENCY, LOST_PING_US, UPDATE
from companion.usrloc.contact import EXTENSION_MS, contact_id
from companion.usrloc.ends import LATE_MS
from tests.unit.usrloc.world import NOW, World, event

BOOT1: dict[str, Any] = {"callid": "boot1", "cseq": 5, "expires_at": NOW + 3_600_000}
BOOT2: dict[str, Any] = {"callid": "boot2", "cseq": 1, "expires_at": NOW + 3_600_000}
LOST: dict[str, Any] = {"latency_ms": LOST_PING_US // 1000}


def test_end_of_an_older_binding(world: World) -> None:
    """With matching_mode 1 the end of an older Call-ID is not the end of the newer one, and its pings go on."""
    world.apply(event(INSERT, **BOOT1), event(INSERT, **BOOT2))
    world.apply(event(LATENCY, latency_ms=20, **BOOT2), event(DELETE, **BOOT1))
    assert world.status() == "online"
    world.apply(event(LATENCY, latency_ms=21, **BOOT2))
    assert [value for _, _, value in world.usrloc.changes.answered] == [20, 21]
    assert world.contact().registration.callid == "boot2"


def test_end_of_the_newer_binding(world: World) -> None:
    """Once the newer Call-ID has ended, a ping of the older one shows that the phone is still registered."""
    world.apply(event(INSERT, **BOOT1), event(INSERT, **BOOT2), event(DELETE, **BOOT2))
    assert world.status() == "offline"
    world.apply(event(LATENCY, latency_ms=20, **BOOT1))
    assert world.status() == "online"


def test_pings_of_an_older_binding(world: World) -> None:
    """An older binding's lost pings say nothing of the newer one; its answers from the same address are life."""
    world.apply(event(INSERT, **BOOT1), event(INSERT, **BOOT2))
    world.apply(*[event(LATENCY, **LOST, **BOOT1)] * 3, after_ms=30_000)
    assert (world.contact().consecutive_lost, world.usrloc.ignored["older_binding"]) == (0, 3)
    world.apply(event(LATENCY, latency_ms=30, **BOOT1))
    assert world.contact().last_latency_ms == 30
    assert world.contact().registration.callid == "boot2"


def test_ping_of_a_register_that_was_missed(world: World) -> None:
    """A Call-ID that was never registered before is a newer REGISTER, whatever its expiry: no ping is swallowed."""
    world.apply(event(INSERT, **BOOT1))
    shorter: dict[str, Any] = BOOT2 | {"expires_at": NOW + 60_000, "received": "sip:203.0.113.7:4711"}
    world.apply(event(LATENCY, latency_ms=20, **shorter))
    assert world.contact().registration.callid == "boot2"
    assert world.contact().last_latency_ms == 20


@pytest.mark.parametrize("callid", ["boot1", "other"])
def test_end_of_a_binding_with_a_later_expiry(world: World, callid: str) -> None:
    """The end of a Call-ID whose REGISTER was missed, with a later expiry, is the end of the contact."""
    world.apply(event(INSERT, **BOOT1))
    world.apply(event(DELETE, callid=callid, cseq=9, expires_at=NOW + 7_200_000))
    assert world.contact().ended_by == "unregistered"


def test_late_ping(world: World) -> None:
    """A ping that was under way when OpenSIPS ended the contact does not revive it."""
    world.apply(event(INSERT), event(DELETE), event(LATENCY, latency_ms=20))
    assert (world.status(), world.usrloc.ignored["after_end"]) == ("offline", 1)
    world.apply(event(LATENCY, latency_ms=20), after_ms=LATE_MS)
    assert world.status() == "online"


@pytest.mark.parametrize("expires_at", [1000, NOW - 3_600_000, NOW - 1])
def test_expiry_in_the_past(world: World, expires_at: int) -> None:
    """A contact whose expiry is past at first sight lives as long as pings arrive: the clock may be another host's."""
    world.apply(event(INSERT, expires_at=expires_at))
    for _ in range(4):
        assert not world.usrloc.ends.expire(world.contact(), world.now - 90_000, world.now)
        world.apply(event(LATENCY, latency_ms=20, expires_at=expires_at), after_ms=120_000)
        assert world.status() == "online"
    assert len(world.usrloc.changes.answered) == 4
    world.now += EXTENSION_MS + 1
    assert world.usrloc.ends.expire(world.contact(), world.now, world.now)
    assert world.status() == "offline"


def test_ping_after_a_guessed_end(world: World) -> None:
    """A contact that we ended because it seemed to have expired is back with its next ping, at once."""
    ping = event(LATENCY, latency_ms=20, expires_at=NOW - 1)
    world.apply(event(INSERT, expires_at=NOW + 1000))
    assert world.usrloc.ends.expire(world.contact(), NOW + EXTENSION_MS + 1, world.now + 1)
    world.apply(ping)
    assert (world.status(), world.usrloc.ignored["after_end"]) == ("online", 0)


def test_removal_by_opensips(world: World) -> None:
    """A DELETE right behind a lost ping is OpenSIPS' own, and counts as one."""
    world.apply(event(INSERT), event(LATENCY, **LOST))
    world.apply(event(DELETE, **LOST), after_ms=5)
    assert (world.contact().ended_by, world.usrloc.ends.removals["n"]) == ("removed-after-lost-pings", 1)


def test_removal_by_the_companion(world: World) -> None:
    """The DELETE of our own removal is none of OpenSIPS', even right behind a lost ping."""
    world.apply(event(INSERT), event(LATENCY, **LOST))
    world.usrloc.ends.own_removals = {contact_id(world.contact().binding)}
    world.apply(event(DELETE, **LOST), after_ms=5)
    assert (world.contact().ended_by, world.usrloc.ends.removals["n"]) == ("removed", 0)


def test_back_after_its_removal(world: World) -> None:
    """A phone that came back after we removed it, and unregisters, is not removed once more."""
    world.apply(event(INSERT), event(LATENCY, **LOST))
    world.usrloc.ends.own_removals = {contact_id(world.contact().binding)}
    world.apply(event(DELETE, **LOST), event(INSERT, cseq=2), event(DELETE, cseq=2))
    assert world.contact().ended_by == "unregistered"


def test_call_ids_that_are_kept(world: World) -> None:
    """A phone that comes back to an old Call-ID is no older binding; only the last few are kept."""
    for number in range(8):
        world.apply(event(UPDATE, callid=f"call{number}", cseq=number))
    assert world.contact().older_callids == ("call6", "call5", "call4", "call3")
    world.apply(event(UPDATE, callid="call5", cseq=9))
    assert world.contact().older_callids == ("call7", "call6", "call4", "call3")
