"""Fleets: the same seed gives the same phones, and a fleet shows every behaviour."""

from companion.simulator.fleet import WEIRD_USER_AGENT, build_fleet
from companion.simulator.node import Node, Settings
from companion.simulator.phone import Behaviour


def live_for_ten_minutes(seed: int) -> list[bytes]:
    texts: list[bytes] = []
    node = Node(Settings(), lambda _, text: texts.append(text), lambda now: 1795452109.0 + now)
    for phone in build_fleet(40, seed, pace=5):
        node.add(phone)
    node.advance(600)
    return texts


def test_the_same_seed_gives_the_same_life() -> None:
    """A seed decides every byte a fleet makes OpenSIPS say; another seed, another life."""
    events = live_for_ten_minutes(seed=1)

    assert len(events) > 1000
    assert events == live_for_ten_minutes(seed=1)
    assert events != live_for_ten_minutes(seed=2)


def test_a_fleet_shows_every_behaviour_and_its_sleepers_can_be_woken() -> None:
    """The first phones of a fleet cover every behaviour; who sleeps has push, who reloads is a browser."""
    fleet = build_fleet(100)

    assert {phone.behaviour for phone in fleet[:8]} == set(Behaviour)
    assert all(phone.push for phone in fleet if phone.behaviour is Behaviour.SLEEPING)
    assert all(phone.transport == "ws" for phone in fleet if phone.behaviour is Behaviour.RELOADING)
    assert len({phone.instance for phone in fleet}) == 100
    assert len({phone.aor for phone in fleet}) < 100


def test_the_odd_phone_is_not_one_to_begin_with() -> None:
    """The phones that newcomers are sent to have honest User-Agents."""
    fleet = build_fleet(24)
    assert [phone.aor for phone in fleet if phone.user_agent == WEIRD_USER_AGENT] == ["ivan x"]
