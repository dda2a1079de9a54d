"""A Redis Cluster: the same answers as from one server, and nothing is lost when a master dies or a slot moves."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from companion.bus.envelope import Message
from companion.config import RedisSection
from companion.consumer.recorder import Recorder
from companion.errors import ShardingError
from companion.store.connection import Unreachable
from companion.store.redis_errors import RedisError
from companion.store.server import read_state
from companion.store.shards import CLUSTER
from companion.store.slots import slot_of
from companion.store.store import open_store
from companion.store.sweeps import load_off_at, switch_off
from companion.times import now_ms
from tests.integration.conftest import (
    Feeder,
    MakeSetup,
    Setup,
    eventually,
    message,
    phone_event,
    record_batch,
    record_events,
)
from tests.integration.redis_cluster import RedisCluster, redis_cluster
from tests.integration.test_redis_rights import documented_rights

SECONDS = 60.0
PER_SECOND = 1000
LATENCY = "E_UL_LATENCY_UPDATE"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RedisCluster]:
    """Three masters, each with a replica."""
    with redis_cluster(tmp_path / "cluster") as cluster:
        yield cluster


def events_done(setup: Setup) -> int:
    try:
        return setup.events_done()
    except (RedisError, *Unreachable):
        return 0


async def store_under_load(setup: Setup, trouble: Callable[[], None], after: Callable[[], bool]) -> int:
    """Publish pings while there is trouble and until it is over; return how many are not stored."""
    with setup.process("consumer"):
        async with Feeder(setup, per_second=PER_SECOND, phones=300) as feeder:
            await eventually(lambda: events_done(setup) > PER_SECOND, SECONDS)
            await asyncio.to_thread(trouble)
            begun_at = feeder.published
            await eventually(after, SECONDS)
            await eventually(lambda: events_done(setup) > begun_at + PER_SECOND, SECONDS)
            await feeder.pause()
            await eventually(lambda: events_done(setup) == feeder.published, SECONDS)
            return feeder.published - setup.samples()


@pytest.mark.parametrize("cut_off_seconds", [0.0, 2.0])
async def test_a_master_is_killed(make_setup: MakeSetup, cluster: RedisCluster, cut_off_seconds: float) -> None:
    """Its replica takes over, and all events are stored, also those that the replica lacked."""
    setup = make_setup(server=cluster, consumer={"batch_ms": 50})
    number = 0 if cluster.owner(slot_of(setup.store.keys.node("opensips"))) is not cluster.masters[0] else 1

    def kill() -> None:
        if cut_off_seconds:
            cluster.cut_off(number)
            asyncio.run(asyncio.sleep(cut_off_seconds))  # what is written meanwhile dies with the master
        cluster.masters[number].kill()

    assert await store_under_load(setup, kill, cluster.replicas[number].is_master) == 0
    assert setup.feed().missed == 0
    assert setup.feed().lost_at or not cut_off_seconds


async def test_a_master_hangs(make_setup: MakeSetup, cluster: RedisCluster) -> None:
    """A master wakes up after its replica took over, and stores samples until it learns of that: they are not lost."""
    setup = make_setup(server=cluster)
    own = cluster.owner(slot_of(setup.store.keys.node("opensips")))
    hung = next(at for at, master in enumerate(cluster.masters) if master is not own)
    recorder, base = Recorder(setup.config, setup.store), now_ms() - 100_000
    await record_batch(recorder, pings(base, range(1000)))
    with cluster.masters[hung].hanging():
        await recorder.take(pings(base, range(1000, 11_000)))  # far more than a server reads at once
        writing = asyncio.create_task(recorder.write())
        await eventually(cluster.replicas[hung].is_master, SECONDS)
    await writing
    await record_batch(recorder, pings(base, range(11_000, 12_000)))
    await recorder.tenure.close()
    assert not cluster.masters[hung].is_master()
    assert setup.samples() == 12_000


def pings(base: int, numbers: range) -> list[Message]:
    """Return answered pings of 1,000 phones, each at a millisecond of its own."""
    events = [phone_event(f"phone{number % 1000}", latency=20_000) for number in numbers]
    return [message(LATENCY, event, base + number, number) for event, number in zip(events, numbers, strict=True)]


async def test_a_slot_moves(make_setup: MakeSetup, cluster: RedisCluster) -> None:
    """A slot with a sixty-fourth of all devices moves to another master under load."""
    setup = make_setup(server=cluster, consumer={"batch_ms": 50})
    slot = slot_of(setup.store.keys.devices(7))
    source = cluster.owner(slot)
    target = next(server for server in cluster.masters if server is not source)
    assert await store_under_load(setup, lambda: cluster.move_slot(slot, target), lambda: True) == 0
    assert cluster.owner(slot) is target


def test_shards(cluster: RedisCluster) -> None:
    """The data is in 64 shards by default. Another number is refused once one is stored."""
    store = open_store(RedisSection(url=cluster.url))
    assert store.keys.shards == CLUSTER
    store.connection.call("SET", store.keys.shard_count(), 32)
    store.close()
    again = open_store(RedisSection(url=cluster.url))
    assert again.keys.shards == 32
    again.close()
    with pytest.raises(ShardingError, match="shards = 8, but the data in Redis is divided into 32"):
        open_store(RedisSection(url=cluster.url, shards=8))


def test_all_masters_are_asked(make_setup: MakeSetup, cluster: RedisCluster) -> None:
    """What Redis says of itself is of all masters, and a replica of the right one confirms a decision."""
    setup = make_setup(server=cluster)
    state = read_state(setup.store)
    assert state
    assert len(state.run_id.split()) == len(cluster.masters)
    switch_off(setup.store)
    owner = cluster.owner(slot_of(setup.store.keys.off()))
    replica = cluster.replicas[cluster.masters.index(owner)]
    replica.call("READONLY")
    assert int(replica.call("GET", setup.store.keys.off())) == load_off_at(setup.store) > 0


def test_a_user_with_few_rights(make_setup: MakeSetup, cluster: RedisCluster) -> None:
    """The rights in docs/redis.md are enough on each server, to write events and to read them."""
    for server in cluster.all():
        server.call("ACL", "SETUSER", "companion", "on", ">secret", *documented_rights(has_timeseries=True))
    cluster.login = "companion:secret@"
    setup = make_setup(server=cluster, redis={"prefix": "companion:"})
    now = now_ms()
    record_events(setup, [message(LATENCY, phone_event(f"phone{n}", latency=20_000), now + n, n) for n in range(50)])
    assert len(setup.pages()) == setup.samples() == 50
    assert [denial for server in cluster.all() for denial in server.call("ACL", "LOG")] == []
