"""The simulated OpenSIPS over real sockets, and the Redis of our own."""

import asyncio
import base64
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from companion.bridge.framer import Framer
from companion.errors import UnavailableError, UsageError
from companion.opensips.events import LOST_PING_US
from companion.opensips.probe import Prober, Question
from companion.simulator.fleet import build_fleet
from companion.simulator.mi_server import Fault
from companion.simulator.opensips import SimulatedOpenSIPS
from companion.simulator.phone import SimulatedPhone, SimulatedPush
from companion.simulator.redis import EmbeddedRedis, find_redis_server
from tests.integration.conftest import eventually

DEADLINE = 20
ONCE = Retry(NoBackoff(), 0)


class Ear:
    """A UDP socket that hears events."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.setblocking(False)
        self.where = f"udp:127.0.0.1:{self._socket.getsockname()[1]}"
        self.events: list[dict[str, Any]] = []

    def listen(self) -> list[dict[str, Any]]:
        while True:
            try:
                self.events.append(json.loads(self._socket.recv(65536)))
            except BlockingIOError:
                return self.events

    def fileno(self) -> int:
        return self._socket.fileno()

    def methods(self) -> list[str]:
        return [event["method"] for event in self.listen()]

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def ear() -> Iterator[Ear]:
    ear = Ear()
    yield ear
    ear.close()


def simulated(ear: Ear, **settings: Any) -> SimulatedOpenSIPS:
    phones = [SimulatedPhone("alice", "a1"), SimulatedPhone("bob", "b1", transport="udp")]
    quick = {"ping_interval": 0.2, "ping_threshold": 0.15, "max_pings_lost": 3, "timer_interval": 0.2}
    return SimulatedOpenSIPS("one", phones, **({"events_to": ear.where} | quick | settings))


@pytest.fixture
async def opensips(ear: Ear) -> AsyncIterator[SimulatedOpenSIPS]:
    async with simulated(ear) as running:
        yield running


def post(url: str, body: bytes, headers: dict[str, str] | None = None, timeout: float = DEADLINE) -> bytes:
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"} | (headers or {}))
    with urllib.request.urlopen(request, timeout=timeout) as response:
        answer: bytes = response.read()
    return answer


async def call(opensips: SimulatedOpenSIPS, method: str, *params: Any) -> Any:
    body = json.dumps({"jsonrpc": "2.0", "method": method, "params": list(params), "id": 1}).encode()
    return json.loads(await asyncio.to_thread(post, opensips.mi_url, body))


async def test_events_arrive_one_a_datagram(opensips: SimulatedOpenSIPS, ear: Ear) -> None:
    """Phones register and are pinged; each event is one JSON object in one datagram."""
    await eventually(lambda: ear.methods().count("E_UL_LATENCY_UPDATE") >= 4)

    assert ear.methods()[:4] == ["E_UL_AOR_INSERT", "E_UL_CONTACT_INSERT"] * 2
    assert {aor for aor, _ in opensips.contacts} == {"alice", "bob"}
    assert all(pings.answered for pings in opensips.pings.values())


async def test_a_muted_phone_is_heard_losing(opensips: SimulatedOpenSIPS, ear: Ear) -> None:
    """A hook acts at once on the running node, by AOR or by instance."""
    opensips.mute("a1")

    await eventually(lambda: any(event["params"].get("latency") == LOST_PING_US for event in ear.listen()))
    opensips.unregister("bob")
    await eventually(lambda: "E_UL_CONTACT_DELETE" in ear.methods())
    with pytest.raises(UsageError, match="nobody"):
        opensips.mute("nobody")


async def test_remove_on_timeout_over_the_wire(ear: Ear) -> None:
    """A dead phone's contact is deleted by OpenSIPS itself after its last lost ping."""
    async with simulated(ear, remove_on_timeout=True) as opensips:
        opensips.die("alice")
        await eventually(lambda: "E_UL_CONTACT_DELETE" in ear.methods())

        assert [aor for aor, _ in opensips.contacts] == ["bob"]


async def test_speed_makes_seconds_short(ear: Ear) -> None:
    """At speed 100, a 30 s ping interval passes in 0.3 s, and the latency told is still the phone's own."""
    async with simulated(ear, ping_interval=30, ping_threshold=3, speed=100):
        await eventually(lambda: ear.methods().count("E_UL_LATENCY_UPDATE") >= 4)

    latencies = [event["params"]["latency"] for event in ear.events if event["method"] == "E_UL_LATENCY_UPDATE"]
    assert all(1_000 < latency < 3_000_000 for latency in latencies)


async def test_paused_events_are_lost(opensips: SimulatedOpenSIPS, ear: Ear) -> None:
    """While paused the phones live on and nobody hears of it."""
    await eventually(lambda: "E_UL_LATENCY_UPDATE" in ear.methods())
    opensips.pause_events()
    await opensips.flush()
    count = len(ear.listen())
    raised = opensips.events_raised.total()

    await eventually(lambda: opensips.events_raised.total() > raised + 3)
    assert len(ear.listen()) == count
    opensips.resume_events()
    await eventually(lambda: len(ear.listen()) > count)


async def test_a_restart_forgets_everything(ear: Ear) -> None:
    """After restart() usrloc is empty; a browser comes back, a UDP phone is unknown until its next refresh."""
    async with simulated(ear, speed=10) as opensips:
        await eventually(lambda: len(opensips.contacts) == 2)
        opensips.restart()

        assert opensips.contacts == []
        await eventually(lambda: [aor for aor, _ in opensips.contacts] == ["alice"])


async def test_a_push_through_mi_wakes_a_sleeper(ear: Ear) -> None:
    """raise_event E_COMPANION_PUSH makes a sleeping phone with push answer again within seconds."""
    async with simulated(ear, speed=10) as opensips:
        phone = opensips.find_phone("bob")
        phone.push = SimulatedPush("fcm", "token", "proj-1")
        await eventually(lambda: len(opensips.contacts) == 2)
        opensips.sleep("bob")
        params = json.dumps({"aor": "bob", "uri": phone.uri})
        assert (await call(opensips, "raise_event", "E_COMPANION_PUSH", params))["result"] == "OK"

        await eventually(lambda: opensips.find_phone("bob").state == "on")


async def test_tcp_events_come_back_to_back(ear: Ear) -> None:
    """Over TCP the objects follow each other with nothing between; after a hang-up it connects again."""
    received: list[bytes] = []
    writers: list[asyncio.StreamWriter] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        received.append(b"")
        number = len(received) - 1
        while data := await reader.read(65536):
            received[number] += data
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with simulated(ear, events_to=f"tcp:127.0.0.1:{port}"):
        await eventually(lambda: received and received[0].count(b"LATENCY") > 3)
        writers[0].transport.abort()
        await eventually(lambda: len(received) > 1 and received[1].count(b"LATENCY") > 1)
    server.close()
    await server.wait_closed()

    framer = Framer()
    assert [json.loads(text)["method"] for text in framer.feed(received[0])][:2] == [
        "E_UL_AOR_INSERT",
        "E_UL_CONTACT_INSERT",
    ]
    assert framer.garbage_bytes == 0


async def test_a_big_fleet_overruns_no_default_buffer(ear: Ear) -> None:
    """A thousand phones that register at once reach a reader on the same loop without one loss."""
    fleet = build_fleet(1000)
    async with SimulatedOpenSIPS("one", fleet, events_to=ear.where) as opensips:
        asyncio.get_running_loop().add_reader(ear.fileno(), ear.listen)
        await eventually(lambda: len(opensips.contacts) == 1000)
        await opensips.flush()
        await eventually(lambda: ear.methods().count("E_UL_CONTACT_INSERT") == 1000)
        asyncio.get_running_loop().remove_reader(ear.fileno())


async def test_mi_over_http(opensips: SimulatedOpenSIPS, ear: Ear) -> None:
    """MI answers on its URL, counts the calls, and what it removes is an event."""
    await eventually(lambda: len(opensips.contacts) == 2)
    uri = opensips.find_phone("bob").uri

    assert (await call(opensips, "ul_show_contact", "location", "bob"))["result"]["Contacts"][0]["Contact"] == uri
    assert (await call(opensips, "ul_rm_contact", "location", "bob", uri))["result"] == "OK"
    assert [made.method for made in opensips.mi_calls] == ["ul_show_contact", "ul_rm_contact"]
    await eventually(lambda: "E_UL_CONTACT_DELETE" in ear.methods())


async def test_subscribing_through_mi(opensips: SimulatedOpenSIPS) -> None:
    """event_subscribe really sends the event there from then on."""
    other = Ear()
    assert (await call(opensips, "event_subscribe", "E_UL_LATENCY_UPDATE", other.where))["result"] == "OK"

    await eventually(lambda: "E_UL_LATENCY_UPDATE" in other.methods())
    assert set(other.methods()) == {"E_UL_LATENCY_UPDATE"}
    other.close()


async def test_mi_wants_its_password(ear: Ear) -> None:
    """With a login, a call without it is a 401 and does nothing."""
    async with simulated(ear, mi_login="me:secret") as opensips:
        body = b'{"jsonrpc":"2.0","method":"version","id":1}'
        with pytest.raises(urllib.error.HTTPError) as refused:
            await asyncio.to_thread(post, opensips.mi_url, body)
        refused.value.close()
        login = {"Authorization": "Basic " + base64.b64encode(b"me:secret").decode()}

        assert refused.value.code == 401
        assert opensips.mi_calls == []
        assert b"OpenSIPS" in await asyncio.to_thread(post, opensips.mi_url, body, login)


@pytest.mark.parametrize(
    ("fault", "raised", "done"),
    [
        (Fault.HANG, TimeoutError, 0),
        (Fault.SERVER_ERROR, urllib.error.HTTPError, 0),
        (Fault.UNAUTHORIZED, urllib.error.HTTPError, 0),
        (Fault.CLOSE, ConnectionError, 0),
        (Fault.CLOSE_AFTER, ConnectionError, 1),
        (Fault.SLOW, None, 1),
        (Fault.GARBAGE, None, 0),
    ],
)
async def test_faults(opensips: SimulatedOpenSIPS, fault: Fault, raised: type[Exception] | None, done: int) -> None:
    """Each fault does what its name says as often as asked, then MI answers again."""
    body = b'{"jsonrpc":"2.0","method":"version","id":1}'
    opensips.mi_server.slow_seconds = 0.05
    opensips.mi_server.fail(fault, times=1)

    if raised:
        with pytest.raises(raised) as failure:
            await asyncio.to_thread(post, opensips.mi_url, body, timeout=0.5)
        if isinstance(failure.value, urllib.error.HTTPError):
            failure.value.close()
    else:
        answer = await asyncio.to_thread(post, opensips.mi_url, body)
        assert answer.startswith(b"{") is (fault is Fault.SLOW)
    assert len(opensips.mi_calls) == done
    assert (await call(opensips, "version"))["result"]


async def test_stopping_is_quick_even_while_a_call_hangs(ear: Ear) -> None:
    """stop() ends a hanging call and is done within two seconds."""
    opensips = simulated(ear)
    await opensips.start()
    opensips.mi_server.fail(Fault.HANG)
    hanging = asyncio.create_task(call(opensips, "version"))
    await eventually(lambda: opensips.mi_server.is_busy)
    started_at = time.monotonic()
    await opensips.stop()

    assert time.monotonic() - started_at < 2
    with pytest.raises(ConnectionError):
        await hanging


async def test_a_taken_mi_address_is_said(opensips: SimulatedOpenSIPS, ear: Ear) -> None:
    """An MI port in use is an UnavailableError, not a traceback of uvicorn's."""
    address = opensips.mi_url.removeprefix("http://").removesuffix("/mi")

    with pytest.raises(UnavailableError, match="can not listen"):
        await simulated(ear, mi_listen=address).start()


def connect(server: EmbeddedRedis) -> redis.Redis:
    return redis.Redis.from_url(server.url, decode_responses=True, retry=ONCE)


def test_redis_keeps_its_data_over_a_restart(tmp_path: Path) -> None:
    """A persistent Redis stopped and started has its port and its data; it refuses DEBUG and listens on loopback."""
    with EmbeddedRedis(tmp_path) as server:
        url = server.url
        with connect(server) as client:
            client.set("a", "1")
            assert client.config_get("bind")["bind"] == "127.0.0.1"
            with pytest.raises(redis.ResponseError, match="DEBUG"):
                client.execute_command("DEBUG", "SLEEP", "0")
        server.stop()
        server.start()
        with connect(server) as client:
            assert (server.url, client.get("a")) == (url, "1")
    assert server.log_file.read_text()


def test_redis_without_persistence_forgets(tmp_path: Path) -> None:
    """Not persistent, a new start is empty and no data file is written."""
    with EmbeddedRedis(tmp_path, persistent=False) as server:
        with connect(server) as client:
            client.set("a", "1")
        server.kill()
        server.start()
        with connect(server) as client:
            assert client.get("a") is None
    assert [file.name for file in tmp_path.iterdir()] == ["redis.log"]


def test_redis_has_time_series_when_the_wheel_is_there(tmp_path: Path) -> None:
    """The module is loaded where it was found, and left out when not wanted."""
    if not find_redis_server().modules:
        pytest.skip("this redis-server has no module beside it")
    with EmbeddedRedis(tmp_path / "a", persistent=False) as server, connect(server) as client:
        assert client.execute_command("TS.ADD", "t", "1", "2") == 1
    with EmbeddedRedis(tmp_path / "b", persistent=False, modules=False) as server, connect(server) as client:
        assert client.execute_command("MODULE", "LIST") == []


def test_redis_on_a_taken_port_is_said(tmp_path: Path) -> None:
    """A fixed port in use ends in an UnavailableError with Redis' own words."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = EmbeddedRedis(tmp_path, port=listener.getsockname()[1])
        with pytest.raises(UnavailableError, match="in use"):
            server.start()


def test_no_redis_at_all_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any redis-server the error says how to get one; a wrong REDIS_SERVER_BIN is named."""
    monkeypatch.setattr("companion.simulator.redis.PROJECT", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("REDIS_SERVER_BIN", raising=False)
    with pytest.raises(UnavailableError, match="make setup"):
        find_redis_server()
    monkeypatch.setenv("REDIS_SERVER_BIN", "/no/such/redis")
    with pytest.raises(UnavailableError, match="/no/such/redis"):
        find_redis_server()


CHILD = """
import sys, time
from pathlib import Path
from companion.simulator.redis import EmbeddedRedis
server = EmbeddedRedis(Path(sys.argv[1]), persistent=False)
server.start()
print(server.port, flush=True)
try:
    time.sleep(60)
except KeyboardInterrupt:
    server._process.wait(0.5)
"""


def test_redis_dies_with_its_parent_and_not_by_ctrl_c(tmp_path: Path) -> None:
    """Ctrl-C to the whole group leaves Redis to its parent; when the parent is killed, Redis goes too."""
    parent = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert parent.stdout is not None
    with parent, redis.Redis(port=int(parent.stdout.readline()), retry=ONCE) as client:
        os.killpg(parent.pid, signal.SIGINT)
        assert client.ping()
        parent.kill()
        parent.wait()
        with pytest.raises(redis.ConnectionError):
            ping_until_refused(client)


def ping_until_refused(client: redis.Redis) -> None:
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        client.ping()


async def test_questions_over_udp(ear: Ear) -> None:
    """A Prober learns of each phone whether it lives; a silent one takes five seconds of the simulation."""
    async with simulated(ear, speed=10) as opensips, Prober(opensips.probe_url, "one") as prober:
        await eventually(lambda: len(opensips.contacts) == 2)
        opensips.mute("bob")
        questions = [Question(phone.uri, phone.received, socket_of(opensips, phone)) for phone in opensips.fleet]
        replies = await asyncio.gather(*map(prober.ask, questions))

    assert [reply.result for reply in replies] == ["answered", "unanswered"]
    assert replies[0].duration_ms < replies[1].duration_ms < 2000
    assert len(opensips.questions) == 2


def socket_of(opensips: SimulatedOpenSIPS, phone: SimulatedPhone) -> str:
    return opensips.core.sockets[phone.transport]
