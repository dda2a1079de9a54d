"""`companion doctor` and subscribing through MI, with a running companion and a simulated OpenSIPS."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from companion import metrics
from companion.doctor import gather as gathering
from companion.doctor.check import check
from companion.doctor.finding import Finding
from companion.doctor.gather import gather
from companion.opensips import events, subscriptions
from companion.opensips.mi import Mi
from companion.opensips.subscriptions import EventSubscription, parse, subscribe
from companion.query.devices import iterate_devices
from companion.services import scheduler
from companion.services.app import ServiceName
from companion.simulator.opensips import SimulatedOpenSIPS
from companion.simulator.phone import Behaviour, SimulatedPhone
from companion.simulator.redis import EmbeddedRedis, find_free_port
from tests.integration.conftest import MakeSetup, Setup, cli, eventually

INTERVAL = 0.3
FindingsByName = dict[str, Finding]


def fleet(behaviour: Behaviour = Behaviour.STEADY) -> list[SimulatedPhone]:
    return [
        SimulatedPhone(f"phone{n}", f"c386bbc4-8e65-4b8e-a2a5-5d6b6f8e0b0{n}", latency_ms=5, behaviour=behaviour)
        for n in range(3)
    ]


@asynccontextmanager
async def pair(
    setup: Setup, phones: list[SimulatedPhone] | None = None, *services: ServiceName, **settings: Any
) -> AsyncIterator[SimulatedOpenSIPS]:
    """A simulated OpenSIPS whose events go to the bridge of a running companion, which knows its MI."""
    table = {"node": "opensips", **settings.pop("table", {})}
    options: dict[str, Any] = {"events_to": setup.udp, "ping_interval": INTERVAL, "ping_threshold": 0.1} | settings
    async with SimulatedOpenSIPS("opensips", phones or fleet(), **options) as opensips:
        tables = {"pings": {"interval": INTERVAL}, "opensips": [{"mi_url": opensips.mi_url, **table}]}
        setup.config = setup.config.model_validate(setup.tables | tables)
        async with setup.running(*(services or ("bridge", "consumer"))):
            opensips.core.restart()  # what was said before the bridge listened is lost
            await eventually(lambda: len(opensips.contacts) == len(opensips.fleet))
            yield opensips


async def examine(setup: Setup) -> FindingsByName:
    """The worst finding of each name."""
    worst: FindingsByName = {}
    order = ("ok", "note", "warning", "failure")
    for section in check(await gather(setup.config)):
        for finding in section.findings:
            current = worst.get(finding.name)
            if current is None or order.index(current.level) < order.index(finding.level):
                worst[finding.name] = finding
    return worst


def troubles(findings: FindingsByName) -> dict[str, str]:
    return {name: finding.level for name, finding in findings.items() if finding.level in ("warning", "failure")}


def measured(setup: Setup) -> bool:
    contacts = [contact for device in iterate_devices(setup.store) for contact in device.contacts]
    return len(contacts) == 3 and all(contact.last_latency_at for contact in contacts)


async def test_all_is_well(make_setup: MakeSetup) -> None:
    """Where nothing is wrong, nothing is found, and each check says what it saw."""
    setup = make_setup()
    async with pair(setup):
        await eventually(lambda: measured(setup))
        findings = await examine(setup)
    assert troubles(findings) == {}
    assert findings["version"].text == "3.6.8"
    assert findings["subscriptions"].text == f"5 events to {setup.udp}"
    assert findings["attr"].text == "filled on 3 of 3 contacts with a SIP instance"
    assert findings["bus"].text == f"the bridge of opensips was heard at tcp://127.0.0.1:{setup.publish}"
    assert findings["opensips"].text.startswith("alive; last event 0 s ago")
    assert findings["flags"].text == "SIPPING_CALC_LATENCY on 3, SIP_PING_FLAG on 3 of 3 contacts"


async def test_a_phone_is_asked(make_setup: MakeSetup) -> None:
    """With the probe_url of its mi_datagram a phone is asked; the one that died a moment ago does not matter."""
    setup, port = make_setup(), find_free_port()
    async with pair(setup, probe_listen=f"127.0.0.1:{port}", table={"probe_url": f"udp:127.0.0.1:{port}"}) as opensips:
        await eventually(lambda: measured(setup))
        opensips.die("phone0")
        report = await examine(setup)
    assert (report["probe"].level, report["probe"].text[:19]) == ("ok", "a phone answered in")
    assert {str(question["socket"]) for question in opensips.questions} == {"ws:127.0.0.1:8080"}


async def test_no_phone_can_be_asked(make_setup: MakeSetup) -> None:
    """Without probe_url there is a note, and with one where nobody listens a failure with the lines to add."""
    setup, port = make_setup(), find_free_port()
    async with pair(setup):
        await eventually(lambda: measured(setup))
        assert (await examine(setup))["probe"].level == "note"
        table = setup.config.opensips[0].model_copy(update={"probe_url": f"udp:127.0.0.1:{port}"})
        setup.config = setup.config.model_copy(update={"opensips": (table,)})
        report = await examine(setup)
    assert report["probe"].level == "failure"
    assert f"udp:127.0.0.1:{port}: mi_datagram can not be reached" in report["probe"].text
    assert f'modparam("mi_datagram", "socket_name", "udp:127.0.0.1:{port}")' in report["probe"].remedy


async def test_mi_does_not_answer(make_setup: MakeSetup) -> None:
    """An MI that is not where mi_url says is a failure, with the lines that would put it there."""
    setup, port = make_setup(), find_free_port()
    async with pair(setup, table={"mi_url": f"http://127.0.0.1:{port}/mi"}):
        findings = await examine(setup)
    assert troubles(findings) == {"MI": "failure"}
    assert f"http://127.0.0.1:{port}/mi" in findings["MI"].text
    assert f'modparam("httpd", "port", {port})' in findings["MI"].remedy


async def test_mi_refuses_us(make_setup: MakeSetup) -> None:
    """A wrong password for MI is told apart from an MI that is not there, and never shown."""
    setup = make_setup()
    async with pair(setup, mi_login="admin:right", table={"mi_user": "admin", "mi_password": "wrong-one"}):
        findings = await examine(setup)
    assert troubles(findings) == {"MI": "failure"}
    assert "mi_user and mi_password_file" in findings["MI"].remedy
    assert "wrong-one" not in str(findings)


async def test_nobody_is_subscribed(make_setup: MakeSetup) -> None:
    """Without subscriptions the remedy is each line that the script lacks; --fix-subscriptions makes them."""
    setup = make_setup()
    async with pair(setup, events_to="") as opensips:
        findings = await examine(setup)
        assert findings["subscriptions"].level == "failure"
        assert f'subscribe_event("E_UL_LATENCY_UPDATE", "{setup.udp}");' in findings["subscriptions"].remedy
        async with Mi(opensips.mi_url) as mi:
            made = await subscribe(mi, [setup.udp], 3600)
            assert [one.event for one in made] == list(subscriptions.USED_EVENTS)
            assert await subscribe(mi, [setup.udp], 3600) == []
        opensips.core.restart()
        await eventually(lambda: measured(setup))
        after = await examine(setup)
    assert troubles(after) == {"subscriptions": "warning"}
    assert "subscribe = true" in after["subscriptions"].remedy


async def test_events_go_elsewhere(make_setup: MakeSetup) -> None:
    """Events that go to another port than our bridge's are a failure that names both."""
    setup, port = make_setup(), find_free_port()
    async with pair(setup, events_to=f"udp:127.0.0.1:{port}"):
        findings = await examine(setup)
    finding = findings["subscriptions"]
    assert finding.level == "failure"
    assert finding.text.endswith(f"go to udp:127.0.0.1:{port}, not to {setup.udp}")
    assert "set events_to" in finding.remedy


async def test_contacts_without_flags(make_setup: MakeSetup) -> None:
    """Contacts that carry no branch flag are pinged by nobody: a failure that tells which flags to set."""
    setup = make_setup()
    async with pair(setup, fleet(Behaviour.SILENT)):
        await eventually(lambda: len(list(iterate_devices(setup.store))) == 3)
        findings = await examine(setup)
    assert findings["flags"].level == "failure"
    assert 'setbflag("SIP_PING_FLAG"); setbflag("SIPPING_CALC_LATENCY");' in findings["flags"].remedy


async def test_no_attr(make_setup: MakeSetup) -> None:
    """Contacts with a SIP instance that events do not tell of are a failure with the two lines that are missing."""
    setup = make_setup()
    async with pair(setup) as opensips:
        await eventually(lambda: measured(setup))
        for binding in opensips.core.usrloc:
            binding.contact.attr = ""
        findings = await examine(setup)
    assert troubles(findings) == {"attr": "failure"}
    assert 'modparam("registrar", "attr_avp", "$avp(attr)")' in findings["attr"].remedy


async def test_a_silent_feed(make_setup: MakeSetup) -> None:
    """An OpenSIPS with contacts that says nothing for two ping intervals is a failure of its feed."""
    setup = make_setup()
    async with pair(setup) as opensips:
        await eventually(lambda: measured(setup))
        opensips.pause_events()
        quiet_since = setup.feed().last_event_at
        await eventually(lambda: setup.feed().heartbeat_at > max(quiet_since, setup.feed().last_event_at) + 1500)
        findings = await examine(setup)
    assert troubles(findings)["opensips"] == "failure"
    assert findings["opensips"].text.startswith("alive, but no event for")


async def test_no_bridge(make_setup: MakeSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bus on which nobody is heard is a failure, and so is its feed."""
    monkeypatch.setattr(gathering, "HEAR_SECONDS", 0.2)
    setup = make_setup()
    findings = await examine(setup)
    assert troubles(findings) == {"bus": "failure", "MI": "warning"}


async def test_no_consumer(make_setup: MakeSetup) -> None:
    """A bridge that is heard while nothing of it is stored lacks a consumer."""
    setup = make_setup()
    async with SimulatedOpenSIPS("opensips", fleet(), events_to=setup.udp) as opensips:
        setup.config = setup.config.model_validate(setup.tables | {"opensips": [{"mi_url": opensips.mi_url}]})
        with setup.process("bridge") as bridge:
            await eventually(lambda: any(line["event"] == "bridging" for line in bridge.log()))
            findings = await examine(setup)
    assert findings["opensips"].level == "failure"
    assert "companion run consumer" in findings["opensips"].remedy


async def test_redis_without_timeseries(make_setup: MakeSetup) -> None:
    """A Redis without TimeSeries is a note, not a fault."""
    findings = await examine(make_setup("plain"))
    assert (findings["engine"].level, findings["server"].level) == ("note", "ok")


async def test_redis_that_forgets(make_setup: MakeSetup, tmp_path: Path) -> None:
    """A Redis that evicts whatever it likes is a warning; one that keeps nothing on disk a note."""
    with EmbeddedRedis(tmp_path / "redis", persistent=False) as redis:
        setup = make_setup(server=redis)
        setup.store.connection.call("CONFIG SET", "maxmemory-policy", "allkeys-lru")
        findings = await examine(setup)
    assert (findings["memory"].level, findings["persistence"].level) == ("warning", "note")
    assert "maxmemory-policy noeviction" in findings["memory"].remedy


def test_everything_is_away(tmp_path: Path) -> None:
    """With nothing there at all each part says so: in lines with code 1, and as JSON."""
    file = tmp_path / "config.toml"
    redis, bus, mi = find_free_port(), find_free_port(), find_free_port()
    file.write_text(
        f'[redis]\nurl = "redis://:secret@127.0.0.1:{redis}/0"\n'
        f'[consumer]\nsubscribe = ["tcp://127.0.0.1:{bus}"]\n'
        f'[[opensips]]\nmi_url = "http://127.0.0.1:{mi}/mi"\n'
    )
    report, as_json = cli("doctor", "-c", str(file)), cli("doctor", "--json", "-c", str(file))
    assert (report.returncode, as_json.returncode, report.stderr) == (1, 1, "")
    assert report.stdout.rstrip().endswith("3 failures, 0 warnings")
    assert "secret" not in report.stdout
    assert "\x1b" not in report.stdout
    sections = json.loads(as_json.stdout)
    assert [one["section"] for one in sections] == ["OpenSIPS opensips", "Feeds", "Redis"]
    assert [one["findings"][0]["level"] for one in sections] == ["failure"] * 3


async def test_the_command_fixes(make_setup: MakeSetup) -> None:
    """`doctor --fix-subscriptions` says what it subscribed, and the events come."""
    setup = make_setup(pings={"interval": INTERVAL})
    async with pair(setup, events_to="") as opensips:
        file = setup.file()
        with file.open("a") as config:
            config.write(f'[[opensips]]\nmi_url = "{opensips.mi_url}"\n')
        report = await asyncio.to_thread(cli, "doctor", "--fix-subscriptions", "-c", str(file))
        assert f"to {setup.udp}" in report.stdout
        opensips.core.restart()
        await eventually(lambda: measured(setup))


# Renewing


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "SUBSCRIBE_SECONDS", 0.2)


async def list_subscriptions(opensips: SimulatedOpenSIPS) -> list[EventSubscription]:
    async with Mi(opensips.mi_url) as mi:
        event_subscriptions = parse(await mi.call("subscribers_list"))
    return [one for one in event_subscriptions if not one.socket.startswith("route:")]


def subscribed(opensips: SimulatedOpenSIPS) -> int:
    return sum(call.method == "event_subscribe" for call in opensips.mi_calls)


@pytest.mark.usefixtures("often")
async def test_subscriptions_outlive_a_restart(make_setup: MakeSetup) -> None:
    """With `subscribe = true` events come without a word in the script, and again after OpenSIPS was restarted."""
    setup, event_count = make_setup(), len(subscriptions.USED_EVENTS)
    services: tuple[ServiceName, ...] = ("bridge", "consumer", "scheduler")
    async with pair(setup, fleet(), *services, events_to="", table={"subscribe": True}) as opensips:
        made = metrics.total(metrics.SUBSCRIBED, node="opensips", result="made")
        await eventually(lambda: subscribed(opensips) >= event_count)
        await eventually(
            lambda: any(contact.last_latency_at for d in iterate_devices(setup.store) for contact in d.contacts)
        )
        assert {(one.event, one.socket) for one in await list_subscriptions(opensips)} == {
            (event, setup.udp) for event in subscriptions.USED_EVENTS
        }
        before = subscribed(opensips)
        assert before == event_count
        opensips.restart()
        await eventually(lambda: subscribed(opensips) == 2 * event_count)
        received = setup.feed().received
        await eventually(lambda: setup.feed().received > received)
        await eventually(
            lambda: metrics.total(metrics.SUBSCRIBED, node="opensips", result="made") >= made + event_count
        )
        findings = await examine(setup)
    assert findings["subscriptions"].level == "note"


@pytest.mark.usefixtures("often")
async def test_subscriptions_are_renewed_in_time(make_setup: MakeSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    """What will end is renewed while half of its time is left."""
    monkeypatch.setattr(subscriptions, "EXPIRE_SECONDS", 8)
    setup, event_count = make_setup(), len(subscriptions.USED_EVENTS)
    renewed = metrics.total(metrics.SUBSCRIBED, node="opensips", result="renewed")
    services: tuple[ServiceName, ...] = ("bridge", "consumer", "scheduler")
    async with pair(setup, fleet(), *services, events_to="", table={"subscribe": True}) as opensips:
        await eventually(lambda: subscribed(opensips) >= 2 * event_count)
        await eventually(
            lambda: metrics.total(metrics.SUBSCRIBED, node="opensips", result="renewed") >= renewed + event_count
        )
        assert len(await list_subscriptions(opensips)) == event_count


@pytest.mark.usefixtures("often")
async def test_the_script_goes_before(make_setup: MakeSetup) -> None:
    """A subscription of the script never ends, and is never touched: MI would give it an end."""
    setup = make_setup()
    services: tuple[ServiceName, ...] = ("bridge", "consumer", "scheduler")
    async with pair(setup, fleet(), *services, table={"subscribe": True}) as opensips:
        looks = len(opensips.mi_calls)
        await eventually(lambda: sum(call.method == "subscribers_list" for call in opensips.mi_calls[looks:]) >= 2)
        assert subscribed(opensips) == 0
        assert all(
            one.seconds_left is None for one in await list_subscriptions(opensips) if one.event in events.EVENT_NAMES
        )
