"""Cases in which live phones were once removed: none of them is now, in either mode, with or without questions."""

from collections.abc import Iterator
from typing import Any

import pytest

from companion.remediation import audit
from companion.remediation.status import remediation_status
from companion.simulator.redis import EmbeddedRedis
from companion.store.locks import acquire_dump_lock
from tests.integration.conftest import Kind
from tests.soak.removals.companion import SoakCompanion
from tests.soak.removals.fleet_world import INTERVAL, TICK, FleetWorld, SoakCluster, SoakNode, SoakPhone

PINGS = round(INTERVAL / TICK)
SITES = (("office", 40), ("other", 20))
LONG = 30
"""Sweeps in which any wrong removal would have happened."""


class Case:
    """Script phones on nodes, and let the companion sweep."""

    def __init__(self, companion: SoakCompanion) -> None:
        self.companion = companion
        self.world = companion.world

    async def sweeps(self, count: int = LONG) -> None:
        for _ in range(count):
            self.world.tick()
            await self.companion.sweep()

    def outcomes(self, aor: str) -> set[tuple[str, str]]:
        entries = audit.read(self.companion.store, count=10_000)
        return {(entry["action"], entry["result"]) for _, entry in entries if entry["aor"] == aor}

    def none_removed(self) -> None:
        assert self.world.wrong == []
        assert self.world.removed == 0
        entries = [entry for _, entry in audit.read(self.companion.store, count=10_000)]
        assert [entry for entry in entries if (entry["action"], entry["result"]) == ("remove", "observed")] == []


def cluster(name: str, nodes: int, *, pinging: str = "cooperation", wildcard: bool = False) -> SoakCluster:
    made = SoakCluster(name, pinging, wildcard)
    made.nodes = [
        SoakNode(f"{name}-n{number}", f"203.0.113.{number + 1}", made, 1000 * (number + 1)) for number in range(nodes)
    ]
    return made


def phone(aor: str, home: SoakCluster, **fields: Any) -> SoakPhone:
    values: dict[str, Any] = {"instance": f"urn:uuid:{aor}", "transport": "ws", "token": "", "loss": 0.0} | fields
    return SoakPhone(aor, cluster=home, **values)


@pytest.fixture(params=["observe", "enforce"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[True, False], ids=["asked", "not asked"])
def can_ask(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


class MakeCase:
    """Start a companion beside scripted clusters; phones register on the first node of theirs."""

    def __init__(self, server: EmbeddedRedis, mode: str, can_ask: bool) -> None:  # noqa: FBT001 - a fixture's value
        self._server = server
        self._settings = {"mode": mode, "breaker_share": 1.0}
        self._can_ask = can_ask
        self._companions: list[SoakCompanion] = []

    def __call__(self, phones: list[SoakPhone], networks: int = 3, **settings: Any) -> Case:
        world = FleetWorld.of([one.cluster for one in phones], phones, networks=networks)
        companion = SoakCompanion(world, self._server.url, can_ask=self._can_ask, **self._settings | settings)
        self._companions.append(companion)
        return Case(companion)

    def close(self) -> None:
        for companion in self._companions:
            companion.close()


@pytest.fixture
def make_case(servers: dict[Kind, EmbeddedRedis], mode: str, *, can_ask: bool) -> Iterator[MakeCase]:
    make = MakeCase(servers["module"], mode, can_ask)
    yield make
    make.close()


@pytest.mark.parametrize("wildcard", [False, True])
async def test_pings_of_a_node_without_the_connection(make_case: MakeCase, *, wildcard: bool) -> None:
    """Node 2 pings half of the phones of node 1 and loses them all: none is removed."""
    home = cluster("c", 2, wildcard=wildcard)
    case = make_case([phone(f"user{number}", home) for number in range(6)])
    await case.sweeps()
    case.none_removed()


@pytest.mark.parametrize("transport", ["wss", "tcp"])
async def test_another_connection_ends(make_case: MakeCase, transport: str) -> None:
    """A connection from the same source to another socket, or to the other node, ends: it is another connection."""
    home = cluster("c", 2, pinging="ownership")
    case = make_case([phone(f"user{number}", home) for number in range(6)])
    await case.sweeps(2 * PINGS)
    for one in case.world.phones:
        case.world.raise_disconnect(home.nodes[0], one.address, transport, delay=0.0)
        case.world.raise_disconnect(home.nodes[1], one.address, "ws", delay=0.0)
    await case.sweeps()
    case.none_removed()


async def test_disconnect_behind_the_next_register(make_case: MakeCase) -> None:
    """The end of an old connection comes behind the REGISTER of the next phone on the same NAT port."""
    home = cluster("c", 1)
    case = make_case([phone("next", home), phone("other", home)])
    await case.sweeps(2 * PINGS)
    case.world.raise_disconnect(home.nodes[0], case.world.phones[0].address, "ws", delay=0.0)
    await case.sweeps()
    case.none_removed()


async def test_doubled_losses(make_case: MakeCase) -> None:
    """Both transports bring each event: two real losses are two."""
    home = cluster("c", 1)
    case = make_case([phone(f"user{number}", home) for number in range(6)])
    await case.sweeps(4 * PINGS)
    home.nodes[0].doubles = True
    for one in case.world.phones:
        one.muted_until = case.world.now + 2 * INTERVAL
    await case.sweeps()
    case.none_removed()


async def test_broken_stream(make_case: MakeCase) -> None:
    """The connection of event_stream breaks, and an answer is lost with it: losses around it do not add up."""
    home = cluster("c", 1)
    case = make_case([phone(f"user{number}", home) for number in range(6)])
    await case.sweeps(4 * PINGS)
    for one in case.world.phones:
        one.muted_until = case.world.now + 2 * INTERVAL - 1
    await case.sweeps(2 * PINGS)
    home.nodes[0].queue.clear()
    home.nodes[0].stream_breaks += 1
    case.world.tick()
    home.nodes[0].queue.clear()  # the answers of this round
    for one in case.world.phones:
        one.muted_until = case.world.now + INTERVAL
    await case.sweeps(PINGS)
    await case.sweeps()
    case.none_removed()


async def test_same_phone_in_two_clusters(make_case: MakeCase) -> None:
    """The same AOR and instance in two independent clusters: a sleeping contact is no ghost of the other's."""
    one, two = cluster("c0", 1), cluster("c1", 1)
    sleeper = phone("user", one, token="T")
    newer = phone("user", two)
    case = make_case([sleeper, newer, phone("a", one), phone("b", two)], push_attempts=100)
    await case.sweeps(2 * PINGS)
    sleeper.state = "off"
    await case.sweeps()
    case.none_removed()
    assert "push" in {action for action, _ in case.outcomes("user")}


async def test_mass_event(make_case: MakeCase) -> None:
    """A node with few phones loses three pings of all of them at once: that is no dead phones."""
    home = cluster("c", 1)
    case = make_case([phone(f"user{number}", home) for number in range(45)], breaker_share=0.2)
    await case.sweeps(13)
    for one in case.world.phones:
        one.muted_until = case.world.now + 4 * INTERVAL
    await case.sweeps()
    case.none_removed()


async def test_two_phones_with_one_instance(make_case: MakeCase) -> None:
    """Two phones of one AOR share an instance and differ in their push token: the sleeping one is pushed."""
    home = cluster("c", 1)
    twins = [phone("pj", home, instance="urn:uuid:same", token=token) for token in "AB"]
    case = make_case([*twins, phone("other", home)], push_attempts=100)
    await case.sweeps(4 * PINGS)
    twins[0].state = "off"
    await case.sweeps()
    case.none_removed()
    assert "push" in {action for action, _ in case.outcomes("pj")}


async def test_older_push_parameters(make_case: MakeCase) -> None:
    """A phone with Linphone's older parameters is woken or kept when it sleeps."""
    home = cluster("c", 1)
    legacy = phone("leg", home, uri_params=";app-id=org.example.voip.prod;pn-type=apple;pn-tok=LEGTOK;pn-silent=1")
    case = make_case([legacy, phone("other", home)], push_attempts=100)
    await case.sweeps(4 * PINGS)
    legacy.state = "off"
    await case.sweeps()
    case.none_removed()
    assert {action for action, _ in case.outcomes("leg")} <= {"push", "keep"}


async def test_unchanged_is_no_proof(make_case: MakeCase) -> None:
    """A disconnect before any ping: that nothing changed since proves nothing."""
    home = cluster("c", 1, pinging="never")
    case = make_case([phone("user", home), phone("other", home)])
    await case.sweeps(1)
    case.world.raise_disconnect(home.nodes[0], case.world.phones[0].address, "ws", delay=0.0)
    await case.sweeps()
    case.none_removed()


@pytest.mark.parametrize("is_up", [True, False], ids=["cut off", "dead"])
async def test_a_node_that_is_gone(make_case: MakeCase, *, is_up: bool) -> None:
    """A node is gone for longer than `node_lost_after`: it may be cut off from us only, so what it held stays."""
    home = cluster("c", 2)
    phones = [phone(f"user{number}", home) for number in range(6)]
    case = make_case(phones, node_lost_after=60)
    await case.sweeps(4 * PINGS)
    lost, other = home.nodes
    lost.bridge_up = lost.mi_up = False
    lost.is_up = is_up
    for one in [] if is_up else phones[:3]:
        case.world.register(one, new_uri=False)
    for one in [] if is_up else phones[3:]:
        one.state = "off"
    await case.sweeps(60 // round(TICK) + 30)
    case.none_removed()
    assert all(one.binding in home.bindings.values() for one in phones)
    assert is_up or all(one.node is other for one in phones[:3])


async def test_a_node_without_its_contacts(make_case: MakeCase) -> None:
    """A node hangs, loses pings and is restarted: until the other one has sent it its contacts, nothing is removed."""
    home = cluster("c", 2, pinging="ownership")
    case = make_case([phone(f"user{number}", home, transport="udp") for number in range(3)])
    await case.sweeps(4 * PINGS)
    for one in case.world.phones:
        one.muted_until = case.world.now + LONG * TICK
    home.nodes[0].way_works = False
    home.nodes[0].unsynced_until = case.world.now + 2 * LONG * TICK
    await case.sweeps()
    case.none_removed()


async def test_a_proxy_that_restarts(make_case: MakeCase) -> None:
    """All phones behind one proxy lose their pings with it: they can not be asked, and none is removed."""
    home = cluster("c", 1)
    behind = [phone(f"user{number}", home, transport="udp", behind_proxy=True) for number in range(3)]
    case = make_case([*behind, phone("other", home, transport="udp")])
    await case.sweeps(4 * PINGS)
    for one in behind:
        one.muted_until = case.world.now + 4 * INTERVAL
    await case.sweeps()
    case.none_removed()


async def test_phone_alone_on_its_listener(make_case: MakeCase, *, can_ask: bool) -> None:
    """The silence of a phone that nobody else shares a listener with has no witness: it stays, and status says why."""
    if not can_ask:
        pytest.skip("nobody is asked")
    case = make_case([phone("alone", cluster("c", 1))])
    await case.sweeps(2 * PINGS)
    case.world.phones[0].state = "off"
    reasons: set[str] = set()
    for _ in range(2 * LONG):
        await case.sweeps(1)
        reasons.add(remediation_status(case.companion.config, case.companion.store)["waiting"])
    case.none_removed()
    assert "1: the way to ask through c-n0 may be broken" in reasons


async def test_while_contacts_are_dumped(make_case: MakeCase, mode: str, *, can_ask: bool) -> None:
    """OpenSIPS would carry out a removal behind a dump, after the phone registered again: it waits for the end."""
    if not can_ask or mode == "observe":
        pytest.skip("nothing is removed")
    home = cluster("c", 1)
    case = make_case([phone("dead", home), phone("other", home)])
    await case.sweeps(2 * PINGS)
    lock = acquire_dump_lock(case.companion.store, "c", 600)
    assert lock is not None
    case.world.phones[0].state = "off"
    await case.sweeps(6 * PINGS)
    case.none_removed()
    waiting = remediation_status(case.companion.config, case.companion.store)["waiting"]
    assert waiting == "1: the contacts of its cluster are being compared with OpenSIPS"
    lock.release()
    await case.sweeps(PINGS)
    assert case.world.removed == 1


def two_thirds(make_case: MakeCase, networks: int) -> tuple[Case, list[SoakPhone]]:
    home = cluster("c", 1)
    some, others = [[phone(f"{name}{number}", home) for number in range(count)] for name, count in SITES]
    return make_case([*some, *others], networks=networks, breaker_share=0.2), some


async def test_many_phones_that_went(make_case: MakeCase, mode: str, *, can_ask: bool) -> None:
    """Two thirds of the phones, in many networks, go at once: nothing is done while the breaker is open."""
    if not can_ask or mode == "observe":
        pytest.skip("nothing is removed")
    case, went = two_thirds(make_case, networks=200)
    await case.sweeps(4 * PINGS)
    for one in went:
        one.state = "off"
    removed_while_open, closed_after, gone_after = await follow_breaker(case, len(went))
    assert (removed_while_open, case.world.wrong) == (0, [])
    assert gone_after - closed_after <= 3 * PINGS


async def test_office_without_internet(make_case: MakeCase, *, can_ask: bool) -> None:
    """Two thirds of a network are away for long, and a witness answers: nobody is removed before they are back."""
    if not can_ask:
        pytest.skip("nobody is asked")
    case, office = two_thirds(make_case, networks=1)
    elsewhere = office[0].cluster.bindings
    await case.sweeps(4 * PINGS)
    for one in office:
        one.state = "off"
    await case.sweeps(20 * PINGS)
    case.none_removed()
    assert all(one.binding in elsewhere.values() for one in office)


async def follow_breaker(case: Case, dead: int) -> tuple[int, int, int]:
    """Sweep until so many are removed.

    Return how many were removed while the breaker was open, and after how many sweeps it closed, and all were gone.
    """
    was_open, removed_while_open, closed_after = False, 0, 0
    for number in range(1, 60 * PINGS):
        removed_before = case.world.removed
        await case.sweeps(1)
        is_open = bool(remediation_status(case.companion.config, case.companion.store)["open_breakers"])
        if is_open:
            was_open, closed_after = True, number
            removed_while_open += case.world.removed - removed_before
        if case.world.removed == dead:
            assert was_open
            return removed_while_open, closed_after, number
    raise AssertionError(f"{case.world.removed} of {dead} were removed")
