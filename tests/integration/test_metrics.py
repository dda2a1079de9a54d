"""/metrics of a whole companion: what it tells, what it never tells, and what is left of it while Redis is away."""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from companion import __version__, metrics
from companion.config import OpensipsSection
from companion.errors import MiError
from companion.http.monitoring import fleet_metrics, watch
from companion.opensips.mi import open_mi
from companion.simulator.opensips import SimulatedOpenSIPS
from companion.simulator.phone import SimulatedPhone, SimulatedPush
from companion.simulator.redis import EmbeddedRedis, find_free_port
from companion.store.nodes import Feed, prepare_feed
from companion.text import Json
from tests.integration.conftest import Feeder, Kind, MakeSetup, Process, Setup, eventually, until
from tests.integration.web import client, fill

SPEED = 10.0
PING = 5.0
"""Simulated seconds between pings: half a real one."""
PUSH = SimulatedPush("fcm", "bobs-token", "bobs-project")
PHONES = [
    SimulatedPhone("ann1001", instance="urn:uuid:aaaaaaaa-0000-4000-8000-000000000001", user_agent="Ann's phone 1.0"),
    SimulatedPhone(
        "bob@example.com", user_agent="Bob's phone 2.0", push=SimulatedPush("fcm", "bobs-token", "bobs-project")
    ),
    SimulatedPhone("carl3003", user_agent="Carl's phone 3.0", transport="udp"),
    SimulatedPhone("mute4004", user_agent="Mute phone 4.0", loss=0.5),
]

needs_promtool = pytest.mark.skipif(not shutil.which("promtool"), reason="needs promtool (apt-get install prometheus)")


class Scrape:
    """What Prometheus reads of one answer."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    def value(self, name: str, **labels: str) -> float | None:
        """The sum over the series with these labels; None when there is none."""
        values = [
            sample.value
            for sample in self.samples
            if sample.name == metrics.PREFIX + name and labels.items() <= sample.labels.items()
        ]
        return sum(values) if values else None

    def sure(self, name: str, **labels: str) -> float:
        value = self.value(name, **labels)
        assert value is not None, name
        return value


@dataclass
class Recording:
    """One answer of a companion that has been at it for a while, and what its phones would give away."""

    scrape: Scrape
    secrets: list[str]


@pytest.fixture(scope="module")
def recording(servers: Mapping[Kind, EmbeddedRedis], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recording]:
    """A companion in a process of its own, so that nobody else has counted there."""
    port, mi = find_free_port(), find_free_port()
    setup = Setup(
        servers["module"],
        tmp_path_factory.mktemp("metrics"),
        api={"listen": f"127.0.0.1:{port}", "dashboard": False},
        pings={"interval": PING / SPEED},
        remediation={"sweep_interval": 0.5},
    )
    file = setup.file()
    with file.open("a") as config:
        config.write(f'[[opensips]]\nnode = "opensips"\nmi_url = "http://127.0.0.1:{mi}/mi"\n')
    process = Process(file, ())
    with contextlib.closing(setup.store), contextlib.ExitStack() as stack:
        stack.callback(process.end)
        yield asyncio.run(_watch(setup, f"http://127.0.0.1:{port}/metrics", mi))


async def _watch(setup: Setup, url: str, mi: int) -> Recording:
    await eventually(lambda: setup.feed().heartbeat_at)
    opensips = SimulatedOpenSIPS(
        "opensips", PHONES, setup.udp, mi_listen=f"127.0.0.1:{mi}", ping_interval=PING, ping_threshold=1, speed=SPEED
    )
    async with opensips, asyncio.timeout(40):
        while not _is_all_there(scrape := await asyncio.to_thread(_scrape, url)):  # noqa: ASYNC110 - not an event
            await asyncio.sleep(0.2)
        contacts = opensips.contacts
    return Recording(scrape, [*_secrets(), *(uri for _, uri in contacts)])


def _scrape(url: str) -> Scrape:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return Scrape(answer.read().decode())


def _is_all_there(scrape: Scrape) -> bool:
    return all(
        [
            scrape.value("contacts", node="opensips") == len(PHONES),
            scrape.value("samples_stored_total", series="latency"),
            scrape.value("samples_stored_total", series="lost"),
            scrape.value("mi_requests_total", result="ok"),
            scrape.value("swept_timestamp_seconds"),
        ]
    )


def _secrets() -> list[str]:
    pushes = [phone.push for phone in PHONES if phone.push]
    return [
        *(phone.aor for phone in PHONES),
        *(phone.instance for phone in PHONES if phone.instance),
        *(phone.user_agent for phone in PHONES),
        *(phone.address[0] for phone in PHONES),
        *(part for push in pushes for part in push[1:]),
    ]


@needs_promtool
def test_prometheus_has_nothing_to_complain_of(recording: Recording) -> None:
    """Names, types, units and help texts of a companion at work are as Prometheus wants them."""
    checked = subprocess.run(
        ["promtool", "check", "metrics"],
        input=recording.scrape.text.encode(),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_it_tells_of_nobody(recording: Recording) -> None:
    """No AOR, URI, instance, User-Agent, address or push token of a phone is anywhere in it."""
    assert [secret for secret in recording.secrets if secret in recording.scrape.text] == []


def test_the_fleet(recording: Recording) -> None:
    """Devices and contacts are those there are, counted just now."""
    scrape = recording.scrape
    assert len(PHONES) == scrape.sure("devices")
    assert len(PHONES) == scrape.sure("contacts", node="opensips")
    for when in ("fleet_counted", "swept"):
        assert abs(time.time() - scrape.sure(f"{when}_timestamp_seconds")) < 60
    assert scrape.sure("ping_interval_seconds") == PING / SPEED


def test_the_feed(recording: Recording) -> None:
    """The bridge was heard of just now, and has brought what the consumer took."""
    scrape = recording.scrape
    for what in ("event", "heartbeat"):
        assert abs(time.time() - scrape.sure(f"feed_last_{what}_timestamp_seconds", node="opensips")) < 60
    assert scrape.sure("feed_received_total", node="opensips") > 0
    assert scrape.sure("feed_missed_total", node="opensips") == 0
    assert scrape.sure("breaker_open", node="opensips") == 0
    assert scrape.sure("events_total", node="opensips", event="E_UL_LATENCY_UPDATE") > 0


def test_what_it_depends_on(recording: Recording) -> None:
    """Redis is up and says how much memory it uses; writes, reads, calls of MI and jobs are measured."""
    scrape = recording.scrape
    assert scrape.sure("redis_up") == 1
    assert scrape.sure("redis_memory_used_bytes") > 100_000
    assert scrape.sure("redis_memory_max_bytes") == 0
    assert scrape.sure("redis_write_seconds_count") > 0
    assert scrape.sure("redis_read_seconds_count", question="metrics") > 0
    assert scrape.sure("mi_request_seconds_count", node="opensips") > 0
    assert scrape.sure("mi_requests_total", result="unreachable") == 0
    assert scrape.sure("job_seconds_count", job_name="sweep") > 0
    assert scrape.sure("job_failures_total") == 0
    assert scrape.sure("build_info", version=__version__) == 1


def test_counters_begin_at_0(recording: Recording) -> None:
    """What an alert waits for is there before it happens: nobody sees a counter rise that begins at 1."""
    for queue in ("consumer", "kernel_udp", "stream", "stream_connections"):
        assert recording.scrape.sure("dropped_total", queue=queue) == 0


def test_round_trips(recording: Recording) -> None:
    """Answered pings are in the histogram, lost ones are counted apart: the half hour that OpenSIPS says is no time."""
    scrape, node = recording.scrape, "opensips"
    answered = scrape.sure("ping_rtt_seconds_count", node=node)
    assert answered > 0
    assert answered == scrape.sure("ping_rtt_seconds_bucket", node=node, le="10.0")
    assert answered > scrape.sure("ping_rtt_seconds_bucket", node=node, le="0.01")
    assert scrape.sure("ping_rtt_seconds_sum", node=node) < answered
    assert scrape.sure("pings_lost_total", node=node) > 0


def _ask(setup: Setup) -> Scrape:
    with client(setup) as api:
        answer = api.get("/metrics")
    assert answer.status_code == 200
    return Scrape(answer.text)


def test_a_node_that_is_elsewhere(make_setup: MakeSetup) -> None:
    """What is told of a feed, and of its breaker, comes from the store: who wrote it does not matter."""
    setup = make_setup(api={"dashboard": False})
    feed = Feed("far", "far", 1, 1_700_000_002_500, 0, 0, 30, 2, 5, gaps=3, missed=7, silences=1, removals=4)
    setup.store.connection.pipeline(prepare_feed(setup.store.keys, feed, {}))
    setup.store.connection.call("HSET", setup.store.keys.breaker("far"), "opened_at", 1)
    scrape = _ask(setup)
    counts = {"received": 30, "invalid": 2, "kernel_drops": 5, "gaps": 3, "missed": 7, "silences": 1}
    assert counts == {name: scrape.sure(f"feed_{name}_total", node="far") for name in counts}
    assert scrape.sure("feed_opensips_removals_total", node="far") == 4
    assert scrape.sure("feed_last_heartbeat_timestamp_seconds", node="far") == 1_700_000_002.5
    assert scrape.value("feed_last_event_timestamp_seconds", node="far") is None
    assert scrape.sure("breaker_open", node="far") == 1


def test_what_is_not_known_is_absent(make_setup: MakeSetup) -> None:
    """Before the fleet was counted and swept for the first time nothing is told of it, least of all a 0."""
    scrape = _ask(make_setup(api={"dashboard": False}))
    assert scrape.sure("redis_up") == 1
    for name in ("devices", "contacts", "fleet_counted_timestamp_seconds", "swept_timestamp_seconds"):
        assert scrape.value(name) is None


def test_redis_is_away(make_setup: MakeSetup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While Redis is gone or hangs /metrics answers, without what only Redis knows; all of it is back afterwards."""
    monkeypatch.setattr(fleet_metrics, "FRESH_SECONDS", 0.1)
    monkeypatch.setattr(fleet_metrics, "PATIENCE_SECONDS", 0.5)
    monkeypatch.setattr(watch, "PATIENCE_SECONDS", 0.5)
    with EmbeddedRedis(tmp_path / "own") as server:
        setup = make_setup(server=server, api={"dashboard": False})
        fill(setup)
        with client(setup) as api:

            def up() -> float:
                return Scrape(api.get("/metrics").text).sure("redis_up")

            assert up() == 1
            server.stop()
            until(lambda: up() == 0)
            gone = Scrape(api.get("/metrics").text)
            assert gone.value("feed_received_total") is None
            assert gone.sure("build_info") == 1
            server.start()
            until(lambda: up() == 1)
            assert server._process
            os.kill(server._process.pid, signal.SIGSTOP)
            try:
                started = time.monotonic()
                until(lambda: up() == 0)
                assert time.monotonic() - started < 5  # and not the ten seconds that Redis has to answer
            finally:
                os.kill(server._process.pid, signal.SIGCONT)
            until(lambda: up() == 1, 30)


def test_redis_that_keeps_its_memory_to_itself(make_setup: MakeSetup) -> None:
    """An account that may not ask for INFO is told all the rest."""
    admin = make_setup()
    admin.store.connection.call("ACL SETUSER", "quiet", "on", ">secret", "~*", "+@all", "-info")
    url = admin.config.redis.url.replace("redis://", "redis://quiet:secret@")
    scrape = _ask(make_setup(api={"dashboard": False}, redis={"url": url}))
    assert scrape.sure("redis_up") == 1
    assert scrape.value("redis_memory_used_bytes") is None


def _counters(make_setup: MakeSetup, **sections: Json) -> tuple[Setup, str]:
    """A setup that tells what it counts on a port of its own, and where that is."""
    at = f"127.0.0.1:{find_free_port()}"
    return make_setup(metrics={"listen": at}, **sections), f"http://{at}/metrics"


async def test_a_process_without_api(make_setup: MakeSetup) -> None:
    """A consumer alone tells what it counts, and nothing that the store knows; it ends as cleanly as without."""
    setup, url = _counters(make_setup)
    with setup.process("consumer") as consumer:
        async with Feeder(setup, phones=2, per_second=50):
            await eventually(lambda: setup.events_done() > 10)
            scrape = await asyncio.to_thread(_scrape, url)
        assert scrape.sure("events_total", node="opensips", event="E_UL_LATENCY_UPDATE") > 0
        assert scrape.sure("build_info", version=__version__) == 1
        assert "process_cpu_seconds_total" in {sample.name for sample in scrape.samples}
        names = {sample.name.removeprefix(metrics.PREFIX) for sample in scrape.samples}
        assert not names & {family.name for family in fleet_metrics.FAMILIES}
        assert consumer.terminate() == 0


def test_only_metrics_and_only_for_neighbours(make_setup: MakeSetup) -> None:
    """There is nothing but /metrics, and not for a page that made its own name lead here."""
    setup, url = _counters(make_setup)
    with setup.process("consumer"):
        until(lambda: _status(url) == 200)
        assert _status(url.removesuffix("/metrics") + "/api/v1/summary") == 404
        assert _status(url, method="POST") == 405
        assert _status(url, host="evil.example") == 421


def _status(url: str, method: str = "GET", host: str = "127.0.0.1") -> int | None:
    """What is answered; None when nobody listens yet."""
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, headers={"Host": host}, method=method), timeout=10
        ) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except urllib.error.URLError:
        return None


def test_beside_the_api(make_setup: MakeSetup) -> None:
    """With an API in the process that tells all, as ever, and the port of its own what the process counts."""
    api = f"127.0.0.1:{find_free_port()}"
    setup, url = _counters(make_setup, api={"listen": api, "dashboard": False})
    with setup.process("consumer", "api"):
        until(lambda: _status(url) == 200 == _status(f"http://{api}/metrics"))
        own, full = _scrape(url), _scrape(f"http://{api}/metrics")
    assert (own.value("redis_up"), full.value("redis_up")) == (None, 1)
    assert full.sure("build_info") == own.sure("build_info") == 1


def test_a_port_for_metrics_that_is_taken(make_setup: MakeSetup) -> None:
    """A port that another has is one line that names the setting, and code 1."""
    setup, url = _counters(make_setup)
    at = url.removeprefix("http://").removesuffix("/metrics")
    with socket.create_server(("127.0.0.1", int(at.rpartition(":")[2]))):
        finished = setup.cli("run", "consumer")
    assert finished.returncode == 1
    assert finished.stderr.splitlines()[-1] == f"error: can not listen on {at}; see [metrics] listen"
    assert "Traceback" not in finished.stderr


@pytest.mark.parametrize(
    ("login", "method", "result"),
    [("", "uptime", "ok"), ("", "ul_show_contact", "error"), ("me:secret", "uptime", "refused")],
)
async def test_calls_of_mi(login: str, method: str, result: str) -> None:
    """Each request to MI is counted by what came of it, and its time is taken."""
    node = f"mi-{result}"
    params = {"table_name": "location", "aor": "nobody"} if method == "ul_show_contact" else {}
    async with SimulatedOpenSIPS(node, [], "", mi_login=login) as opensips:
        table = OpensipsSection(node=node, mi_url=opensips.mi_url)
        async with open_mi(table) as mi:
            with contextlib.suppress(MiError):
                await mi.call(method, **params)
    assert metrics.total(metrics.MI_REQUESTS, node=node) == 1
    assert metrics.total(metrics.MI_REQUESTS, node=node, method=method, result=result) == 1


async def test_mi_that_nobody_answers() -> None:
    """A request that reaches nobody is counted as such, each time it is tried; a dump is counted as well."""
    table = OpensipsSection(node="mi-nobody", mi_url=f"http://127.0.0.1:{find_free_port()}/mi")
    async with open_mi(table) as mi:
        with contextlib.suppress(MiError):
            await mi.call("uptime")
        with contextlib.suppress(MiError):
            assert [contact async for contact in mi.dump()] == []
    count = {
        method: metrics.total(metrics.MI_REQUESTS, node="mi-nobody", method=method) for method in ("uptime", "ul_dump")
    }
    assert count == {"uptime": 3, "ul_dump": 1}
    assert metrics.total(metrics.MI_REQUESTS, node="mi-nobody", result="unreachable") == 4
