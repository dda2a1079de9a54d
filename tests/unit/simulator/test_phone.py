"""Phones and their OpenSIPS on a clock of ours: no sockets, no waiting."""

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from companion.opensips.events import LOST_PING_US
from companion.simulator.node import Node, Settings
from companion.simulator.phone import Behaviour, PhoneState, SimulatedPhone, SimulatedPush

STARTED_AT = 1795452109.0
SETTINGS = Settings(ping_interval=5, ping_threshold=3, max_pings_lost=5)


class World:
    """Hold a node with its phones, the events it raised, and a clock moved by hand."""

    def __init__(self, phones: Iterable[SimulatedPhone], settings: Settings = SETTINGS) -> None:
        self.texts: list[bytes] = []
        self.node = Node(settings, lambda _, text: self.texts.append(text), lambda now: STARTED_AT + now)
        for phone in phones:
            self.node.add(phone)

    def after(self, seconds: float) -> list[tuple[str, dict[str, Any]]]:
        """Let time pass, and return the events raised since the last call."""
        self.node.advance(self.node.agenda.now + seconds)
        events = [json.loads(text) for text in self.texts]
        self.texts.clear()
        return [(event["method"], event["params"]) for event in events]


def browser(**changes: Any) -> SimulatedPhone:
    return SimulatedPhone(aor="dave", instance="9531985d", **changes)


def names(events: list[tuple[str, dict[str, Any]]]) -> list[str]:
    return [name for name, _ in events]


def latencies(events: list[tuple[str, dict[str, Any]]], uri: str) -> list[int]:
    return [params["latency"] for name, params in events if name == "E_UL_LATENCY_UPDATE" and params["uri"] == uri]


def test_a_steady_phone_answers_every_ping() -> None:
    """A phone registers (AOR first) and then each ping interval gives one latency in microseconds."""
    phone = browser()
    world = World([phone])

    events = world.after(51)

    assert names(events)[:2] == ["E_UL_AOR_INSERT", "E_UL_CONTACT_INSERT"]
    assert events[1][1]["attr"] == "<urn:uuid:9531985d>"
    assert events[1][1]["expires"] == STARTED_AT + 600
    assert len(latencies(events, phone.uri)) == 10
    assert all(1_000 <= latency < 1_000_000 for latency in latencies(events, phone.uri))


def test_a_refresh_updates_the_contact() -> None:
    """Before its registration ends a phone refreshes it: same URI, next CSeq, the last latency, new expires."""
    world = World([browser(lifetime=60)])

    name, params = next(event for event in world.after(49) if event[0] == "E_UL_CONTACT_UPDATE")

    assert (name, params["cseq"], params["expires"]) == ("E_UL_CONTACT_UPDATE", 2, STARTED_AT + 108)
    assert params["latency"] > 0


def test_a_mute_phone_loses_pings_and_stays() -> None:
    """Without remove_on_timeout every lost ping says 1800000000 and the contact stays, until it answers again."""
    phone = browser()
    world = World([phone])
    world.after(7)
    phone.mute()

    assert latencies(world.after(52), phone.uri) == [LOST_PING_US] * 10
    phone.unmute()
    assert LOST_PING_US not in latencies(world.after(30), phone.uri)
    assert world.node.pings["dave", phone.uri].lost == 10


def test_a_contact_goes_right_behind_its_last_lost_ping() -> None:
    """With remove_on_timeout, DELETE comes behind the fifth lost ping; its AOR goes later, with the usrloc timer."""
    phone = browser()
    world = World([phone], replace(SETTINGS, remove_on_timeout=True))
    world.after(7)
    phone.die()

    events = world.after(30)
    assert names(events) == ["E_UL_LATENCY_UPDATE"] * 5 + ["E_UL_CONTACT_DELETE"]
    assert events[-1][1]["latency"] == LOST_PING_US
    assert world.node.usrloc.find_contacts("dave") == []
    assert names(world.after(60)) == ["E_UL_AOR_DELETE"]


def test_a_reload_leaves_a_ghost() -> None:
    """A page reload: disconnect, a second later a new URI of the same instance; the old contact loses pings on."""
    phone = browser()
    world = World([phone])
    world.after(7)
    old_uri, old_address = phone.uri, phone.address
    phone.reload()

    name, params = world.after(0.5)[0]
    assert (name, params["src_port"]) == ("E_CORE_TCP_DISCONNECT", old_address[1])
    inserted, params = world.after(1)[0]
    assert (inserted, params["attr"]) == ("E_UL_CONTACT_INSERT", "<urn:uuid:9531985d>")
    assert params["uri"] == phone.uri != old_uri
    events = world.after(20)
    assert set(latencies(events, old_uri)) == {LOST_PING_US}
    assert LOST_PING_US not in latencies(events, phone.uri)


def test_a_roaming_phone_keeps_its_uri_and_changes_its_address() -> None:
    """Roaming is an UPDATE of the same contact with another received, and it answers from there."""
    phone = browser(transport="udp")
    world = World([phone])
    first = world.after(7)[1][1]
    phone.roam()

    events = world.after(20)
    updated = next(params for name, params in events if name == "E_UL_CONTACT_UPDATE")
    assert updated["uri"] == first["uri"]
    assert updated["received"] != first["received"]
    assert LOST_PING_US not in latencies(events, phone.uri)[-2:]


def test_a_sleeper_wakes_by_push_alone() -> None:
    """Asleep, a phone loses every ping; a push makes it register again and answer."""
    phone = browser(push=SimulatedPush("fcm", "token", "proj-1"))
    world = World([phone])
    world.after(7)
    phone.fall_asleep()

    assert set(latencies(world.after(60), phone.uri)) == {LOST_PING_US}
    world.node.push("dave", phone.uri)
    events = world.after(20)
    assert "E_UL_CONTACT_UPDATE" in names(events)
    assert LOST_PING_US not in latencies(events, phone.uri)[1:]
    assert ";pn-provider=fcm;pn-prid=token;pn-param=proj-1" in phone.uri


def test_a_push_does_nothing_for_a_phone_without_push_or_of_another_contact() -> None:
    """Only the phone the push is for wakes, and only if it can be woken."""
    asleep = browser()
    other = browser(push=SimulatedPush("fcm", "token", "proj-1"))
    world = World([asleep, other])
    for phone in (asleep, other):
        phone.fall_asleep()

    world.node.push("dave", asleep.uri)
    world.after(30)
    assert [asleep.state, other.state] == [PhoneState.ASLEEP, PhoneState.ASLEEP]


def test_leaving_says_goodbye_and_returns() -> None:
    """Unregistering deletes contact and AOR at once, hangs up half a second later, and comes back with a new URI."""
    phone = browser()
    world = World([phone])
    world.after(7)
    left = phone.uri
    phone.leave()

    assert names(world.after(1)) == ["E_UL_CONTACT_DELETE", "E_UL_AOR_DELETE", "E_CORE_TCP_DISCONNECT"]
    assert "E_UL_CONTACT_INSERT" in names(world.after(200))
    assert phone.uri != left


def test_a_dead_phone_expires() -> None:
    """A contact nobody refreshes is deleted by the usrloc timer once it expired."""
    phone = browser(lifetime=30)
    world = World([phone])
    phone.die()

    assert names(world.after(100))[-2:] == ["E_UL_CONTACT_DELETE", "E_UL_AOR_DELETE"]
    assert world.node.usrloc.aors == []


def test_a_silent_phone_is_never_pinged() -> None:
    """Without the ping flags there is a contact and no word about it."""
    world = World([browser(behaviour=Behaviour.SILENT)])

    events = world.after(60)
    assert "E_UL_LATENCY_UPDATE" not in names(events)
    assert events[1][1]["bflags"] == 0


def test_a_dropped_connection_is_said_once() -> None:
    """A connection ends once, whatever happens to its phone later."""
    phone = browser()
    world = World([phone])
    phone.drop_connection()
    phone.reload()

    assert names(world.after(0.5)).count("E_CORE_TCP_DISCONNECT") == 1


def test_a_restart_empties_usrloc_and_browsers_come_back() -> None:
    """After a restart nothing is known, nothing is said of it, and connected phones register again within seconds."""
    phone, desk = browser(), SimulatedPhone(aor="bob", transport="udp")
    world = World([phone, desk])
    world.after(7)
    world.node.restart()

    assert world.node.usrloc.aors == []
    assert names(world.after(5))[:2] == ["E_UL_AOR_INSERT", "E_UL_CONTACT_INSERT"]
    assert world.node.usrloc.aors == ["dave"]


@pytest.mark.parametrize("partitions", [1, 4])
def test_partitions_spread_the_pings(partitions: int) -> None:
    """Pings leave in as many seconds of the interval as there are partitions, each contact's once an interval."""
    phones = [SimulatedPhone(aor=f"u{number}", transport="udp") for number in range(50)]
    world = World(phones, replace(SETTINGS, ping_partitions=partitions))
    world.after(5.001)
    counts = [len([name for name in names(world.after(1.25)) if name.endswith("LATENCY_UPDATE")]) for _ in range(4)]

    assert sum(count > 0 for count in counts) == partitions
    assert sum(counts) in range(49, 52)
