"""From facts to findings: a table of what can be wrong, and what is said of it. And who is subscribed to what."""

import re
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from companion.cli.doctor import render_report
from companion.config import BridgeSection, Config, OpensipsSection
from companion.doctor.check import check
from companion.doctor.facts import BusFacts, Facts, OpensipsFacts, QueueFacts, RedisFacts
from companion.doctor.finding import Finding
from companion.errors import ConfigError
from companion.opensips.events import LOST_PING_US, Registration
from companion.opensips.mi_contact import MiContact
from companion.opensips.probe import ProbeReply
from companion.opensips.subscriptions import (
    USED_EVENTS,
    EventSubscription,
    destinations,
    due,
    is_any_address,
    parse,
    parse_events,
    reaches,
)
from companion.store.nodes import Feed
from companion.text import Json
from companion.usrloc.contact import Binding, Contact, Device, contact_id

NOW = 1_800_000_000_000
SOCKET = "udp:127.0.0.1:5066"
NATIVE = "zeromq:tcp://127.0.0.1:5555"
INTERVAL_MS = 120_000


def registration(socket: str = "ws:127.0.0.1:8080") -> Registration:
    return Registration("", "", "", socket, 10, NOW + 3_600_000, "call", 1, "<urn:uuid:1>")


def contact(name: str = "ann", socket: str = "ws:127.0.0.1:8080", **fields: Any) -> Contact:
    """A stored contact that is registered for an hour and was measured a moment ago."""
    binding = Binding("opensips", "location", name, f"sip:{name}@x")
    defaults = {"registered_at": NOW - 3_600_000, "last_latency_at": NOW - 1000, "last_latency_ms": 20}
    return Contact(
        binding, contact_id(binding), f"{name}/{name}", "opensips", registration(socket), **(defaults | fields)
    )


def devices(*contacts: Contact) -> list[Device]:
    return [Device(one.device, one.binding.aor, "", 1, [one]) for one in contacts]


def mi_contact(name: str = "ann", **fields: Any) -> MiContact:
    """The same contact as MI tells of it."""
    defaults: Json = {
        "domain": "location",
        "aor": name,
        "uri": f"sip:{name}@x",
        "callid": "call",
        "cseq": 1,
        "user_agent": "",
        "received": "",
        "path": "",
        "socket": "",
        "attr": "<urn:uuid:1>",
        "instance": "urn:uuid:1",
        "seconds_left": 60,
        "state": "active",
        "latency_us": 20_000,
        "push": False,
        "cflags": ("PING", "LATENCY"),
    }
    return MiContact(**(defaults | fields))


OPENSIPS = OpensipsFacts(
    node="opensips",
    cluster="opensips",
    mi_url="http://127.0.0.1:8888/mi",
    sockets=(SOCKET,),
    version="3.6.8",
    events=frozenset(USED_EVENTS),
    subscriptions=tuple(EventSubscription(event, SOCKET, None) for event in USED_EVENTS),
    registered=1,
    contacts=(mi_contact(),),
    probe_url="udp:127.0.0.1:8889",
    hep_to="udp:127.0.0.1:9060",
    probe=ProbeReply("answered", "200 OK", 34.2),
)
REDIS = RedisFacts(
    place="127.0.0.1:6379",
    version="7.4.1",
    timeseries=True,
    settings={"maxmemory": "0", "maxmemory-policy": "noeviction", "appendonly": "yes", "save": ""},
)
FEED = Feed(
    "opensips", "opensips", run=(NOW - 3_600_000) * 1000, heartbeat_at=NOW, last_event_at=NOW - 1000, received=10_000
)
PINGS = [(NOW - n * INTERVAL_MS, None if n == 50 else 20 + n % 3) for n in range(300, 0, -1)]
WELL = Facts(
    now=NOW,
    config=Config(),
    opensips=(OPENSIPS,),
    bus=(BusFacts(endpoint="tcp://127.0.0.1:5555", node="opensips"),),
    redis=REDIS,
    feeds={"opensips": FEED},
    devices=devices(contact()),
    pings={"ann/ann": PINGS},
)


def opensips(**changed: Any) -> Facts:
    return replace(WELL, opensips=(replace(OPENSIPS, **changed),))


def redis(**changed: Any) -> Facts:
    return replace(WELL, redis=replace(REDIS, **changed))


def settings(**changed: str) -> Facts:
    options = {name.replace("_", "-"): value for name, value in changed.items()}
    return redis(settings={**(REDIS.settings or {}), **options}, used_bytes=95)


def feed(**changed: Any) -> Facts:
    return replace(WELL, feeds={"opensips": replace(FEED, **changed)})


def stored(*contacts: Contact, **changed: Any) -> Facts:
    return replace(opensips(**changed), devices=devices(*contacts))


def sent_to(*sockets: str, left: int | None = None) -> tuple[EventSubscription, ...]:
    return tuple(EventSubscription(event, socket, left) for socket in sockets for event in USED_EVENTS)


def pings(gap_ms: int, latency: Callable[[int], int | None]) -> Facts:
    return replace(WELL, pings={"ann/ann": [(NOW - n * gap_ms, latency(n)) for n in range(300, 0, -1)]})


def enforced(facts: Facts) -> Facts:
    return replace(facts, config=Config.model_validate({"remediation": {"mode": "enforce"}}))


NEVER: Json = {"last_latency_at": 0, "last_latency_ms": None}
UNMEASURED: Json = {"contacts": (mi_contact(latency_us=None),)}
TABLE: dict[str, tuple[Facts, str, str, str]] = {
    # what is wrong: facts, level and name of the finding, and what it says (a regular expression)
    "no table": (replace(WELL, opensips=()), "warning", "MI", "add an .*opensips.* table"),
    "MI is away": (opensips(error="no answer"), "failure", "MI", r'modparam\("httpd", "port", 8888\)'),
    "MI refuses us": (opensips(error="401", refused=True), "failure", "MI", "mi_user and mi_password_file"),
    "an old version": (opensips(version="3.4.18"), "note", "version", "no longer maintains"),
    "another version": (opensips(version="3.2.1"), "warning", "version", "not tested"),
    "no version at all": (opensips(version="Kamailio"), "warning", "version", "not tested"),
    "no usrloc": (opensips(events=frozenset()), "failure", "events", "load usrloc.so"),
    "no disconnects": (opensips(events=frozenset(USED_EVENTS[:-1])), "warning", "events", "OpenSIPS 3.2"),
    "nobody subscribed": (opensips(subscriptions=()), "failure", "subscriptions", "sent to nobody.*--fix-subscr"),
    "one is not subscribed": (
        opensips(subscriptions=sent_to(SOCKET)[:-1]),
        "warning",
        "subscriptions",
        r"E_CORE_TCP_DISCONNECT is sent to nobody.*startup_route",
    ),
    "another port": (
        opensips(subscriptions=sent_to("udp:127.0.0.1:9")),
        "failure",
        "subscriptions",
        r"go to udp:127.0.0.1:9, not to udp:127.0.0.1:5066.*set events_to",
    ),
    "another endpoint": (
        opensips(subscriptions=sent_to(NATIVE)),
        "failure",
        "subscriptions",
        r'publishes there itself: set events_to = "zeromq:tcp://127.0.0.1:5555" in',
    ),
    "it publishes itself": (
        opensips(sockets=(NATIVE,), subscriptions=sent_to(NATIVE)),
        "ok",
        "subscriptions",
        "5 events to zeromq:tcp://127.0.0.1:5555",
    ),
    "the module is not loaded": (
        opensips(sockets=(NATIVE,), subscriptions=()),
        "failure",
        "subscriptions",
        'sent to nobody.*loadmodule "event_zeromq.so"',
    ),
    "its bus is not read": (
        opensips(sockets=("zeromq:tcp://127.0.0.1:9",), subscriptions=sent_to("zeromq:tcp://127.0.0.1:9")),
        "failure",
        "subscriptions",
        r'add "tcp://127.0.0.1:9" to \[consumer\] subscribe',
    ),
    "both ways": (
        opensips(sockets=(NATIVE, SOCKET), subscriptions=sent_to(NATIVE, SOCKET)),
        "failure",
        "subscriptions",
        "come twice",
    ),
    "subscribed twice": (
        opensips(subscriptions=sent_to(SOCKET, "udp:localhost:5066")),
        "failure",
        "subscriptions",
        "come twice",
    ),
    "it will end": (
        opensips(subscriptions=sent_to(SOCKET, left=600)),
        "warning",
        "subscriptions",
        "ends in 10 min.*subscribe = true",
    ),
    "it is renewed": (
        opensips(subscriptions=sent_to(SOCKET, left=600), renewed=True),
        "note",
        "subscriptions",
        "renews them",
    ),
    "small requests": (opensips(size_error="HTTP 400"), "warning", "request size", "receive_buf_size"),
    "no hep": (
        opensips(hep_to=""),
        "note",
        "trace",
        r'no \[bridge\] hep: SIP messages can not be recorded.*set \[bridge\] hep = "udp:127.0.0.1:9060".*"tracer.so"',
    ),
    "no tracer": (
        opensips(trace_error="tracer is not loaded"),
        "warning",
        "trace",
        'tracer is not loaded: SIP messages can not be recorded.*hep_udp.*loadmodule "proto_hep.so"',
    ),
    "tracing switched off": (opensips(trace_error="tracing is switched off (trace_on)"), "warning", "trace", "mode"),
    "no probe_url": (
        opensips(probe_url="", probe=None),
        "note",
        "probe",
        'rest on lost pings alone.*set probe_url = "udp:127.0.0.1:8889".*loadmodule "mi_datagram.so"',
    ),
    "a phone answers": (WELL, "ok", "probe", r"a phone answered in 34 ms \(200 OK\)"),
    "no phone to ask": (opensips(probe=None), "note", "probe", "register a phone"),
    "nobody listens": (
        opensips(probe=ProbeReply("failed", "mi_datagram can not be reached: Connection refused", 1)),
        "failure",
        "probe",
        'udp:127.0.0.1:8889: mi_datagram can not be reached.*"socket_name", "udp:127.0.0.1:8889".*local_route { if',
    ),
    "no reply in time": (
        opensips(probe=ProbeReply("failed", "mi_datagram did not answer", 8000)),
        "failure",
        "probe",
        "did not answer.*T_fr_timeout = 5",
    ),
    "another OpenSIPS": (
        opensips(probe=ProbeReply("failed", "404 Local socket not found", 1)),
        "failure",
        "probe",
        "Local socket not found.*another OpenSIPS",
    ),
    "no phone answers": (
        opensips(probe=ProbeReply("unanswered", "408 Request Timeout", 5000)),
        "warning",
        "probe",
        "no phone answered.*companion ping",
    ),
    "no probe, no MI": (opensips(error="no answer", probe_url="", probe=None), "note", "probe", "no probe_url"),
    "nobody registered": (
        replace(opensips(contacts=(), registered=0), devices=()),
        "note",
        "contacts",
        "register a phone",
    ),
    "nobody known here": (replace(WELL, devices=()), "warning", "contacts", "companion reconcile"),
    "no flags": (opensips(contacts=(mi_contact(cflags=()),)), "failure", "flags", r'setbflag\("SIP_PING_FLAG"\)'),
    "flags on some": (
        opensips(contacts=(mi_contact(), mi_contact("bob", cflags=()))),
        "warning",
        "flags",
        "1 of 2 contacts have no branch flag",
    ),
    "no instances": (opensips(contacts=(mi_contact(instance="", attr=""),)), "note", "attr", "AOR and URI user"),
    "no attr": (opensips(contacts=(mi_contact(attr=""),)), "failure", "attr", "attr_avp.*sip.instance"),
    "another attr": (opensips(contacts=(mi_contact(attr="gold"),)), "failure", "attr", "attr_avp"),
    "attr on some": (
        opensips(contacts=(mi_contact(), mi_contact("bob", attr=""))),
        "warning",
        "attr",
        "filled on 1 of 2",
    ),
    "too early to tell": (stored(contact(registered_at=NOW - 1000, **NEVER)), "note", "latency", "ask again later"),
    "OpenSIPS knows more": (stored(contact(**NEVER)), "failure", "latency", "latency_event_min_us"),
    "lost is measured": (
        stored(contact(**(NEVER | {"last_lost_at": NOW})), **UNMEASURED),
        "ok",
        "latency",
        "1 contact",
    ),
    "natping_tcp by flags": (
        stored(contact(**NEVER), **UNMEASURED),
        "failure",
        "latency",
        "over TCP or WebSocket.*natping_tcp",
    ),
    "natping_tcp by others": (
        stored(
            contact(**NEVER),
            contact("bob", "udp:127.0.0.1:5060"),
            contacts=(mi_contact(latency_us=None, cflags=("A", "B")),),
        ),
        "warning",
        "latency",
        "^1 of 2 contacts.*over TCP or WebSocket.*natping_tcp",
    ),
    "no ping flag": (
        stored(contact(**NEVER), contacts=(mi_contact(latency_us=None, cflags=("NAT",)),)),
        "failure",
        "latency",
        "flags seen: NAT.*SIP_PING_FLAG.*natping_interval",
    ),
    "no pings by UDP": (
        stored(contact("ann", "udp:127.0.0.1:5060", **NEVER), **UNMEASURED),
        "failure",
        "latency",
        "natping_interval",
    ),
    "both remove": (enforced(feed(removals=2)), "warning", "removal", "removed 2 contacts.*remove_on_timeout_bflag"),
    "OpenSIPS removes": (feed(removals=1), "note", "removal", "removed 1 contact"),
    "it may remove": (
        opensips(contacts=(mi_contact(cflags=("PING", "LATENCY", "SIP_PING_RTN")),)),
        "note",
        "removal",
        "carry SIP_PING_RTN",
    ),
    "no bridge": (replace(WELL, bus=(BusFacts(endpoint="tcp://x:1"),)), "failure", "bus", "companion run bridge"),
    "the bridge's clock": (
        replace(WELL, bus=(BusFacts(endpoint="tcp://x:1", node="opensips", ahead_ms=-2500),)),
        "warning",
        "clock",
        "2.5 s behind this machine.*chrony",
    ),
    "a node that its consumer does not hear": (
        replace(WELL, unrecorded={"opensips": ["host/7"]}),
        "failure",
        "opensips",
        r"no consumer stores its events; host/7 hears it.*\[consumer\] subscribe must name every node",
    ),
    "nobody reads the queue": (
        replace(WELL, queues={"opensips": QueueFacts(node="opensips", messages=12)}),
        "failure",
        "queue",
        "no consumer reads companion.opensips in RabbitMQ, where 12 messages wait.*run consumer",
    ),
    "a long queue": (
        replace(WELL, queues={"opensips": QueueFacts(node="opensips", messages=5000, is_read=True)}),
        "warning",
        "queue",
        "a consumer reads companion.opensips in RabbitMQ, where 5,?000 messages wait",
    ),
    "a short queue": (
        replace(WELL, queues={"opensips": QueueFacts(node="opensips", messages=3, is_read=True)}),
        "ok",
        "queue",
        "3 messages wait",
    ),
    "a backlog is read": (
        replace(
            feed(heartbeat_at=NOW - 600_000),
            queues={"opensips": QueueFacts(node="opensips", messages=5000, is_read=True)},
        ),
        "warning",
        "opensips",
        "what is read of it is 10 min old",
    ),
    "no consumer": (replace(WELL, feeds={}), "failure", "opensips", "nothing was ever stored.*run consumer"),
    "a dead feed": (
        replace(feed(heartbeat_at=NOW - 600_000), bus=()),
        "failure",
        "opensips",
        'silent for 10 min.*node = "opensips"',
    ),
    "a node of old": (
        replace(WELL, feeds={"opensips": FEED, "old": Feed("old", heartbeat_at=NOW - 86_400_000 * 3)}),
        "note",
        "old",
        "silent for 3 d.*`companion node forget old`, if it is gone for good",
    ),
    "no event for long": (feed(last_event_at=NOW - 3_000_000), "failure", "opensips", "no event for 50 min with 1 con"),
    "no event yet": (
        replace(feed(last_event_at=0, received=0), opensips=(replace(OPENSIPS, registered=0),)),
        "note",
        "opensips",
        "no event yet",
    ),
    "kernel drops": (feed(kernel_drops=3), "warning", "opensips", "dropped 3 datagrams.*rmem_max"),
    "many missed": (feed(missed=500, gaps=2), "warning", "opensips", "500 events missed on the bus, in 2 gaps"),
    "a few missed": (feed(missed=5, gaps=1), "note", "opensips", "5 events missed"),
    "refused": (feed(invalid=1), "note", "opensips", "1 message refused"),
    "refused events": (
        feed(refused=2, refused_aor="alice", refused_why="out_of_range"),
        "warning",
        "opensips",
        "2 events refused, the last one of AOR alice: out_of_range.*may be missing",
    ),
    "pinged more often": (pings(30_000, lambda n: n % 3), "warning", "interval", r"\[pings\] interval = 30"),
    "pinged less often": (pings(240_000, lambda n: n % 3), "warning", "interval", "interval = 240.*latency_event_min"),
    "too smooth": (pings(120_000, lambda n: 20 + n % 2 * 10), "warning", "filter", "may be filtered.*unless"),
    "no Redis": (redis(error="it is away", remedy="start it"), "failure", "server", "it is away.*start it"),
    "an old Redis": (redis(version="6.0.16"), "failure", "server", "6.2 or newer"),
    "Valkey": (redis(product="Valkey", version="8.0"), "ok", "server", "Valkey 8.0"),
    "no TimeSeries": (redis(timeseries=False), "note", "engine", "streams"),
    "no CONFIG": (redis(settings=None), "note", "settings", "not allowed"),
    "it forgets": (settings(maxmemory_policy="allkeys-lru"), "warning", "memory", "noeviction"),
    "it is nearly full": (settings(maxmemory="100"), "warning", "memory", "raise maxmemory"),
    "it may forget": (settings(maxmemory="1000", maxmemory_policy="volatile-lru"), "note", "memory", "noeviction"),
    "nothing on disk": (settings(appendonly="no"), "note", "persistence", "appendonly yes"),
    "snapshots do": (settings(appendonly="no", save="3600 1"), "ok", "persistence", "snapshots"),
    "Redis' clock": (redis(ahead_ms=3000), "warning", "clock", "Redis is 3.0 s ahead of this machine"),
}


def findings(facts: Facts) -> list[Finding]:
    return [finding for section in check(facts) for finding in section.findings]


def test_all_is_well() -> None:
    """Facts with nothing wrong in them give nothing but what is fine."""
    assert {finding.level for finding in findings(WELL)} == {"ok"}


@pytest.mark.parametrize("wrong", TABLE)
def test_each_finding(wrong: str) -> None:
    """One thing that is wrong is told by its name, at its level, with what to do about it."""
    facts, level, name, pattern = TABLE[wrong]
    matches = [one for one in findings(facts) if (one.name, one.level) == (name, level)]
    assert matches, findings(facts)
    assert any(re.search(pattern, f"{one.text} {one.remedy}", re.DOTALL) for one in matches), matches


@pytest.mark.parametrize("wrong", TABLE)
def test_what_is_wrong_has_a_remedy(wrong: str) -> None:
    """Whatever is not fine comes with what to do about it; a fault never drowns the page."""
    result = findings(TABLE[wrong][0])
    assert all(one.remedy for one in result if one.level in ("warning", "failure"))
    render_report(check(TABLE[wrong][0]))


def test_nothing_from_the_network_reaches_the_terminal() -> None:
    """The name of a flag can not colour the page."""
    facts = opensips(contacts=(mi_contact(cflags=("[red]PING", "\x1b[31mLATENCY")),))
    console = Console(file=StringIO(), width=200, force_terminal=True, color_system=None)
    console.print(render_report(check(facts)))
    assert isinstance(console.file, StringIO)
    screen = console.file.getvalue()
    assert "[red]PING" in screen
    assert "\x1b[31m" not in screen


# Subscriptions


def answer(*subscribers: Any) -> Json:
    return {"Events": [{"name": "E_UL_CONTACT_INSERT", "id": 9, "Subscribers": list(subscribers)}]}


@pytest.mark.parametrize(
    ("subscriber", "left"),
    [
        ({"socket": SOCKET, "expire": "never"}, [None]),
        ({"socket": SOCKET, "expire": 60, "ttl": 57}, [57]),
        ({"socket": SOCKET, "expire": 60, "ttl": "expired"}, []),
        ({"socket": SOCKET, "expire": 60, "ttl": 0}, []),
        ({"socket": SOCKET}, []),
        ({"expire": "never"}, []),
        ({"socket": 5, "expire": "never"}, []),
        ("odd", []),
    ],
)
def test_parse(subscriber: Any, left: list[int | None]) -> None:
    """What subscribers_list tells is read; what has expired or is no subscription is left out."""
    assert [one.seconds_left for one in parse(answer(subscriber))] == left


@pytest.mark.parametrize(
    "odd", [None, [], "OK", {}, {"Events": 7}, {"Events": None}, {"Events": [7, {"id": 1}, {"name": 3}]}]
)
def test_parse_odd_answers(odd: Any) -> None:
    """An answer of another shape tells of nobody, and breaks nothing."""
    assert parse(odd) == []
    assert parse_events(odd) == frozenset()


@pytest.mark.parametrize(
    ("socket", "target", "expected"),
    [
        (SOCKET, SOCKET, True),
        ("udp:localhost:5066", SOCKET, True),
        ("udp:127.0.0.1:5067", SOCKET, False),
        ("tcp:127.0.0.1:5066", SOCKET, False),
        ("udp:10.0.0.1:5066", SOCKET, False),
        ("udp:10.0.0.1:5066", "udp:0.0.0.0:5066", True),
        ("tcp:127.0.0.1:5067/method", "tcp:127.0.0.1:5067", True),
        ("virtual:PARALLEL udp:127.0.0.1:9 udp:127.0.0.1:5066", SOCKET, True),
        ("virtual:FAILOVER udp:127.0.0.1:9", SOCKET, False),
        ("route:E_UL_CONTACT_INSERT", SOCKET, False),
        ("rabbitmq:guest:guest@127.0.0.1:5672/x", SOCKET, False),
        (NATIVE, NATIVE, True),
        (NATIVE, "zeromq:tcp://127.0.0.1:5556", False),
        (NATIVE, "tcp:127.0.0.1:5555", False),
        (f"virtual:PARALLEL {SOCKET} {NATIVE}", NATIVE, True),
        ("zeromq:ipc:///run/bus", "zeromq:ipc:///run/bus", True),
        ("zeromq:udp://127.0.0.1:5555", NATIVE, False),
    ],
)
def test_reaches(socket: str, target: str, expected: bool) -> None:  # noqa: FBT001
    """An event socket leads to us by whatever name of this machine, and through a virtual one."""
    assert reaches(socket, [target]) is expected


def test_due() -> None:
    """What is lacking is to be made, what ends soon renewed by the name it has, what never ends is left alone."""
    insert, update, delete, *_ = USED_EVENTS
    event_subscriptions = [
        EventSubscription(insert, SOCKET, None),
        EventSubscription(update, "udp:localhost:5066", 100),
        EventSubscription(delete, SOCKET, 400),
        EventSubscription(delete, "udp:10.0.0.1:1", 1),
    ]
    renewals = list(due(event_subscriptions, set(USED_EVENTS[:4]), [SOCKET], below=300))
    assert renewals == [(update, "udp:localhost:5066", True), (USED_EVENTS[3], SOCKET, False)]


def test_destinations() -> None:
    """Events go where the table says, else to the bridge; what is no address is an error."""
    bridge = BridgeSection(stream="tcp:127.0.0.1:5067")
    assert destinations(OpensipsSection(), bridge) == (SOCKET, "tcp:127.0.0.1:5067")
    assert destinations(OpensipsSection(events_to="udp:10.0.0.1:1"), bridge) == ("udp:10.0.0.1:1",)
    assert destinations(OpensipsSection(events_to=NATIVE), bridge) == (NATIVE,)
    assert not is_any_address("zeromq:tcp://0.0.0.0:5555")  # OpenSIPS binds it
    for wrong in ("10.0.0.1", "zeromq:127.0.0.1:5555"):
        with pytest.raises(ConfigError):
            destinations(OpensipsSection(events_to=wrong), bridge)


def test_a_lost_ping_is_one_for_mi_too() -> None:
    """A contact whose last ping was lost has been pinged, says MI."""
    facts = stored(contact(**NEVER), contacts=(mi_contact(latency_us=LOST_PING_US),))
    (latency,) = [one for one in findings(facts) if one.name == "latency"]
    assert "OpenSIPS has a latency of 1" in latency.text
