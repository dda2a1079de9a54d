"""Evidence: which node can reach a contact, and which losses and disconnects count."""

from typing import Any

import pytest

from companion.opensips.events import (
    DELETE,
    DISCONNECT,
    INSERT,
    LATENCY,
    LOST_PING_US,
    UPDATE,
    ContactEvent,
    DisconnectEvent,
    Event,
    Registration,
)
from companion.usrloc.changes import Stamp
from companion.usrloc.contact import Binding, Contact
from companion.usrloc.evidence import NodeEvidence, reach
from companion.usrloc.ghosts import is_ghost
from companion.usrloc.intervals import Intervals
from companion.usrloc.picture import Usrloc

NOW = 1_795_452_109_605
LOST_AFTER = 3
INTERVAL_MS = 10_000
URI = "sip:alice@one.invalid;transport=ws"
AT = "192.0.2.1:1111"
SOCKET = "ws:203.0.113.1:8080"
INSTANCE = "<urn:uuid:1>"
RUNS = {"n1": 1, "n2": 2}
UDP: dict[str, Any] = {"received": "sip:192.0.2.1:5060", "socket": "udp:203.0.113.1:5060"}


def event(name: str, latency_us: int = 0, uri: str = URI, at: str = AT, **registration: Any) -> ContactEvent:
    fields: dict[str, Any] = {"socket": SOCKET, "callid": uri, "attr": INSTANCE, **registration}
    received = f"sip:{at};transport=ws"
    blank = Registration(received, "", "", "", 0, 0, "", 1, "")
    return ContactEvent(name, "location", "alice", uri, blank._replace(**fields), latency_us)


def register(**where: Any) -> ContactEvent:
    return event(INSERT, **where)


def answer(**where: Any) -> ContactEvent:
    return event(LATENCY, 40_000, **where)


def loss(**where: Any) -> ContactEvent:
    return event(LATENCY, LOST_PING_US, **where)


def disconnect(at: str = AT, proto: str = "ws", socket: str = SOCKET) -> DisconnectEvent:
    return DisconnectEvent(DISCONNECT, at, proto, socket)


class World:
    """Move a picture on, an interval per event unless told otherwise."""

    def __init__(self) -> None:
        self.usrloc = Usrloc(LOST_AFTER, INTERVAL_MS)
        self.now = NOW

    def apply(self, *events: Event, node: str = "n1", cluster: str = "c", after_ms: int = INTERVAL_MS) -> None:
        for one in events:
            self.now += after_ms
            self.usrloc.apply(one, Stamp(node, cluster, self.now, RUNS[node]))

    def contact(self, uri: str = URI, cluster: str = "c") -> Contact:
        return self.usrloc.devices.contacts[Binding(cluster, "location", "alice", uri)]


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize(
    ("holder", "answered", "expected"),
    [
        ("n1", False, "yes"),
        ("n1", True, "yes"),
        ("n2", False, "no"),
        ("n2", True, "no"),
        ("", False, "unknown"),
        ("", True, "yes"),
    ],
)
def test_reach(*, holder: str, answered: bool, expected: str) -> None:
    """Only its holder reaches a phone; where it is unknown, an answer proves that a node does."""
    evidence = {"n1": NodeEvidence(answered_at=NOW)} if answered else {}
    assert expected == reach("n1", holder, evidence)


def test_a_replica_on_a_shared_address_comes_first(world: World) -> None:
    """Both nodes name the shared address: the one that had the REGISTER first took it, in whatever order we hear."""
    world.apply(register(**UDP), answer(**UDP))
    world.apply(event(UPDATE, **UDP, cseq=2), node="n2")
    world.apply(event(UPDATE, **UDP, cseq=2), after_ms=-1)
    assert world.contact().holder == "n1"


def test_another_node_reaches_it() -> None:
    """While the holder is unknown, a node without an answer does not reach a phone that another node does."""
    evidence = {"n1": NodeEvidence(lost=3), "n2": NodeEvidence(answered_at=NOW)}
    assert reach("n1", "", evidence) == "no"


def test_a_nat_that_let_another_node_in(world: World) -> None:
    """A UDP phone of node 1 calls through node 2, which reaches it for a minute: later losses of node 2 are doubts."""
    replica = UDP | {"socket": ""}
    world.apply(register(**UDP), answer(**UDP))
    world.apply(answer(**replica), loss(**replica), loss(**replica), loss(**replica), node="n2")
    contact = world.contact()
    assert (contact.holder, contact.consecutive_lost, contact.doubts) == ("n1", 0, 3)


def test_a_register_on_another_node(world: World) -> None:
    """Two nodes share an address, the second one takes over: with the next REGISTER it holds the phone."""
    world.apply(register(**UDP), answer(**UDP))
    world.apply(event(UPDATE, **UDP, cseq=2), node="n2")
    world.apply(answer(**UDP, cseq=2), loss(**UDP, cseq=2), node="n2")
    assert (world.contact().holder, world.contact().consecutive_lost) == ("n2", 1)


@pytest.mark.parametrize(
    ("change", "is_kept"),
    [
        ({"callid": "new", "user_agent": "Model B"}, False),
        ({"at": "198.51.100.9:33333"}, False),
        ({"callid": "new"}, True),
        ({"user_agent": "Model A 2.0"}, True),
        ({}, True),
    ],
)
def test_what_an_answer_is_of(world: World, change: dict[str, Any], *, is_kept: bool) -> None:
    """An answer says nothing of another phone with the same URI, or of another address: OPTIONS may be lost there."""
    world.apply(register(user_agent="Model A"), answer(user_agent="Model A"))
    later: dict[str, Any] = {"user_agent": "Model A", "cseq": 2}
    world.apply(event(UPDATE, **later | change))
    assert bool(world.contact().evidence) == is_kept


def test_losses_of_a_node_without_the_connection(world: World) -> None:
    """Node 2 pings a WebSocket phone of node 1 and loses every ping: that is no evidence, only a doubt."""
    world.apply(register())
    world.apply(register(socket=""), node="n2", after_ms=1)
    world.apply(loss(socket=""), loss(socket=""), loss(socket=""), node="n2")
    contact = world.contact()
    assert (contact.consecutive_lost, contact.lost_since, contact.doubts) == (0, 0, 3)
    assert world.usrloc.changes.lost == []
    assert contact.registration.socket == SOCKET


def test_replica_first(world: World) -> None:
    """The replica's event may come first: the socket of the node that took the REGISTER is still learned."""
    world.apply(register(socket=""), node="n2")
    world.apply(register(), after_ms=1)
    assert (world.contact().holder, world.contact().registration.socket) == ("n1", SOCKET)


def test_wildcard_sockets(world: World) -> None:
    """Where both nodes listen on 0.0.0.0, an answer tells which of them holds the connection."""
    everywhere = "ws:0.0.0.0:8080"
    world.apply(register(socket=everywhere))
    assert world.contact().holder == ""
    world.apply(answer(socket=everywhere))
    world.apply(loss(socket=everywhere), loss(socket=everywhere), loss(socket=everywhere), node="n2")
    assert (world.contact().holder, world.contact().consecutive_lost, world.contact().doubts) == ("n1", 0, 3)


def test_an_answer_on_any_node_clears_the_run(world: World) -> None:
    """An answer that another node got ends the run of lost pings on all of them."""
    udp: dict[str, Any] = {"received": "sip:192.0.2.1:5060", "socket": "udp:203.0.113.1:5060"}
    world.apply(register(**udp), answer(**udp), loss(**udp), loss(**udp))
    world.apply(answer(**udp), node="n2", after_ms=100)
    world.apply(loss(**udp))
    assert world.contact().consecutive_lost == 1


def test_doubled_losses(world: World) -> None:
    """A loss that two transports bring counts once, and is counted as doubled."""
    world.apply(register(), answer())
    for _ in range(2):
        world.apply(loss())
        world.apply(loss(), after_ms=5)
    assert (world.contact().consecutive_lost, world.usrloc.intervals["n1"].doubled) == (2, 2)
    assert len(world.usrloc.changes.lost) == 2


def test_doubled_answers(world: World) -> None:
    """Answers that come twice are counted as doubled, and do not change the observed interval."""
    world.apply(register())
    for _ in range(25):
        world.apply(answer(), after_ms=5000)
        world.apply(answer(), after_ms=3)
    assert world.usrloc.intervals["n1"].doubled == 24
    assert world.usrloc.intervals["n1"].observe() == 5000


def test_losses_after_the_clock_was_set_back() -> None:
    """A loss that is told an hour earlier than the one before counts; a doubled one told a moment earlier does not."""
    evidence = NodeEvidence()
    counted = [evidence.add_loss(ts, 5000) for ts in (NOW, NOW - 3, NOW - 3_600_000, NOW - 3_590_000)]
    assert (counted, evidence.lost) == ([True, False, True, True], 3)


def test_intervals_after_the_clock_was_set_back() -> None:
    """A ping that is told long before the one before is not a doubled one."""
    gaps = Intervals(INTERVAL_MS)["n1"]
    for gap_ms in (INTERVAL_MS, -3_600_000, INTERVAL_MS, 3, -3):
        gaps.add(gap_ms)
    assert gaps.doubled == 2


@pytest.mark.parametrize("copies", [2, 3])
@pytest.mark.parametrize("late_ms", [1000, 1500, 4000])
def test_doubled_and_late(world: World, late_ms: int, copies: int) -> None:
    """Where each ping comes again seconds later, that is noticed, and each loss counts once."""
    rest_ms = 30_000 - (copies - 1) * late_ms
    gaps = world.usrloc.intervals["n1"]
    world.apply(register())
    for ping in [*[answer] * 40, loss, loss]:
        world.apply(ping(), after_ms=rest_ms)
        world.apply(*[ping()] * (copies - 1), after_ms=late_ms)
        gaps.observe()
    assert (world.contact().consecutive_lost, gaps.interval_ms) == (2, rest_ms)
    assert gaps.doubled > 20


@pytest.mark.parametrize("missing", [0, 3, 9])
def test_uneven_gaps(missing: int) -> None:
    """Missing pings and single early ones, as after a restart of OpenSIPS, are no doubled feed."""
    gaps = Intervals(INTERVAL_MS)["n1"]
    for gap_ms in [30_000] * 40 + [60_000] * missing + [5_000] * 5:
        gaps.add(gap_ms)
        gaps.observe()
    assert (gaps.interval_ms, gaps.doubled) == (30_000, 0)


def resume(world: World, interval_ms: int) -> None:
    """Go on as after a restart of the consumer: contacts come from the store, and the interval from the feed."""
    world.usrloc.intervals.clear()
    world.usrloc.intervals.resume("n1", interval_ms)


def test_a_doubled_loss_after_a_restart(world: World) -> None:
    """What the consumer observed before its restart counts from the first ping on: a late copy of a loss is no loss."""
    world.apply(register(), answer())
    resume(world, 30_000)
    world.apply(loss(), after_ms=26_000)
    world.apply(loss(), after_ms=4000)
    world.apply(loss(), after_ms=26_000)
    assert world.contact().consecutive_lost == 2


def test_an_outage_is_no_interval(world: World) -> None:
    """The time in which nobody recorded tells nothing of the interval, and what follows is no doubled feed."""
    world.apply(register(), answer())
    resume(world, 0)
    world.apply(answer(), after_ms=3_600_000)
    world.apply(*[answer()] * 25, after_ms=30_000)
    gaps = world.usrloc.intervals["n1"]
    assert (gaps.observe(), gaps.doubled, max(gaps._gaps)) == (30_000, 0, 30_000)


def test_observed_interval(world: World) -> None:
    """What counts as doubled follows the interval that is observed, not the one that is configured."""
    world.apply(register())
    world.apply(*[answer()] * 25, after_ms=2000)
    assert world.usrloc.intervals["n1"].observe() == 2000
    world.apply(loss(), loss(), loss(), after_ms=2000)
    assert world.contact().consecutive_lost == 3


@pytest.mark.parametrize(
    ("end", "node"),
    [
        (disconnect(socket="ws:203.0.113.1:9999"), "n1"),
        (disconnect(socket="ws:203.0.113.9:8080"), "n1"),
        (disconnect(proto="wss", socket="wss:203.0.113.1:8080"), "n1"),
        (disconnect(proto="tcp", socket="tcp:203.0.113.1:8080"), "n1"),
        (disconnect(at="192.0.2.1:1112"), "n1"),
        (disconnect(), "n2"),
    ],
)
def test_another_connection_ends(world: World, end: DisconnectEvent, node: str) -> None:
    """A disconnect of the same source on another socket, protocol, port or node is of another connection."""
    world.apply(register(), answer())
    world.apply(end, node=node)
    assert world.contact().disconnected_at == 0


def test_its_connection_ends(world: World) -> None:
    """The end of the phone's own connection is noted with the node that held it."""
    world.apply(register(), answer(), disconnect())
    assert (world.now, "n1") == (world.contact().disconnected_at, world.contact().disconnected_by)


@pytest.mark.parametrize(("transport", "proto"), [("tcp", "tcp"), ("tls", "tls"), ("WSS", "wss")])
def test_other_connections(world: World, transport: str, proto: str) -> None:
    """TCP, TLS and secure WebSocket phones lose their connections like WebSocket phones."""
    socket = f"{proto}:203.0.113.1:8080"
    world.apply(register(received=f"sip:{AT};transport={transport}", socket=socket))
    world.apply(disconnect(proto=proto, socket=socket))
    assert world.now == world.contact().disconnected_at


NEWER = "sip:alice@two.invalid;transport=ws"


def lose_older(world: World) -> Contact:
    older = world.contact()
    world.apply(*[answer(uri=NEWER, at="192.0.2.2:2222")] * 2)
    world.apply(*[event(LATENCY, LOST_PING_US, older.binding.uri)] * 3)
    return older


def test_reloaded_page_leaves_a_ghost(world: World) -> None:
    """The older contact of a reloaded page is a ghost as soon as the newer one answers."""
    world.apply(register(), answer(), register(uri=NEWER, at="192.0.2.2:2222"))
    older = lose_older(world)
    assert is_ghost(older, LOST_AFTER)
    assert world.contact(NEWER).id == older.superseded_by


def test_two_phones_with_one_instance(world: World) -> None:
    """Two contacts that both answered for long are two phones: neither is the other's ghost."""
    world.apply(register(), answer(), register(uri=NEWER, at="192.0.2.2:2222"))
    world.apply(answer(uri=NEWER, at="192.0.2.2:2222"), answer(), answer(), answer())
    assert not is_ghost(lose_older(world), LOST_AFTER)


def test_two_push_tokens(world: World) -> None:
    """Contacts with different push tokens are two phones."""
    one, two = f"{URI};pn-prid=A", f"{NEWER};pn-prid=B"
    world.apply(register(uri=one), answer(uri=one), register(uri=two, at="192.0.2.2:2222"))
    world.apply(*[answer(uri=two, at="192.0.2.2:2222")] * 2, *[loss(uri=one)] * 3)
    assert not is_ghost(world.contact(one), LOST_AFTER)


def test_ghosts_of_other_clusters(world: World) -> None:
    """Independent clusters never share contacts: the newer contact of one replaces none of another."""
    world.apply(register(), answer())
    world.apply(register(uri=NEWER), answer(uri=NEWER), answer(uri=NEWER), cluster="other", node="n2")
    world.apply(loss(), loss(), loss())
    assert not is_ghost(world.contact(), LOST_AFTER)


def test_new_address_clears_evidence(world: World) -> None:
    """What reached the old address says nothing of the new one."""
    world.apply(register(), answer(), loss())
    world.apply(event(UPDATE, at="192.0.2.3:3333", cseq=2))
    contact = world.contact()
    assert (contact.evidence, contact.consecutive_lost, contact.holder) == ({}, 0, "n1")


def test_ended_contact_keeps_nothing(world: World) -> None:
    """A contact that unregistered is on no connection any more."""
    world.apply(register(), answer(), event(DELETE), disconnect())
    assert world.contact().disconnected_at == 0


def test_a_replica_holds_nothing(world: World) -> None:
    """A replica's ping that tells of a new address makes no holder; the next REGISTER at the real one does."""
    moved = "198.51.100.9:41111"
    world.apply(register(), answer())
    world.apply(loss(at=moved, cseq=2, socket=""), node="n2")
    assert (world.contact().address, world.contact().holder) == (moved, "")
    world.apply(register(at=moved, cseq=3))
    assert world.contact().holder == "n1"
    world.apply(*[loss(at=moved, cseq=3, socket="")] * 3, node="n2")
    assert (world.contact().consecutive_lost, world.contact().doubts) == (0, 3)
