"""`companion doctor` against a real OpenSIPS with the shipped configuration, and broken one way at a time."""

import asyncio
import re
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from companion.config import Config
from companion.doctor.check import check
from companion.doctor.finding import Finding
from companion.doctor.gather import gather
from companion.opensips.mi import Mi
from companion.opensips.subscriptions import EXPIRE_SECONDS, REQUIRED_EVENTS, USED_EVENTS, Renewer, parse, subscribe
from companion.query.devices import iterate_devices
from companion.simulator.redis import find_free_port
from tests.acceptance.conftest import Build, Ports, Server
from tests.acceptance.edge import INTERVAL, Companion, edge_with, running, settled, shipped
from tests.fake_clock import LIBRARY, Clock
from tests.sip_phone.phone import Phone

ORDER = ("ok", "note", "warning", "failure")
SET_FLAGS = 'setbflag("SIP_PING_FLAG"); setbflag("SIPPING_CALC_LATENCY");'
FindingsByName = dict[str, Finding]
pytestmark = pytest.mark.timeout(180)


# a startup_route must not be empty
NO_SUBSCRIPTIONS = {"subscribe_event(.*);": 'xlog("nobody\\n");'}


class Edge:
    """An OpenSIPS, a companion beside it, and one phone."""

    def __init__(self, server: Server, companion: Companion, events_to: str, phone: Phone) -> None:
        self.server = server
        self.companion = companion
        self.events_to = events_to
        self.phone = phone

    async def examine(self) -> FindingsByName:
        """The worst finding of each name."""
        findings = [one for section in check(await gather(self.companion.config)) for one in section.findings]
        return {one.name: one for one in sorted(findings, key=lambda one: ORDER.index(one.level))}

    async def known_for_long(self) -> None:
        """Wait until the phone should have been pinged, as the doctor sees it."""
        await settled(lambda: any(at < time.time() * 1000 - 2 * INTERVAL * 1000 - 500 for at in self._since()))

    def _since(self) -> list[int]:
        return [
            contact.registered_at for device in iterate_devices(self.companion.store) for contact in device.contacts
        ]


@asynccontextmanager
async def edge(
    build: Build, folder: Path, changes: Mapping[str, str] | None = None, mi_url: str = ""
) -> AsyncIterator[Edge]:
    """All of them; `changes` are regular expressions in opensips.cfg, and what is there instead."""
    datagram, ports = find_free_port(), Ports.free()
    config = shipped(build, ports, datagram)
    for pattern, new in (changes or {}).items():
        config, matches = re.subn(pattern, new.replace("\\", r"\\"), config)
        assert matches or build.version < (3, 5), f"opensips.cfg has no {pattern}"
    with (
        running(Server(build, folder, config, ports, domain=True)) as server,
        Companion(folder, datagram, mi_url or server.mi_url) as companion,
    ):
        async with Phone(server.ws_url, f"{uuid.uuid4().hex[:12]}@127.0.0.1") as phone:
            yield Edge(server, companion, f"udp:127.0.0.1:{datagram}", phone)


def troubles(findings: FindingsByName) -> dict[str, str]:
    return {name: one.level for name, one in findings.items() if one.level in ("warning", "failure")}


async def test_all_is_well(build: Build, tmp_path: Path) -> None:
    """With the shipped configuration nothing is found wrong."""
    async with edge(build, tmp_path) as here:
        await here.known_for_long()
        findings = await here.examine()
    assert troubles(findings) == {}
    assert findings["version"].text.startswith(".".join(map(str, build.version)))
    assert findings["subscriptions"].text == f"{len(USED_EVENTS)} events to {here.events_to}"
    assert {"SIPPING_CALC_LATENCY", "SIP_PING_FLAG"} <= set(findings["flags"].text.split())
    assert findings["latency"].text == "1 contact measured"
    assert findings["attr"].text == "filled on 1 of 1 contact with a SIP instance"
    assert findings["request size"].level == "ok"


def asking(here: Edge, url: str) -> Config:
    """Return the companion's configuration with this probe_url."""
    (table,) = here.companion.config.opensips
    return here.companion.config.model_copy(update={"opensips": (table.model_copy(update={"probe_url": url}),)})


async def test_a_phone_is_asked(build: Build, tmp_path: Path) -> None:
    """The phone answers over the socket of its events; nobody listens elsewhere, and without a URL there is a note."""
    async with edge(build, tmp_path) as here:
        await settled(lambda: list(iterate_devices(here.companion.store)))
        expected = {
            here.server.probe_url: ("ok", "a phone answered in "),
            f"udp:127.0.0.1:{find_free_port()}": ("failure", "mi_datagram can not be reached"),
            "": ("note", "no probe_url"),
        }
        for url, (level, words) in expected.items():
            finding = await probe_finding(asking(here, url))
            assert finding.level == level
            assert words in finding.text


async def test_another_opensips_is_asked(build: Build, tmp_path: Path) -> None:
    """An OpenSIPS that lacks the socket of the events is told apart from one that does not answer."""
    async with edge(build, tmp_path) as here:
        await settled(lambda: list(iterate_devices(here.companion.store)))
        (tmp_path / "other").mkdir()
        with edge_with(build, tmp_path / "other") as other:
            finding = await probe_finding(asking(here, other.server.probe_url))
    assert finding.level == "failure"
    assert "404 Local socket not found" in finding.text


async def probe_finding(config: Config) -> Finding:
    (finding,) = (one for section in check(await gather(config)) for one in section.findings if one.name == "probe")
    return finding


async def test_mi_on_another_port(build: Build, tmp_path: Path) -> None:
    """MI that is not where mi_url says: the lines that would put it there."""
    port = find_free_port()
    async with edge(build, tmp_path, mi_url=f"http://127.0.0.1:{port}/mi") as here:
        findings = await here.examine()
    assert troubles(findings) == {"MI": "failure"}
    assert f'modparam("httpd", "port", {port})' in findings["MI"].remedy


async def test_nobody_is_subscribed(build: Build, tmp_path: Path) -> None:
    """A script without subscribe_event(): each line it lacks; subscribing through MI mends it for a while."""
    async with edge(build, tmp_path, NO_SUBSCRIPTIONS) as here:
        findings = await here.examine()
        assert troubles(findings)["subscriptions"] == "failure"
        lacking = [f'subscribe_event("{event}", "{here.events_to}");' for event in USED_EVENTS]
        assert all(line in findings["subscriptions"].remedy for line in lacking)
        async with Mi(here.server.mi_url) as mi:
            assert [one.event for one in await subscribe(mi, [here.events_to], 600)] == list(USED_EVENTS)
            assert await subscribe(mi, [here.events_to], 600) == []
            await here.phone.register()
            await here.known_for_long()
            after = await here.examine()
            assert [one.ending for one in await subscribe(mi, [here.events_to], 3600)] == [True] * len(USED_EVENTS)
            left = [one.seconds_left for one in parse(await mi.call("subscribers_list")) if one.seconds_left]
    assert troubles(after) == {"subscriptions": "warning"}
    assert "subscribe = true" in after["subscriptions"].remedy
    assert len(left) == len(USED_EVENTS)
    assert min(left) > 3500


async def test_renewed_after_a_restart(build: Build, tmp_path: Path) -> None:
    """With `subscribe = true` a script without a word of us is enough, also after OpenSIPS was restarted."""
    async with edge(build, tmp_path, NO_SUBSCRIPTIONS) as here:
        config = here.companion.config
        table = config.opensips[0].model_copy(update={"subscribe": True})
        here.companion.config = config.model_copy(update={"opensips": (table,)})
        renewer = Renewer(here.companion.config)
        for _ in range(2):
            assert (await here.examine())["subscriptions"].level == "failure"
            await renewer.run()
            assert (await here.examine())["subscriptions"].level == "note"
            await asyncio.to_thread(here.server.kill)
            here.server.start()
            await asyncio.to_thread(here.server.wait)


@pytest.mark.skipif(LIBRARY is None, reason="no libfaketime here: apt-get install faketime")
@pytest.mark.parametrize("seconds", [-3600, 3600])
async def test_renewed_after_a_step(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: int
) -> None:
    """When the clock of OpenSIPS was set either way, its events are subscribed for the usual time again."""
    clock, ports, datagram = Clock(tmp_path / "faketime"), Ports.free(), find_free_port()
    ((pattern, new),) = NO_SUBSCRIPTIONS.items()
    config = re.sub(pattern, new.replace("\\", r"\\"), shipped(build, ports, datagram))
    for name, value in clock.environment.items():
        monkeypatch.setenv(name, value)
    with running(Server(build, tmp_path, config, ports, domain=True)) as server:
        table = {"node": "opensips", "mi_url": server.mi_url, "subscribe": True}
        bridge = {"datagram": f"udp:127.0.0.1:{datagram}"}
        renewer = Renewer(Config.model_validate({"bridge": bridge, "opensips": [table]}))
        await renewer.run()
        assert await seconds_left(server) == [EXPIRE_SECONDS] * len(USED_EVENTS)
        clock.set(seconds)
        assert await seconds_left(server) != [EXPIRE_SECONDS] * len(USED_EVENTS)
        await renewer.run()
        assert await seconds_left(server) == [EXPIRE_SECONDS] * len(USED_EVENTS)


async def seconds_left(server: Server) -> list[int]:
    """How long our subscriptions are to last, to the minute."""
    async with Mi(server.mi_url) as mi:
        every = parse(await mi.call("subscribers_list"))
    return [round(one.seconds_left / 60) * 60 for one in every if one.seconds_left is not None]


async def test_the_script_goes_before(build: Build, tmp_path: Path) -> None:
    """What the script subscribed never ends, and still does not after we looked at it."""
    async with edge(build, tmp_path) as here, Mi(here.server.mi_url) as mi:
        assert await subscribe(mi, [here.events_to], 600) == []
        event_subscriptions = parse(await mi.call("subscribers_list"))
    assert {one.event for one in event_subscriptions if one.seconds_left is None} >= set(USED_EVENTS)


async def test_events_to_another_port(build: Build, tmp_path: Path) -> None:
    """Events that go to another port: both are named."""
    port = find_free_port()
    moved = {f'"{event}", "udp:.*"': f'"{event}", "udp:127.0.0.1:{port}"' for event in REQUIRED_EVENTS}
    async with edge(build, tmp_path, moved) as here:
        findings = await here.examine()
    assert troubles(findings)["subscriptions"] == "failure"
    assert findings["subscriptions"].text.endswith(f"go to udp:127.0.0.1:{port}, not to {here.events_to}")


async def test_natping_tcp_is_off(build: Build, tmp_path: Path) -> None:
    """WebSocket contacts with flags that are never pinged: natping_tcp comes first."""
    async with edge(build, tmp_path, {'"natping_tcp", 1': '"natping_tcp", 0'}) as here:
        await here.known_for_long()
        findings = await here.examine()
    assert findings["latency"].level == "failure"
    assert findings["flags"].level == "ok"
    assert findings["latency"].remedy.splitlines()[1] == 'modparam("nathelper", "natping_tcp", 1)'


async def test_no_ping_flags(build: Build, tmp_path: Path) -> None:
    """Contacts that carry flags, but none for pings: which are there, and which lines are missing."""
    async with edge(build, tmp_path, {r'setbflag\("SIP(_PING_FLAG|PING).*;': ""}) as here:
        await here.known_for_long()
        findings = await here.examine()
    assert findings["latency"].level == "failure"
    assert "NAT" in findings["latency"].text
    assert SET_FLAGS in findings["latency"].remedy


async def test_no_flags_at_all(build: Build, tmp_path: Path) -> None:
    """Contacts without any flag are known at once to be pinged by nobody."""
    async with edge(build, tmp_path, {r"setbflag\(.*;": 'xlog("none\\n");'}) as here:
        findings = await here.examine()
    assert findings["flags"].level == "failure"
    assert SET_FLAGS in findings["flags"].remedy


async def test_no_attr(build: Build, tmp_path: Path) -> None:
    """Without attr_avp no event tells of the SIP instance: the two lines that are missing."""
    async with edge(build, tmp_path, {r'modparam\("registrar", "attr_avp".*': ""}) as here:
        await here.known_for_long()
        findings = await here.examine()
    assert troubles(findings) == {"attr": "failure"}
    assert 'modparam("registrar", "attr_avp", "$avp(attr)")' in findings["attr"].remedy


async def test_latency_events_held_back(build: Build, tmp_path: Path) -> None:
    """Latencies that OpenSIPS has and does not tell of: the thresholds come first."""
    high = {'"latency_event_min_us", 0': '"latency_event_min_us", 60000000'}
    async with edge(build, tmp_path, high) as here:
        await here.known_for_long()
        findings = await here.examine()
    assert findings["latency"].level == "failure"
    assert 'modparam("usrloc", "latency_event_min_us", 0)' in findings["latency"].remedy


async def test_small_requests_only(build: Build, tmp_path: Path) -> None:
    """An httpd with its default buffer takes no request of more than 1 kB from 3.5 on: a warning, and the line."""
    async with edge(build, tmp_path, {r"modparam.*receive_buf_size.*": ""}) as here:
        findings = await here.examine()
    old = build.version < (3, 5)
    assert findings["request size"].level == ("ok" if old else "warning")
    assert old or 'modparam("httpd", "receive_buf_size", 65536)' in findings["request size"].remedy
