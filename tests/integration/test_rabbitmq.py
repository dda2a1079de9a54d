"""The bus over RabbitMQ: what is published is stored once, whoever is away or dies in between."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator, MutableMapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aio_pika
import pytest
from structlog.testing import capture_logs

from companion import metrics
from companion.bridge.bridge import Bridge
from companion.bus import rabbitmq_queue
from companion.bus.envelope import decode
from companion.bus.rabbitmq_publisher import RabbitPublisher
from companion.bus.rabbitmq_subscriber import RabbitSubscriber
from companion.config import Config
from companion.doctor.gather import gather
from companion.opensips.events import LATENCY
from companion.query.devices import iterate_devices
from companion.simulator.redis import find_free_port
from companion.store.leases import load_holders
from companion.store.nodes import load_feed
from tests.integration.certificates import Certificates
from tests.integration.conftest import MakeSetup, Process, Setup, eventually, notification, phone_event
from tests.integration.rabbitmq_process import PASSWORD, RabbitServer, find_rabbitmq

pytestmark = [
    pytest.mark.skipif(find_rabbitmq() is None, reason="rabbitmq-server is missing"),
    pytest.mark.timeout(300),  # RabbitMQ starts in ten seconds, and on a busy machine in a hundred
]

NODES = ("one", "two", "three", "four")
TABLES = [{"node": node, "cluster": "all"} for node in NODES]
TLS_FAILS = "the TLS connection with RabbitMQ fails"


@pytest.fixture(scope="session")
def rabbit_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitServer]:
    with RabbitServer(tmp_path_factory.mktemp("rabbitmq")) as server:
        yield server


@pytest.fixture
def rabbit(rabbit_server: RabbitServer) -> RabbitServer:
    """A RabbitMQ without the queue of a test before."""
    rabbit_server.delete_queue()
    return rabbit_server


@pytest.fixture
def setup(make_setup: MakeSetup, rabbit: RabbitServer) -> Setup:
    """A companion whose bus is RabbitMQ."""
    return make_setup(bridge={"publish": rabbit.url}, consumer={"subscribe": [rabbit.url]})


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a bridge that stops not wait for a RabbitMQ that it can not use."""
    monkeypatch.setattr("companion.bus.rabbitmq_publisher.LINGER_SECONDS", 0.1)


class Phones:
    """Raise answered pings of phones at a bridge, each at a millisecond of its own, and keep when."""

    def __init__(self, bridge: Bridge, name: str = "phone", count: int = 50) -> None:
        self.pings = 0
        self.times: list[int] = []
        self.bridge = bridge
        self._name = name
        self._count = count

    def ping(self) -> None:
        phone = self.pings % self._count
        self.bridge.receive(notification(LATENCY, phone_event(f"{self._name}{phone}", latency=30_000)))
        self.times.append(self.bridge._last_event_at)
        self.pings += 1

    async def ping_for(self, seconds: float, per_second: int) -> None:
        began = time.monotonic()
        for done in range(int(seconds * per_second)):
            if done % 10 == 0:
                await asyncio.sleep(max(0, began + done / per_second - time.monotonic()))
            self.ping()


@asynccontextmanager
async def bridging(setup: Setup) -> AsyncIterator[Phones]:
    """Run a bridge in this process, and phones at it."""
    bridge = Bridge(setup.config.bridge)
    task = asyncio.create_task(bridge.run())
    try:
        yield Phones(bridge, setup.config.bridge.node)
    finally:
        bridge.stop()
        await task


def stored_times(setup: Setup) -> list[int]:
    """Return the times of all answered pings."""
    read, keys, until = setup.store.series.read, setup.store.keys, int(time.time() * 1000) + 60_000
    connection = setup.store.connection
    return sorted(
        at for device in iterate_devices(setup.store) for at, _ in read(connection, keys.latency(device.id), 0, until)
    )


async def queue_state(rabbit: RabbitServer, expected: tuple[int, int], seconds: float = 30) -> None:
    """Wait until so many messages wait in the queue, and so many consumers read it: those in line do not count."""
    deadline = time.monotonic() + seconds
    while (state := await rabbit.read_queue()) != expected:
        assert time.monotonic() < deadline, state
        await asyncio.sleep(0.1)


def is_in_line(consumer: Process) -> bool:
    return any(line["event"] == "in line for a queue of RabbitMQ" for line in consumer.log())


async def test_events_reach_the_store(setup: Setup, rabbit: RabbitServer) -> None:
    """What OpenSIPS raises is stored by way of the queue, and leaves the queue then."""
    async with bridging(setup) as phones, setup.running("consumer"):
        await phones.ping_for(1, 200)
        await eventually(lambda: setup.events_done() == 200)
        await queue_state(rabbit, (0, 1))
    assert stored_times(setup) == sorted(phones.times)
    assert {page["status"] for page in setup.pages().values()} == {"online"}


async def test_consumer_away(setup: Setup, rabbit: RabbitServer) -> None:
    """Events wait in the queue while no consumer runs, and are stored at the times when they came."""
    async with bridging(setup) as phones:
        async with setup.running("consumer"):
            await phones.ping_for(1, 200)
            await eventually(lambda: setup.events_done() == 200)
        await phones.ping_for(4, 200)
        async with setup.running("consumer"):
            await eventually(lambda: setup.events_done() == 1000)
    assert stored_times(setup) == sorted(phones.times)
    assert setup.feed().missed == 0


async def test_bridge_stops_before_a_consumer_comes(setup: Setup) -> None:
    """What a bridge published is stored also when the bridge is gone, its end of the run too."""
    async with bridging(setup) as phones:
        await phones.ping_for(1, 200)
    async with setup.running("consumer"):
        await eventually(lambda: setup.events_done() == 200)
        await eventually(lambda: setup.feed().ended_run)
    assert load_feed(setup.store, "opensips")[0].missed == 0


async def test_active_consumer_dies(setup: Setup, rabbit: RabbitServer) -> None:
    """When the active consumer is killed under load, the standby goes on within 10 s, and nothing is lost or twice."""
    async with bridging(setup) as phones:
        with setup.process("consumer") as active:
            phones.ping()
            await eventually(lambda: setup.events_done() > 0)
            with setup.process("consumer") as standby:
                await eventually(lambda: is_in_line(standby))
                pinging = asyncio.create_task(phones.ping_for(6, 2000))
                await eventually(lambda: setup.events_done() > 4000, 120)
                active.kill()
                killed_at = time.monotonic()
                stored = setup.events_done()
                await eventually(lambda: setup.events_done() > stored + 2000)
                outage = time.monotonic() - killed_at
                await pinging
                await eventually(lambda: setup.events_done() == phones.pings, 120)
                assert await rabbit.read_queue() == (0, 1)
    assert outage < 10
    assert stored_times(setup) == sorted(phones.times)
    assert setup.feed().missed == 0


async def test_a_cluster_of_several_queues(make_setup: MakeSetup, rabbit: RabbitServer) -> None:
    """One of two consumers gets the queues of all nodes of a cluster, whoever was first in line for each.

    When it is killed, the other one has them all, and nothing is lost.
    """
    bus = {"publish": rabbit.url}
    setups = [make_setup(bridge={**bus, "node": node}, consumer={"subscribe": [rabbit.url]}) for node in NODES]
    store = setups[0]
    start = partial(store.process, "consumer", COMPANION_OPENSIPS=json.dumps(TABLES))
    async with AsyncExitStack() as stack:
        phones = [await stack.enter_async_context(bridging(setups[0]))]
        with start() as first:
            await ping_and_store(store, phones)
            with start() as second:
                await eventually(lambda: is_in_line(second))
                phones += [await stack.enter_async_context(bridging(setup)) for setup in setups[1:]]
                await ping_and_store(store, phones)
                by_pid = {str(consumer.popen.pid): consumer for consumer in (first, second)}
                active = by_pid.pop(load_pids(store)["one"])
                (standby,) = by_pid.values()
                assert load_pids(store) == dict.fromkeys(NODES, str(active.popen.pid))
                active.kill()
                await ping_and_store(store, phones)
                assert load_pids(store) == dict.fromkeys(NODES, str(standby.popen.pid))
    assert stored_times(store) == sorted(ts for own in phones for ts in own.times)
    assert [store.feed(node).missed for node in NODES] == [0] * len(NODES)


async def ping_and_store(setup: Setup, phones: Sequence[Phones]) -> None:
    """Raise pings at some nodes, and wait until all are stored."""
    await asyncio.gather(*(own.ping_for(2, 100) for own in phones))
    pings = [own.pings for own in phones]
    await eventually(lambda: [setup.events_done(node) for node in NODES[: len(phones)]] == pings)


def load_pids(setup: Setup) -> dict[str, str]:
    """Return the process that records each node."""
    return {node: holder.rpartition("/")[2] for node, holder in load_holders(setup.store, NODES).items()}


async def test_a_live_holder_without_the_queue(setup: Setup) -> None:
    """A consumer to which alone the queue comes takes the lease from one that lives, and need not wait for its end."""
    setup.store.connection.call("SET", setup.store.keys.lease("opensips"), "elsewhere/1/token", "PX", 600_000)
    began = time.monotonic()
    async with bridging(setup) as phones, setup.running("consumer"):
        await phones.ping_for(1, 500)
        await eventually(lambda: setup.events_done() == 500)
        assert time.monotonic() - began < 10
    assert stored_times(setup) == sorted(phones.times)
    assert setup.feed().missed == 0


async def test_a_queue_given_back(rabbit: RabbitServer) -> None:
    """What is given back comes to the next in line, in its order, and after all others to the first one again."""
    publisher = RabbitPublisher(rabbit.url, "opensips", high_water_mark=10_000)
    publisher.start()
    readers = [RabbitSubscriber(rabbit.url, ["opensips"]) for _ in range(3)]
    await eventually(lambda: not publisher.backlog)
    for reader in readers:  # one after the other: this is their line
        await reader.receive(0.1)
        await eventually(lambda reader=reader: "opensips" in reader._queues)  # type: ignore[misc]
    for number in range(1000):
        publisher.publish("E_X", {}, number)
    stored = 0
    for reader in (*readers, readers[0]):
        seqs, acknowledged = await read_turn(reader)
        assert seqs == list(range(stored, stored + len(seqs)))
        stored += acknowledged
    await publisher.finish()
    for reader in readers:
        await reader.finish()


async def read_turn(reader: RabbitSubscriber) -> tuple[list[int], int]:
    """Read some seqs, acknowledge what came first, give the queue back, and return how many were acknowledged."""
    seqs: list[int] = []
    positions: list[int] = []
    while len(seqs) < 300:
        messages = [decode(topic, body) for topic, body in await reader.receive(30)]
        seqs += [message.seq for message in messages if message.name == "E_X"]
        reader.mark(len(seqs))
        positions.append(len(seqs))
    acknowledged = next(position for position in positions if position)
    await reader.acknowledge(acknowledged)
    reader.give_back("opensips")
    return seqs, acknowledged


async def test_doctor(setup: Setup, rabbit: RabbitServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The doctor hears the bridge, and tells whether a consumer reads its queue, and how much waits there."""
    monkeypatch.setattr(rabbitmq_queue, "HEAR_SECONDS", 2.5)
    async with bridging(setup) as phones:
        async with setup.running("consumer"):
            await phones.ping_for(1, 200)
            await eventually(lambda: setup.events_done() == 200)
            well = await gather(setup.config)
        await phones.ping_for(1, 200)
        away = await gather(setup.config)
    assert [(one.node, abs(one.ahead_ms) < 1000) for one in well.bus] == [("opensips", True)]
    assert well.queues["opensips"].is_read
    assert (away.queues["opensips"].is_read, away.queues["opensips"].messages > 10) == (False, True)
    unreachable = replace_port(setup, rabbit)
    facts = await gather(unreachable)
    assert [(one.node, one.problem) for one in facts.bus] == [("", "RabbitMQ can not be reached")]


def replace_port(setup: Setup, rabbit: RabbitServer) -> Config:
    """Return the configuration with a RabbitMQ that is not there."""
    url = rabbit.url.replace(str(rabbit.port), str(find_free_port()))
    return Config.model_validate({**setup.tables, "consumer": {"subscribe": [url]}})


async def test_queue_deleted(setup: Setup, rabbit: RabbitServer) -> None:
    """When the queue is deleted under load, the bridge makes it anew, and what was lost with it is counted."""
    async with bridging(setup) as phones, setup.running("consumer"):
        await phones.ping_for(1, 200)
        await asyncio.to_thread(rabbit.delete_queue)
        await phones.ping_for(4, 200)
        await eventually(lambda: setup.events_done() == phones.pings, 120)
    assert len(stored_times(setup)) + setup.feed().missed == phones.pings


async def test_full_backlog(make_setup: MakeSetup, rabbit: RabbitServer) -> None:
    """What does not fit into the bridge's backlog is dropped, counted there, and missing at the consumer."""
    setup = make_setup(
        bridge={"publish": f"amqp://127.0.0.1:{find_free_port()}", "high_water_mark": 20},
        consumer={"subscribe": [rabbit.url]},
    )
    dropped = metrics.total(metrics.DROPPED, queue="rabbitmq")
    async with bridging(setup) as phones:
        await phones.ping_for(1, 1000)
        publisher = phones.bridge.publisher
        assert isinstance(publisher, RabbitPublisher)
        publisher._url = rabbit.url  # as if it had come back
        async with setup.running("consumer"):
            await eventually(lambda: not publisher.backlog)
            await phones.ping_for(1, 200)
            await eventually(lambda: setup.events_done() == phones.pings, 120)
    lost = metrics.total(metrics.DROPPED, queue="rabbitmq") - dropped
    assert lost > 500
    assert (setup.feed().missed, len(stored_times(setup))) == (lost, phones.pings - lost)


async def test_tls(make_setup: MakeSetup, rabbit: RabbitServer) -> None:
    """Over `amqps` a user with the rights in docs/bus.md publishes and reads, and no log has the password."""
    url = rabbit.tls_url(rabbit.certificates.ca)
    setup = make_setup(bridge={"publish": url}, consumer={"subscribe": [url]})
    with capture_logs() as logs:
        async with bridging(setup) as phones, setup.running("consumer"):
            await phones.ping_for(1, 200)
            await eventually(lambda: setup.events_done() == 200)
    assert stored_times(setup) == sorted(phones.times)
    assert PASSWORD not in str(logs)
    assert quote(PASSWORD, safe="") not in str(logs)


@pytest.mark.usefixtures("hasty")
async def test_another_authority(make_setup: MakeSetup, rabbit: RabbitServer, tmp_path: Path) -> None:
    """A certificate that the named authority did not sign is refused, with a remedy and without the password."""
    url = rabbit.tls_url(Certificates.make(tmp_path / "other").ca)
    setup = make_setup(bridge={"publish": url}, consumer={"subscribe": [url]})
    with capture_logs() as logs:
        async with bridging(setup), setup.running("consumer"):
            await eventually(lambda: len(_lines(logs, TLS_FAILS)) == 2)
    for line in _lines(logs, TLS_FAILS):
        assert "cafile" in line["remedy"]
        assert "certificate verify failed" in line["detail"]
    assert quote(PASSWORD, safe="") not in str(logs)


def _lines(logs: Sequence[MutableMapping[str, Any]], event: str) -> list[MutableMapping[str, Any]]:
    return [line for line in logs if line["event"] == event]


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("amqp://guest:wrong@127.0.0.1:{port}/", "RabbitMQ refuses the login"),
        ("amqp://guest:guest@127.0.0.1:{port}/nowhere", "RabbitMQ does not open the virtual host for this user"),
        ("amqps://guest:guest@127.0.0.1:{port}/", "the TLS connection with RabbitMQ fails"),
        ("amqp://guest:guest@127.0.0.1:1/", "RabbitMQ can not be reached"),
    ],
)
@pytest.mark.usefixtures("hasty")
async def test_faults_are_told_once(make_setup: MakeSetup, rabbit: RabbitServer, url: str, problem: str) -> None:
    """A RabbitMQ that can not be used is told once, with a remedy and without a password, and tried again."""
    address = url.format(port=rabbit.port)
    setup = make_setup(bridge={"publish": address}, consumer={"subscribe": [address]})
    with capture_logs() as logs:
        async with bridging(setup), setup.running("consumer"):
            await asyncio.sleep(1.5)
    lines = _lines(logs, problem)
    assert len(lines) == 2  # one of the bridge, one of the consumer
    assert all(line["remedy"] for line in lines)
    assert "wrong@" not in str(logs)


@pytest.mark.usefixtures("hasty")
async def test_queue_with_other_arguments(setup: Setup, rabbit: RabbitServer) -> None:
    """A queue of the same name and another kind is told with a remedy."""
    async with await aio_pika.connect(rabbit.url) as connection:
        await (await connection.channel()).declare_queue("companion.opensips", durable=True)
    with capture_logs() as logs:
        async with bridging(setup):
            await asyncio.sleep(1)
    assert "RabbitMQ has the queue or exchange with other arguments" in [line["event"] for line in logs]


async def test_rabbitmq_killed(setup: Setup, rabbit: RabbitServer) -> None:
    """When RabbitMQ is killed under load and starts again, nothing is lost that the bridge's backlog could hold."""
    dropped = metrics.total(metrics.DROPPED, queue="rabbitmq")
    async with bridging(setup) as phones, setup.running("consumer"):
        pinging = asyncio.create_task(phones.ping_for(9, 500))
        await asyncio.sleep(3)  # RabbitMQ itself loses a queue that is so new that it is not written down yet
        await eventually(lambda: setup.events_done() > 500)
        await asyncio.to_thread(rabbit.kill)
        await asyncio.sleep(1)
        await asyncio.to_thread(rabbit.start)
        await pinging
        await eventually(lambda: setup.events_done() == phones.pings, 120)
    assert metrics.total(metrics.DROPPED, queue="rabbitmq") == dropped
    assert stored_times(setup) == sorted(phones.times)
    assert setup.feed().missed == 0
