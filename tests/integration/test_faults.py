"""What happens when a part dies, goes away or comes back: nothing is lost that need not be, the rest is counted."""

import asyncio
import os
import signal
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest

from companion import metrics
from companion.bus import publisher
from companion.bus.envelope import Message
from companion.consumer.recorder import Recorder
from companion.opensips.events import DELETE, LATENCY
from companion.query.devices import iterate_devices
from companion.simulator.redis import EmbeddedRedis, find_free_port
from tests.integration.conftest import Feeder, MakeSetup, Setup, eventually, message, phone_event, record_batch

OUTAGE_SECONDS = float(os.environ.get("OUTAGE_SECONDS", "8"))
LEASE_SECONDS = 10
FLOOD = 60_000
"""More pings, a message each, than all queues between a bridge and a stopped consumer hold."""
BATCH = {"consumer": {"batch_ms": 50}}


def stored(setup: Setup) -> list[tuple[str, int]]:
    """Every answered ping that is stored, as (device, time)."""
    connection, keys, read = setup.store.connection, setup.store.keys, setup.store.series.read
    devices = [device.id for device in iterate_devices(setup.store)]
    return [(device, ts) for device in devices for ts, _ in read(connection, keys.latency(device), 0, 1 << 52)]


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def all_done(setup: Setup, feeder: Feeder, seconds: float = 30) -> None:
    """Wait until all that was published is stored or counted as missing."""
    await eventually(lambda: setup.events_done() == feeder.published, seconds)


@pytest.mark.parametrize("standby", [False, True])
async def test_redis_away(make_setup: MakeSetup, own_redis: EmbeddedRedis, standby: bool) -> None:  # noqa: FBT001
    """With Redis stopped for seconds under 1,000 events a second no event is lost, and the consumer waits at rest.

    Nor with two of them, whichever is first to get the lease afterwards.
    """
    setup = make_setup(server=own_redis, **BATCH)
    with setup.process("consumer") as consumer, ExitStack() as others:
        async with Feeder(setup) as feeder:
            await eventually(lambda: setup.events_done() > 0)
            if standby:
                others.enter_context(setup.process("consumer"))
                await eventually(lambda: feeder.consumers() == 2)
                connected_at = feeder.published
                await eventually(lambda: feeder.published > connected_at + 500)
            await asyncio.to_thread(own_redis.stop)
            stopped_at, cpu = time.monotonic(), cpu_seconds(consumer.popen.pid)
            await eventually(lambda: time.monotonic() - stopped_at > OUTAGE_SECONDS, OUTAGE_SECONDS + 5)
            cpu = cpu_seconds(consumer.popen.pid) - cpu
            await asyncio.to_thread(own_redis.start)
            await feeder.pause()
            await all_done(setup, feeder)
        pings, feed = stored(setup), setup.feed()
        lines = Counter(line["event"] for line in consumer.log() if line["level"] != "info")

    assert feeder.published > 1000 * OUTAGE_SECONDS
    assert len(set(pings)) == len(pings) == feeder.published
    assert (feed.missed, feed.gaps, feed.silences) == (0, 0, 0)
    assert lines - Counter(["another consumer took over"]) == {
        "Redis does not accept writes; events wait until it does": 1
    }
    assert cpu < OUTAGE_SECONDS / 4


async def test_redis_takes_no_writes(make_setup: MakeSetup, own_redis: EmbeddedRedis) -> None:
    """While Redis is a replica, as in the midst of a failover, the consumer waits too, and no event is lost."""
    setup = make_setup(server=own_redis, **BATCH)
    with setup.process("consumer") as consumer:
        async with Feeder(setup) as feeder:
            await eventually(lambda: setup.events_done() > 0)
            setup.store.connection.call("REPLICAOF", "127.0.0.1", find_free_port())
            demoted_at = feeder.published
            await eventually(lambda: feeder.published > demoted_at + 5000)
            setup.store.connection.call("REPLICAOF", "NO", "ONE")
            await feeder.pause()
            await all_done(setup, feeder)
        feed = setup.feed()
        lines = [line["event"] for line in consumer.log() if line["level"] != "info"]

    assert len(stored(setup)) == feeder.published
    assert (feed.missed, feed.gaps) == (0, 0)
    assert lines == ["Redis does not accept writes; events wait until it does"]


async def test_a_killed_consumer(make_setup: MakeSetup) -> None:
    """After kill -9 under load the next consumer says how much was missed: never too little, at most a batch too much.

    Exact is the count of what was published while nobody was there. Of the batch in hand at the kill, samples may be
    stored whose progress was not: they are counted as missed although they are there.
    """
    setup = make_setup(**BATCH)
    with setup.process("consumer") as first:
        async with Feeder(setup, phones=40) as feeder:
            await eventually(lambda: setup.events_done() > 500)
            first.kill()
            killed_at = feeder.published
            await eventually(lambda: feeder.published > killed_at + 1000)
            with setup.process("consumer"):
                await eventually(lambda: setup.feed().missed, LEASE_SECONDS + 10)
                await feeder.pause()
                await all_done(setup, feeder)
                pings, feed, pages = stored(setup), setup.feed(), setup.pages()

    unstored = feeder.published - len(pings)
    assert len(set(pings)) == len(pings)
    assert 1000 <= unstored <= feed.missed <= unstored + 200
    assert (feed.gaps, feed.silences) == (1, 0)
    assert {page["status"] for page in pages.values()} == {"online"}
    assert {page["last_latency_ms"] for page in pages.values()} == {30}
    assert len(pages) == 40


async def test_contacts_after_a_gap(make_setup: MakeSetup) -> None:
    """What changed while no consumer was there is right again with each contact's next event."""
    setup = make_setup()
    async with Feeder.silent(setup) as feeder:
        with setup.process("consumer") as first:
            assert await feeder.publisher.subscribed(15)
            for aor in ("stays", "moves", "comes back"):
                feeder.say("E_UL_CONTACT_INSERT", phone_event(aor))
            feeder.say("E_UL_LATENCY_UPDATE", phone_event("comes back", latency=1_800_000_000))
            feeder.beat()
            await eventually(lambda: setup.events_done() == 4)
            assert setup.page("comes back")["status"] == "losing"
            assert first.terminate() == 0
        moved = phone_event("moves", received="sip:198.51.100.7:40000;transport=ws", callid="new", cseq=7)
        feeder.say("E_UL_CONTACT_UPDATE", moved)
        feeder.say("E_UL_LATENCY_UPDATE", phone_event("comes back", latency=1_800_000_000))
        with setup.process("consumer") as second:
            await eventually(lambda: feeder.beat() or any(line["event"] == "recording" for line in second.log()))
            for params in (phone_event("stays"), moved, phone_event("comes back")):
                feeder.say("E_UL_LATENCY_UPDATE", params | {"latency": 25_000})
            feeder.beat()
            await eventually(lambda: setup.events_done() == 9)
            pages, feed = {page["aor"]: page for page in setup.pages().values()}, setup.feed()

    assert {page["status"] for page in pages.values()} == {"online"}
    assert pages["moves"]["registration"]["received"] == "sip:198.51.100.7:40000;transport=ws"
    assert pages["comes back"]["consecutive_lost"] == 0
    assert (feed.missed, feed.gaps) == (2, 2)


async def test_a_publisher_that_ends_before_its_consumer_is_done(
    make_setup: MakeSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a bridge published before its end is stored or counted as missed, however far behind the consumer is."""
    monkeypatch.setattr(publisher, "LINGER_SECONDS", 0.2)
    setup = make_setup(**BATCH)
    with setup.process("consumer") as consumer:
        async with Feeder.silent(setup) as feeder:
            assert await feeder.publisher.subscribed(60)
            feeder.ping()
            await eventually(lambda: feeder.beat() or setup.samples() == 1)
            consumer.popen.send_signal(signal.SIGSTOP)
            for _ in range(FLOOD):
                feeder.ping()
            assert not feeder.publisher.close()
        consumer.popen.send_signal(signal.SIGCONT)
        async with Feeder.silent(setup) as after:
            assert await after.publisher.subscribed(60)
            after.ping()
            await eventually(lambda: after.beat() or setup.feed().run == after.publisher.run)
            await eventually(lambda: setup.events_done() == 1)
            feed, pings = setup.feed(), stored(setup)
        lines = [line["event"] for line in consumer.log() if line["level"] != "info"]

    assert len(pings) + feed.missed == feeder.published + 1
    assert 0 < feed.missed < FLOOD
    assert lines == ["events are missing on the bus"]


async def test_sigterm(make_setup: MakeSetup) -> None:
    """SIGTERM under load stores all that was published before it, ends within seconds, and what follows is counted."""
    setup = make_setup(**BATCH)
    with setup.process("consumer") as first:
        async with Feeder(setup) as feeder:
            await eventually(lambda: setup.events_done() > 500)
            before, asked_at = feeder.published, time.monotonic()
            assert await asyncio.to_thread(first.terminate) == 0
            took = time.monotonic() - asked_at
            done, pings = setup.events_done(), stored(setup)
            assert len(set(pings)) == len(pings) == done >= before
            with setup.process("consumer"):
                await eventually(lambda: setup.feed().missed)
                await feeder.pause()
                await all_done(setup, feeder)
                feed = setup.feed()
    assert took < 4
    assert feed.missed == feeder.published - len(stored(setup))
    assert not [line for line in first.log() if line["level"] != "info"]


async def test_a_standby_takes_over(make_setup: MakeSetup) -> None:
    """When the consumer that writes is killed, the one that stood by writes on: no event is lost and none doubled.

    It warns of nothing: that the bus still has events which the other stored is no fault.
    """
    setup = make_setup(**BATCH)
    with setup.process("consumer") as holder:
        async with Feeder(setup) as feeder:
            await eventually(lambda: setup.events_done() > 0)
            with setup.process("consumer") as standby:
                await eventually(lambda: feeder.consumers() == 2)
                connected_at = feeder.published
                await eventually(lambda: feeder.published > connected_at + 500)
                holder.kill()
                killed_at = feeder.published
                await eventually(lambda: setup.events_done() > killed_at, LEASE_SECONDS + 10)
                await feeder.pause()
                await all_done(setup, feeder)
                pings, feed = stored(setup), setup.feed()

    assert len(set(pings)) == len(pings) == feeder.published
    assert (feed.missed, feed.gaps, feed.silences) == (0, 0, 0)
    assert [line["event"] for line in standby.log() if line["level"] != "info"] == []


# Leases of two nodes, of which one goes to another consumer


def latency_message(node: str, seq: int) -> Message:
    params = phone_event(f"phone-of-{node}", latency=20_000)
    return message(LATENCY, params, int(time.time() * 1000) - 10_000 + seq, seq, node)


def steal(setup: Setup, recorder: Recorder, node: str) -> None:
    """Another consumer gets the lease of a node, and ours is to be renewed."""
    setup.store.connection.call("SET", setup.store.keys.lease(node), "another", "PX", 60_000)
    recorder.tenure.leases._renewed_at.clear()


@pytest.mark.parametrize("when", ["before the batch", "before the write"])
def test_one_lease_of_two_is_lost(make_setup: MakeSetup, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    """A consumer that loses one node to another goes on with the rest, and keeps the lost one's events in case."""
    setup = make_setup()
    nodes = ["a", "b", "c", "d"]
    recorder = Recorder(setup.config, setup.store)
    asyncio.run(record_batch(recorder, [latency_message(node, 0) for node in nodes]))
    if when == "before the batch":
        steal(setup, recorder, "b")
    else:
        monkeypatch.setattr(recorder, "tick", lambda _: asyncio.to_thread(steal, setup, recorder, "b"))
    asyncio.run(record_batch(recorder, [latency_message(node, 1) for node in nodes]))
    monkeypatch.undo()

    assert {node: setup.events_done(node) for node in nodes} == {"a": 2, "b": 1, "c": 2, "d": 2}
    setup.store.connection.call("DEL", setup.store.keys.lease("b"))
    recorder.tenure.leases._refused_at.clear()
    asyncio.run(record_batch(recorder, [latency_message(node, 2) for node in nodes]))
    assert {node: setup.events_done(node) for node in nodes} == dict.fromkeys(nodes, 3)
    assert len(stored(setup)) == 12
    assert sum(setup.feed(node).missed for node in nodes) == 0


def test_what_is_ignored_is_counted(make_setup: MakeSetup) -> None:
    """A ping that comes late, behind its contact's end, changes nothing and is counted."""
    setup = make_setup()
    recorder = Recorder(setup.config, setup.store)
    now, params = int(time.time() * 1000), phone_event("late", latency=20_000)
    before = metrics.total(metrics.IGNORED, why="after_end")
    order = [(LATENCY, 0), (DELETE, 0), (LATENCY, 1)]
    batch = [message(event, params, now + number, seq) for number, (event, seq) in enumerate(order)]
    asyncio.run(record_batch(recorder, batch))
    assert metrics.total(metrics.IGNORED, why="after_end") == before + 1
    assert len(stored(setup)) == 1
