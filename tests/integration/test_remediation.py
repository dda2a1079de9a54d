"""Remediation against a simulated OpenSIPS with whole companions in between: each failure, observed and enforced."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import pytest

from companion import metrics
from companion.config import Config
from companion.query.now import load_view
from companion.query.summary import compute_summary
from companion.remediation import audit
from companion.simulator.mi import MiCall
from companion.simulator.opensips import SimulatedOpenSIPS
from companion.simulator.phone import Behaviour, SimulatedPhone, SimulatedPush
from companion.simulator.redis import EmbeddedRedis
from companion.simulator.wire import SimulatedContact
from companion.store import sweeps
from companion.store.devices import load_device
from companion.store.summary import save_summary
from companion.store.timeline import load_timeline
from companion.text import Json
from tests.integration.conftest import Kind, MakeSetup, Setup, eventually

Mode = Literal["observe", "enforce"]
SPEED = 5.0
PING = 2.0
"""Simulated seconds between pings: 0.4 real ones."""
LOST_AFTER = 3
PUSH = SimulatedPush("fcm", "token-1", "proj-1")
QUICK: Json = {
    "sweep_interval": 0.25,
    "warm_up": 0.3,
    "disconnect_grace": 1.5,
    "ghost_grace": 0.3,
    "push_grace": 0.5,
    "breaker_calm": 0.5,
    "breaker_share": 1.0,
}


def phone(aor: str, **fields: Any) -> SimulatedPhone:
    made: Json = {"instance": str(uuid.uuid5(uuid.NAMESPACE_DNS, aor)), "latency_ms": 30.0, "jitter": 0.1}
    return SimulatedPhone(aor, **made | fields)


class Scene:
    """A simulated OpenSIPS with phones, the whole companion beside it, and one phone that always answers."""

    def __init__(self, setup: Setup, opensips: SimulatedOpenSIPS) -> None:
        self.setup = setup
        self.opensips = opensips
        self.store = setup.store

    @property
    def calls(self) -> list[MiCall]:
        """What was done through MI."""
        return [call for call in self.opensips.mi_calls if call.method in ("ul_rm_contact", "raise_event")]

    def decisions(self, aor: str) -> list[Json]:
        return [entry for _, entry in audit.read(self.store) if entry["aor"] == aor]

    def outcomes(self, aor: str) -> list[tuple[str, str]]:
        """(action, result) of all decisions about an AOR, oldest first."""
        return [(entry["action"], entry["result"]) for entry in self.decisions(aor)]

    def answers(self, aor: str) -> bool:
        """Whether each contact of the AOR has answered a ping and fails no more, as far as is stored."""
        devices = [load_device(self.store, device) for device in self.devices(aor)]
        contacts = [contact for device in devices if device for contact in device.contacts if not contact.ended_at]
        return bool(contacts) and all(contact.last_latency_at and not contact.failing for contact in contacts)

    def devices(self, aor: str) -> list[str]:
        ids: list[str] = self.store.connection.call("SMEMBERS", self.store.keys.aor(aor))
        return sorted(ids)

    def registered(self, aor: str) -> list[str]:
        """The URIs of the AOR's contacts in usrloc."""
        return [uri for owner, uri in self.opensips.contacts if owner == aor]

    def flags(self, aor: str) -> list[Json]:
        """What is kept of each contact about a push under way."""
        device = load_device(self.store, self.devices(aor)[0])
        assert device is not None
        keys = [self.store.keys.care_state(aor, contact.id) for contact in device.contacts]
        hashes = [self.store.connection.call("HGETALL", key) for key in keys]
        return [{name: fields[name] for name in fields if name.startswith("push_")} for fields in hashes]

    def offers(self, aor: str) -> list[Json]:
        """What is on the push stream."""
        rows = self.store.connection.call("XRANGE", self.store.keys.push(), "-", "+")
        return [fields for _, fields in rows if fields["aor"] == aor]

    def timeline(self, aor: str) -> list[Json]:
        return load_timeline(self.store, self.devices(aor)[0], 0, 1 << 52)

    async def sweeps(self, count: int = 4) -> None:
        """Let so many more sweeps pass."""
        read = self.store.connection.call
        last = int(read("GET", self.store.keys.fence()) or 0) + count
        await eventually(lambda: int(read("GET", self.store.keys.fence()) or 0) >= last)

    async def pings(self, aor: str, count: int) -> None:
        """Let so many more pings to the AOR's contact be lost."""
        pings = self.opensips.pings[aor, self.registered(aor)[0]]
        last = pings.lost + count
        await eventually(lambda: pings.lost >= last)

    def count_fleet(self) -> None:
        save_summary(self.store, compute_summary(self.store, load_view(self.setup.config, self.store)))


Prepare = Callable[[SimulatedOpenSIPS], None]


@asynccontextmanager
async def scene(
    setup: Setup,
    *phones: SimulatedPhone,
    prepare: Prepare | None = None,
    nodes: Sequence[Json] = (),
    **remediation: Any,
) -> AsyncIterator[Scene]:
    """All phones are registered, each that can has answered, and the warm-up is over."""
    fleet = [*phones, phone("live")]
    opensips = SimulatedOpenSIPS(
        "opensips", fleet, setup.udp, ping_interval=PING, ping_threshold=0.5, speed=SPEED, timer_interval=5
    )
    async with opensips:
        if prepare:
            prepare(opensips)
        setup.config = Config.model_validate(
            setup.tables
            | {
                "pings": {"interval": PING / SPEED, "lost_after": LOST_AFTER},
                "opensips": [{"node": "opensips", "cluster": "home", "mi_url": opensips.mi_url}, *nodes],
                "remediation": QUICK | remediation,
            }
        )
        async with setup.running("bridge", "consumer", "scheduler"):
            now = Scene(setup, opensips)
            talking = [device.aor for device in fleet if device.pinged and not device.muted]
            await eventually(lambda: all(now.answers(aor) for aor in talking))
            now.count_fleet()
            yield now
            assert now.registered("live")
            assert now.decisions("live") == []


# One life of many phones, each failing in its own way, in either mode

RULES = [
    {"aor": "kept", "action": "keep"},
    {"aor": "ruled-*", "user_agent": "Old *", "action": "remove"},
    {"aor": "pushed", "domain": "location", "node": "open*", "action": "push"},
]
OUTBOUND_PROXY = "<sip:192.0.2.9;transport=ws;lr>"


@dataclass
class Life:
    """What is to be seen at the end, by AOR."""

    mode: Mode
    outcomes: dict[str, list[tuple[str, str]]]
    decisions: dict[str, list[Json]]
    registered: dict[str, list[str]]
    calls: list[MiCall]
    offers: dict[str, list[Json]]
    timelines: dict[str, list[Json]]
    flags_when_pushed: list[Json]
    flags_at_the_end: list[Json]
    reloaded: tuple[str, str]
    wakings: float


def cast() -> list[SimulatedPhone]:
    shared = ("192.0.2.77", 40000)
    phones = [
        *(phone(aor) for aor in ("mute", "dropped", "reloading", "kept")),
        phone("half-open", transport="udp"),
        phone("asleep", transport="udp", push=PUSH),
        phone("ruled-out", transport="udp", push=PUSH, user_agent="Old Phone 1"),
        phone("ruled-in", transport="udp", push=PUSH),
        phone("pushed", transport="udp"),
        phone("flagged", transport="udp"),
        phone("attr", instance="", transport="udp"),
        phone("no-options", muted=True),
        phone("silent", behaviour=Behaviour.SILENT),
        *(phone(aor) for aor in ("line-1", "line-2", "behind-proxy")),
    ]
    for line in phones:
        if line.aor.startswith("line-"):
            line.address = shared
    return phones


def prepare(opensips: SimulatedOpenSIPS) -> None:
    """What simulated phones do not have by themselves: a Path, and an attr that tells of a push token."""
    make = opensips.core._make_contact

    def contact(phone: SimulatedPhone, expires: float) -> SimulatedContact:
        made = make(phone, expires)
        if phone.aor == "behind-proxy":
            return replace(made, path=OUTBOUND_PROXY)
        return replace(made, attr="token=abc") if phone.aor == "attr" else made

    opensips.core._make_contact = contact  # type: ignore[method-assign]


async def live(setup: Setup, mode: Mode) -> Life:
    wakings = metrics.WOKEN_SECONDS._sum.get()
    async with scene(
        setup, *cast(), prepare=prepare, mode=mode, rules=RULES, push_attr="token=", push_attempts=100
    ) as now:
        opensips = now.opensips
        (flagged,) = [binding for binding in opensips.core.usrloc if binding.contact.aor == "flagged"]
        flagged.push = True
        (left,) = now.registered("reloading")
        for aor in ("mute", "kept", "ruled-out", "ruled-in", "pushed", "flagged", "attr"):
            opensips.mute(aor)
        opensips.drop_connection("dropped")
        opensips.reload("reloading")
        opensips.die("half-open")
        opensips.sleep("asleep")
        for aor in ("line-1", "behind-proxy"):
            opensips.core.end_connection(opensips.find_phone(aor).address)
        failing = ("mute", "dropped", "reloading", "kept", "half-open", "asleep", "ruled-out", "ruled-in", "pushed")
        await eventually(lambda: all(now.decisions(aor) for aor in (*failing, "flagged", "attr")))
        flags = now.flags("pushed")
        await eventually(lambda: mode == "observe" or ("push", "woken") in now.outcomes("asleep"))
        await now.pings("no-options", LOST_AFTER)
        await now.sweeps()
        everyone = [device.aor for device in opensips.fleet]
        return Life(
            mode,
            {aor: now.outcomes(aor) for aor in everyone},
            {aor: now.decisions(aor) for aor in everyone},
            {aor: now.registered(aor) for aor in everyone},
            now.calls,
            {aor: now.offers(aor) for aor in everyone},
            {aor: now.timeline(aor) for aor in everyone if now.devices(aor)},
            flags,
            now.flags("asleep"),
            (left, opensips.find_phone("reloading").uri),
            metrics.WOKEN_SECONDS._sum.get() - wakings,
        )


@pytest.fixture(scope="module")
def lives(
    servers: dict[Kind, EmbeddedRedis], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[Mode], Life]]:
    """The life in either mode, lived once."""
    lived: dict[Mode, Life] = {}

    def of(mode: Mode) -> Life:
        if mode not in lived:
            setup = Setup(servers["module"], tmp_path_factory.mktemp(mode))
            lived[mode] = asyncio.run(live(setup, mode))
            setup.store.close()
        return lived[mode]

    yield of
    lived.clear()


REMOVED = [
    ("mute", "lost-pings", "it can not be woken"),
    ("half-open", "lost-pings", "it can not be woken"),
    ("dropped", "disconnected", "it can not be woken"),
    ("reloading", "ghost", "its device answers elsewhere"),
    ("ruled-out", "lost-pings", "a rule removes it"),
]


@pytest.mark.parametrize(("aor", "reason", "why"), REMOVED)
def test_removed(lives: Callable[[Mode], Life], aor: str, reason: str, why: str) -> None:
    """Enforcing, a dead contact that nobody can wake is looked at, removed once, and gone from usrloc."""
    life = lives("enforce")

    assert life.outcomes[aor] == [("remove", "removed")]
    (entry,) = life.decisions[aor]
    assert (reason, why, "enforce", "OK") == (entry["reason"], entry["why"], entry["mode"], entry["answer"])
    (removal,) = [call for call in life.calls if call.method == "ul_rm_contact" and call.params["aor"] == aor]
    assert removal.params["table_name"] == "location"
    assert removal.params["contact"] not in life.registered[aor]
    assert [line["result"] for line in life.timelines[aor] if line["event"] == "companion-remove"] == ["removed"]
    assert [entry["event"] for entry in life.timelines[aor] if entry["event"].startswith("removed")] == ["removed"]


@pytest.mark.parametrize(("aor", "reason", "why"), REMOVED)
def test_removal_observed(lives: Callable[[Mode], Life], aor: str, reason: str, why: str) -> None:
    """Observing, the same is only written down, once: the contact stays in usrloc."""
    life = lives("observe")

    assert life.outcomes[aor] == [("remove", "observed")]
    assert (reason, why, "observe") == tuple(life.decisions[aor][0][name] for name in ("reason", "why", "mode"))
    assert len(life.registered[aor]) == (2 if aor == "reloading" else 1)
    assert [line["result"] for line in life.timelines[aor] if line["event"] == "companion-remove"] == ["observed"]


def test_observing_does_nothing(lives: Callable[[Mode], Life]) -> None:
    """Observing, nothing is removed or raised through MI, offered for push, or flagged."""
    life = lives("observe")

    assert life.calls == []
    assert not any(life.offers.values())
    assert not any(life.flags_when_pushed)


def test_a_ghost_goes_alone(lives: Callable[[Mode], Life]) -> None:
    """After a page reload the contact left behind is removed, the device's new one stays."""
    life = lives("enforce")
    left, new = life.reloaded

    assert [new] == life.registered["reloading"]
    assert [left] == [call.params["contact"] for call in life.calls if call.params.get("aor") == "reloading"]


@pytest.mark.parametrize("aor", ["asleep", "ruled-in", "pushed", "flagged", "attr"])
def test_push(lives: Callable[[Mode], Life], aor: str) -> None:
    """Who can be woken (RFC 8599, a rule, Flags & 4, push_attr) is pushed, not removed: on the stream and through MI.

    The event's parameters are named; nothing else about a push is in them.
    """
    life = lives("enforce")
    (offer, *_) = life.offers[aor]
    events = [json.loads(call.params["params"]) for call in life.calls if call.method == "raise_event"]
    (event, *_) = [event for event in events if event["aor"] == aor]

    assert {"E_COMPANION_PUSH"} == {call.params["event"] for call in life.calls if call.method == "raise_event"}
    assert event == {
        "domain": "location",
        "aor": aor,
        "uri": life.registered[aor][0],
        "device": life.decisions[aor][0]["device"],
        "reason": "keepalive",
        "attempt": 1,
    }
    assert {**{name: str(value) for name, value in event.items()}, "node": "opensips"} == {
        name: value for name, value in offer.items() if name != "provider"
    }
    assert offer["provider"] == ("fcm" if aor in ("asleep", "ruled-in") else "")
    assert life.outcomes[aor][0] == ("push", "pushed")
    assert {"push"} == {action for action, _ in life.outcomes[aor]}


@pytest.mark.parametrize("aor", ["asleep", "ruled-in", "pushed", "flagged", "attr"])
def test_push_observed(lives: Callable[[Mode], Life], aor: str) -> None:
    """Observing, the first push is written down once, and no second one follows."""
    assert lives("observe").outcomes[aor] == [("push", "observed")]


def test_a_flag(lives: Callable[[Mode], Life]) -> None:
    """What is kept of a contact says since when a push is under way, and which attempt it is."""
    (contact,) = lives("enforce").flags_when_pushed

    assert {"push_pending_since", "push_attempts", "push_last_at"} == set(contact)
    assert int(contact["push_attempts"]) >= 1
    assert 0 < int(contact["push_pending_since"]) <= int(contact["push_last_at"])


def test_a_waking(lives: Callable[[Mode], Life]) -> None:
    """A sleeping phone that registers again after its push loses its flag; how long it took is kept and measured.

    The evidence is that of the failure which the push was for.
    """
    life = lives("enforce")
    pushed, woken = life.decisions["asleep"]

    assert life.outcomes["asleep"] == [("push", "pushed"), ("push", "woken")]
    assert 0 < woken["after_ms"] < 5000
    evidence = ("reason", "since", "lost")
    assert [pushed[name] for name in evidence] == [woken[name] for name in evidence]
    assert not any(life.flags_at_the_end)
    assert life.wakings >= woken["after_ms"] / 1000 - 0.001
    (line,) = [line for line in life.timelines["asleep"] if line.get("result") == "woken"]
    assert line["after_ms"] == woken["after_ms"]
    assert len(life.registered["asleep"]) == 1


@pytest.mark.parametrize("mode", ["observe", "enforce"])
def test_kept(lives: Callable[[Mode], Life], mode: Mode) -> None:
    """A rule keeps a dead contact: written down once, never touched."""
    life = lives(mode)

    assert life.outcomes["kept"] == [("keep", "kept")]
    assert len(life.registered["kept"]) == 1


@pytest.mark.parametrize("mode", ["observe", "enforce"])
@pytest.mark.parametrize("aor", ["no-options", "silent", "line-1", "line-2", "behind-proxy", "live"])
def test_never(lives: Callable[[Mode], Life], mode: Mode, aor: str) -> None:
    """Nothing is decided about who never answered an OPTIONS, is silent, or whose dead connection says nothing.

    That is one which several contacts share, or one to a proxy (a Path).
    """
    life = lives(mode)

    assert life.outcomes[aor] == []
    assert len(life.registered[aor]) == 1


# A life of their own


@pytest.mark.parametrize("fallback", ["keep", "remove"])
async def test_a_push_that_is_not_answered(make_setup: MakeSetup, fallback: str) -> None:
    """After the last push that nobody answered the contact is kept, or removed if so wanted.

    How long each waits the decision table tells (test_policy). `push_event` may name an event that the operator has a
    route for already.
    """
    settings: Json = {
        "push_attempts": 3,
        "push_fallback": fallback,
        "push_grace": 0.4,
        "push_event": "E_UL_CONTACT_REFRESH",
    }
    async with scene(make_setup(), phone("gone", push=PUSH, transport="udp"), mode="enforce", **settings) as now:
        now.opensips.mute("gone")
        last = ("keep", "kept") if fallback == "keep" else ("remove", "removed")
        await eventually(lambda: last in now.outcomes("gone"))
        await now.sweeps()

        assert [*[("push", "pushed")] * 3, last] == now.outcomes("gone")
        assert [entry["attempt"] for entry in now.decisions("gone") if entry["action"] == "push"] == [1, 2, 3]
        assert [offer["attempt"] for offer in now.offers("gone")] == ["1", "2", "3"]
        assert {"E_UL_CONTACT_REFRESH"} == {call.params["event"] for call in now.calls if call.method == "raise_event"}
        assert bool(now.registered("gone")) == (fallback == "keep")
        assert now.decisions("gone")[-1]["why"] == "3 pushes were not answered"


@pytest.mark.parametrize("kind", ["module", "cluster"])
async def test_pause_and_the_days_pushes(make_setup: MakeSetup, kind: Kind) -> None:
    """While paused nothing is done; after resuming what waited is. A device gets no more than its pushes for a day."""
    sleeper, mute = phone("sleeper", push=PUSH, transport="udp"), phone("mute")
    async with scene(make_setup(kind), sleeper, mute, mode="enforce", push_per_day=2, push_grace=0.2) as now:
        sweeps.pause(now.store, 3600)
        now.opensips.mute("sleeper")
        now.opensips.mute("mute")
        await eventually(
            lambda: (
                now.store.connection.call("HGET", now.store.keys.sweep(), "troubles")
                == "opensips: remediation is paused"
            )
        )
        await now.pings("mute", LOST_AFTER)
        await now.sweeps()
        assert not now.outcomes("mute") + now.outcomes("sleeper")
        assert not now.calls
        sweeps.resume(now.store)
        await eventually(lambda: len(now.outcomes("sleeper")) == 2 and now.outcomes("mute"))
        resumed = now.store.connection.call("HGET", now.store.keys.sweep(), "troubles")
        await now.pings("sleeper", 4)

        assert resumed == ""
        assert now.outcomes("mute") == [("remove", "removed")]
        assert now.outcomes("sleeper") == [("push", "pushed")] * 2
        assert len(now.registered("sleeper")) == 1
