"""A bus that refuses a subscriber is named as such: in the log, the metrics, the store and by the doctor."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import zmq
from structlog.testing import capture_logs

from companion import metrics
from companion.bridge.bridge import Bridge
from companion.bus.curve import Curve
from companion.bus.handshakes import Why
from companion.bus.publisher import Publisher
from companion.bus.refusals import EXPLANATIONS
from companion.doctor.gather import _hear
from companion.services.app import App
from companion.simulator.redis import find_free_port
from companion.store.consumers import load_consumers
from tests.integration.conftest import MakeSetup, Setup, eventually
from tests.integration.web import client

SERVER, CLIENT, FOREIGN = ([key.decode() for key in zmq.curve_keypair()] for _ in range(3))
"""Public and secret key of each."""
ENCRYPTED = Curve(SERVER[1], (CLIENT[0],))
RIGHT = {"curve_secret_key": CLIENT[1], "curve_server_key": SERVER[0]}

CASES: list[tuple[Why, Curve | None, dict[str, str]]] = [
    ("client_key", ENCRYPTED, {"curve_secret_key": FOREIGN[1], "curve_server_key": SERVER[0]}),
    ("server_key", ENCRYPTED, {"curve_secret_key": CLIENT[1], "curve_server_key": FOREIGN[0]}),
    ("encryption", ENCRYPTED, {}),
    ("encryption", None, RIGHT),
]


@asynccontextmanager
async def consuming(setup: Setup) -> AsyncIterator[None]:
    """A consumer in this process, whether or not a bridge is heard."""
    stopped = asyncio.Event()
    task = asyncio.create_task(App(setup.config, ("consumer",)).run(stopped))
    try:
        yield
    finally:
        stopped.set()
        await task


def refusals(setup: Setup) -> dict[str, str]:
    return {
        endpoint: why for report in load_consumers(setup.store).values() for endpoint, why in report.refused.items()
    }


def make_publisher(setup: Setup, curve: Curve | None) -> Publisher:
    return Publisher(setup.config.bridge.publish, "opensips", high_water_mark=1000, curve=curve)


@pytest.mark.parametrize(("why", "curve", "keys"), CASES, ids=[f"{why}-{n}" for n, (why, *_) in enumerate(CASES)])
async def test_refused(
    make_setup: MakeSetup, monkeypatch: pytest.MonkeyPatch, why: Why, curve: Curve | None, keys: dict[str, str]
) -> None:
    """A consumer with wrong keys says so everywhere, and not that no bridge was heard; the doctor says the same."""
    monkeypatch.setattr("companion.consumer.consumer.REPORT_SECONDS", 0.1)
    if why == "server_key":  # a vague failure: the doctor waits for a better word, which never comes
        monkeypatch.setattr("companion.doctor.gather.PLAIN_FAILURES", 3)
    setup = make_setup(consumer=keys, api={"dashboard": False})
    endpoint, (problem, remedy) = setup.config.bridge.publish, EXPLANATIONS[why]
    failures = metrics.total(metrics.HANDSHAKES_FAILED, side="consumer", why=why)
    publisher = make_publisher(setup, curve)
    try:
        with capture_logs() as logs:
            async with consuming(setup):
                await eventually(lambda: refusals(setup) == {endpoint: problem})
                with client(setup) as api:
                    answer = await asyncio.to_thread(lambda: api.get("/readyz").json())
        bus = await asyncio.to_thread(_hear, endpoint, setup.config.consumer)
        reasons_here = {handshake.why for handshake in publisher.read_handshakes()}
    finally:
        publisher.close()
    assert [line["remedy"] for line in logs if line["event"] == f"no events from {endpoint}: {problem}"] == [remedy]
    assert metrics.total(metrics.HANDSHAKES_FAILED, side="consumer", why=why) > failures
    assert f"no events from {endpoint}: {problem}" in answer["reasons"]
    assert "bus-refused" in answer["names"]
    assert "no-bridge" not in answer["names"]
    assert (bus.problem, bus.remedy) == (problem, remedy)
    if curve:
        assert why in reasons_here


async def test_what_listens_there_is_no_bridge(make_setup: MakeSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    """A port of another program, one that nobody listens at, and a bus without a bridge are told apart."""
    monkeypatch.setattr("companion.doctor.gather.HEAR_SECONDS", 1.0)
    setup = make_setup()
    redis_port = setup.config.redis.url.rpartition(":")[2].partition("/")[0]
    other, nobody = f"tcp://127.0.0.1:{redis_port}", f"tcp://127.0.0.1:{find_free_port()}"
    with zmq.Context() as context, context.socket(zmq.PUB) as bus:
        port = bus.bind_to_random_port("tcp://127.0.0.1")
        hearing = (
            asyncio.to_thread(_hear, at, setup.config.consumer) for at in (other, nobody, f"tcp://127.0.0.1:{port}")
        )
        problems = [facts.problem for facts in await asyncio.gather(*hearing)]
    assert "nothing listens there" in problems[1]
    assert "no heartbeat" in problems[2]
    assert len(set(problems)) == 3


async def test_a_key_that_is_added_later(make_setup: MakeSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the bridge accepts its key, a consumer that was refused connects by itself."""
    monkeypatch.setattr("companion.consumer.consumer.REPORT_SECONDS", 0.1)
    setup = make_setup(consumer=RIGHT)
    publisher = make_publisher(setup, Curve(SERVER[1], (FOREIGN[0],)))
    try:
        async with consuming(setup):
            await eventually(lambda: refusals(setup))
            publisher.close()
            publisher = make_publisher(setup, ENCRYPTED)
            while not setup.feed().heartbeat_at:
                publisher.heartbeat(1)
                await asyncio.sleep(0.05)
            await eventually(lambda: not refusals(setup))
    finally:
        publisher.close()


async def test_a_bridge_names_the_subscribers_that_it_refuses(
    make_setup: MakeSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bridge's log says why, what to do and its public key, once an episode; a port scanner is only counted."""
    monkeypatch.setattr("companion.bridge.bridge.HEARTBEAT_SECONDS", 0.2)
    bridge_keys = {"curve_secret_key": SERVER[1], "curve_clients": [CLIENT[0]]}
    wrong = make_setup(bridge=bridge_keys, consumer={"curve_secret_key": CLIENT[1], "curve_server_key": FOREIGN[0]})
    scanned = metrics.total(metrics.HANDSHAKES_FAILED, side="bridge", why="broken")
    with capture_logs() as logs:
        bridge = Bridge(wrong.config.bridge)
        running = asyncio.create_task(bridge.run())
        _, writer = await asyncio.open_connection("127.0.0.1", wrong.publish)
        writer.close()
        async with consuming(wrong):
            await eventually(lambda: [line for line in logs if line.get("our_public_key") == SERVER[0]])
        bridge.stop()
        await running
    lines = [line for line in logs if "our_public_key" in line]
    assert [line["event"] for line in lines] == ["a subscriber was refused: it expects another CURVE key of ours"]
    assert metrics.total(metrics.HANDSHAKES_FAILED, side="bridge", why="broken") > scanned
