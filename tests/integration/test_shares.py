"""Several consumers share the clusters: each records some, and nothing is lost when one comes or goes."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

import msgspec
import pytest

from companion.bus.envelope import Message, PackedMessage
from companion.config import Config
from companion.consumer.recorder import Recorder
from companion.opensips.events import DELETE, INSERT, LATENCY
from companion.query.devices import iterate_devices
from companion.store.leases import load_cluster_holders, load_holders
from companion.store.nodes import load_nodes
from tests.integration.conftest import (
    Feeder,
    MakeSetup,
    Process,
    Setup,
    eventually,
    message,
    phone_event,
    record_batch,
)

CLUSTERS = {"a-1": "a", "a-2": "a", "b-1": "b", "b-2": "b", "c": "c", "d": "d"}
"""The cluster of each node."""


class NodeFeeder(Feeder):
    """A bridge's side of the bus whose phones are those of its node alone."""

    def ping(self) -> None:
        phone = f"{self.publisher.node}-phone{self.published % self._phones}"
        self.say(LATENCY, phone_event(phone, latency=30_000))


def make_shared(make_setup: MakeSetup, **sections: object) -> tuple[Setup, dict[str, Setup]]:
    """Make a configuration that names the buses of all nodes, and the buses."""
    buses = {node: make_setup() for node in CLUSTERS}
    setup = make_setup(consumer={"batch_ms": 50}, **sections)
    setup.tables["consumer"]["subscribe"] = [f"tcp://127.0.0.1:{bus.publish}" for bus in buses.values()]
    return setup, buses


def start(setup: Setup) -> Process:
    """Start a consumer of all nodes."""
    file = setup.file()
    tables = [f'[[opensips]]\nnode = "{node}"\ncluster = "{cluster}"\n' for node, cluster in CLUSTERS.items()]
    file.write_text(file.read_text() + "".join(tables))
    return Process(file, ("consumer",))


@asynccontextmanager
async def running_feeders(buses: Mapping[str, Setup]) -> AsyncIterator[list[Feeder]]:
    """Publish events of all nodes; each has its own phones."""
    async with AsyncExitStack() as stack:
        feeders = [NodeFeeder(bus, node, phones=5, per_second=60) for node, bus in buses.items()]
        yield await asyncio.gather(*map(stack.enter_async_context, feeders))


class Holders:
    """Who holds the nodes: never two consumers the nodes of one cluster."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup

    def load(self) -> dict[str, str]:
        holders = load_holders(self._setup.store, CLUSTERS)
        for cluster in set(CLUSTERS.values()):
            assert len({holders[node] for node in holders if CLUSTERS[node] == cluster}) <= 1, holders
        return holders

    def shares(self) -> Counter[str]:
        """Return how many clusters each process holds, by its id; none while one is free."""
        holders = self.load()
        if len(holders) < len(CLUSTERS):
            return Counter()
        return Counter({CLUSTERS[node]: holder.rpartition("/")[2] for node, holder in holders.items()}.values())

    def are_with(self, *processes: Process) -> bool:
        """Return whether these processes hold all clusters, in even shares."""
        shares = self.shares()
        return shares.keys() == {str(one.popen.pid) for one in processes} and (
            max(shares.values()) - min(shares.values()) <= 1
        )


def stored(setup: Setup) -> list[tuple[str, int]]:
    """Every answered ping that is stored, as (device, time)."""
    connection, keys, read = setup.store.connection, setup.store.keys, setup.store.series.read
    devices = [device.id for device in iterate_devices(setup.store)]
    return [(device, ts) for device in devices for ts, _ in read(connection, keys.latency(device), 0, 1 << 52)]


async def test_consumers_come_and_go(make_setup: MakeSetup) -> None:
    """Consumers that come get their shares. What one held that stops or is killed is soon with the others.

    No event is lost and none stored twice, and the nodes of a cluster are never with two of them.
    """
    setup, buses = make_shared(make_setup)
    holders = Holders(setup)
    consumers = [start(setup)]
    try:
        async with running_feeders(buses) as feeders:
            await eventually(lambda: holders.are_with(consumers[0]))
            consumers += [start(setup), start(setup)]
            await eventually(lambda: holders.are_with(*consumers))
            assert consumers[1].terminate() == 0
            await eventually(lambda: len(holders.load()) == len(CLUSTERS))
            consumers[2].kill()
            await eventually(lambda: holders.are_with(consumers[0]), 20)  # ten, and as much for a busy machine
            await asyncio.gather(*(feeder.pause() for feeder in feeders))
            published = {feeder.publisher.node: feeder.published for feeder in feeders}
            await eventually(lambda: {node: setup.events_done(node) for node in CLUSTERS} == published)
    finally:
        for consumer in consumers:
            consumer.end()
    pings = stored(setup)
    assert len(set(pings)) == len(pings) == sum(published.values())
    assert sum(setup.feed(node).missed for node in CLUSTERS) == 0
    lines = [line["event"] for line in consumers[0].log()]
    assert lines.count("handing over to another consumer") == 1
    assert [line for line in consumers[0].log() if line["level"] != "info"] == []


# In one process, to the message


def story(node: str, first: int, count: int, name: str = LATENCY) -> list[Message]:
    """Some events of a node, numbered as its bridge does."""
    ts = int(time.time() * 1000) - 60_000
    return [
        message(name, phone_event(f"phone-of-{node}", latency=20_000), ts + seq, seq, node)
        for seq in range(first, first + count)
    ]


def make_recorder(setup: Setup) -> Recorder:
    config = Config.model_validate(
        {**setup.tables, "opensips": [{"node": node, "cluster": cluster} for node, cluster in CLUSTERS.items()]}
    )
    return Recorder(config, setup.store)


async def test_handing_over(make_setup: MakeSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a consumer took of a cluster is stored before it releases it, and the other one goes on from there."""
    setup = make_setup()
    first, second = make_recorder(setup), make_recorder(setup)
    nodes = ["a-1", "a-2", "c"]
    before = [one for node in nodes for one in story(node, 0, 3)]
    await record_batch(first, before)
    await second.take(before)
    monkeypatch.setattr(first.tenure._shares, "surplus", lambda: {"a"})
    await first.take(more := [one for node in nodes for one in story(node, 3, 3)])
    await second.take(more)
    await first.write()
    await first.take(late := [one for node in nodes for one in story(node, 6, 3)])
    await second.take(late)
    assert {node: setup.events_done(node) for node in nodes} == {"a-1": 6, "a-2": 6, "c": 6}
    first.tenure.leases.shares_of_others = {"a"}
    await first.write()
    assert list(load_holders(setup.store, nodes)) == ["c"]
    second.tenure.leases._refused_at.clear()
    second.tenure.leases._waiting_since.clear()
    await record_batch(second, [])
    await record_batch(first, [one for node in nodes for one in story(node, 9, 1)])
    await record_batch(second, [one for node in nodes for one in story(node, 9, 1)])

    assert load_cluster_holders(setup.store, ["a", "c"]) == {
        "a": second.tenure.leases.owner,
        "c": first.tenure.leases.owner,
    }
    assert {node: setup.events_done(node) for node in nodes} == dict.fromkeys(nodes, 10)
    assert sum(setup.feed(node).missed for node in nodes) == 0
    assert len(set(stored(setup))) == 30


async def test_handing_over_what_is_not_heard(make_setup: MakeSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster whose bridge is out of reach is handed over also when nothing of it is in memory any more."""
    setup = make_setup()
    recorder = make_recorder(setup)
    await record_batch(recorder, [*story("c", 0, 1), *story("d", 0, 1)])
    recorder._forget_all()
    monkeypatch.setattr(recorder.tenure._shares, "surplus", lambda: {"c"})
    for seq in (1, 2):
        await record_batch(recorder, story("d", seq, 1))
    assert list(load_holders(setup.store, ["c", "d"])) == ["d"]


async def test_a_cluster_that_comes_back(make_setup: MakeSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    """A consumer that gets a cluster back knows what the other one stored of it meanwhile."""
    setup = make_setup()
    first, second = make_recorder(setup), make_recorder(setup)
    await record_batch(first, [*story("c", 0, 1, INSERT), *story("d", 0, 1, INSERT)])
    with monkeypatch.context() as patch:
        patch.setattr(first.tenure._shares, "surplus", lambda: {"c"})
        await record_batch(first, [])
        await record_batch(first, [])
    await record_batch(second, story("c", 0, 1, DELETE))
    await second.tenure.close()
    first.tenure.leases._refused_at.clear()
    await record_batch(first, story("d", 0, 1))
    await record_batch(first, story("c", 0, 1))  # a ping from before its end changes nothing
    assert setup.page("phone-of-c")["status"] == "offline"


async def test_a_phone_in_two_clusters(make_setup: MakeSetup) -> None:
    """A device that registers at two clusters keeps the contacts of both, whoever records them."""
    setup = make_setup()
    recorders = {"c": make_recorder(setup), "d": make_recorder(setup)}
    ts = int(time.time() * 1000) - 60_000
    for seq in range(3):
        for node, recorder in recorders.items():
            uri = f"sip:{node}{seq}@192.0.2.1:5060"
            params = phone_event("ann", uri=uri, attr="<urn:uuid:c386bbc4-0b7e-4d8f-8c6a-000000000001>")
            await record_batch(recorder, [message(INSERT, params, ts + seq, seq, node)])
    contacts = setup.page("ann")["contacts"]
    assert sorted((one["cluster"], one["uri"][4:6]) for one in contacts) == [
        (node, f"{node}{seq}") for node in recorders for seq in range(3)
    ]


def test_what_others_record_stays_packed(make_setup: MakeSetup) -> None:
    """A message of a node that another consumer records is kept as it came, and decoded when it becomes ours."""
    setup = make_setup()
    first, second = make_recorder(setup), make_recorder(setup)
    asyncio.run(record_batch(first, story("c", 0, 1)))
    asyncio.run(record_batch(second, story("c", 0, 1)))
    assert set(second.others) == {"c"}
    asyncio.run(first.tenure.close())
    second.tenure.leases._refused_at.clear()
    second.tenure.leases._waiting_since.clear()
    params = phone_event("phone-of-c", latency=30_000)
    envelope = {"v": 1, "node": "c", "run": 1, "seq": 1, "ts": int(time.time() * 1000), "params": params}
    packed = [PackedMessage("c", LATENCY.encode(), body) for body in (msgspec.msgpack.encode(envelope), b"noise")]
    asyncio.run(record_batch(second, packed))
    assert setup.events_done("c") == 2
    assert load_nodes(setup.store) == {"c"}
