"""The bus over real ZeroMQ sockets: who misses what is counted, and who has no key hears nothing."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgpack
import msgspec
import pytest
import zmq
from structlog.testing import capture_logs

from companion import metrics
from companion.bus.curve import Curve
from companion.bus.envelope import HEARTBEAT, Frames, Message, decode, decode_heartbeat
from companion.bus.publisher import Publisher
from companion.bus.sequences import Sequences
from companion.bus.subscriber import Subscriber
from companion.consumer import feeds, recorder
from companion.errors import UnavailableError
from companion.store import nodes
from tests.integration.conftest import Feeder, MakeSetup, Setup, Udp, cli, eventually, notification, phone_event

LATENCY, INSERT = "E_UL_LATENCY_UPDATE", "E_UL_CONTACT_INSERT"
ANYWHERE = "tcp://127.0.0.1:*"


@asynccontextmanager
async def consumed(setup: Setup) -> AsyncIterator[Feeder]:
    """A consumer in this process, and the bus it has subscribed to."""
    async with setup.running("consumer"), Feeder.silent(setup) as feeder:
        assert await feeder.publisher.subscribed(10)
        yield feeder


async def test_a_gap(make_setup: MakeSetup) -> None:
    """Messages that are missing in the middle are counted, for each event by itself, and said once."""
    setup = make_setup()
    with capture_logs() as logs:
        async with consumed(setup) as feeder:
            feeder.ping()
            feeder.publisher.last_seqs[LATENCY] += 5
            feeder.ping()
            feeder.say(INSERT, phone_event("x"))
            feeder.publisher.last_seqs[LATENCY] += 2
            feeder.ping()
            await eventually(lambda: setup.events_done() == 11)
            feed = setup.feed()
    assert (feed.missed, feed.gaps) == (7, 2)
    assert [line["event"] for line in logs if line["log_level"] == "warning"] == ["events are missing on the bus"]


async def test_a_gap_at_the_end(make_setup: MakeSetup) -> None:
    """What is missing behind the last message shows with the next heartbeat, and is counted once."""
    setup = make_setup()
    async with consumed(setup) as feeder:
        feeder.ping()
        feeder.publisher.last_seqs |= {LATENCY: 3, INSERT: 1}
        feeder.beat()
        feeder.beat()
        await eventually(lambda: setup.events_done() == 6)
        feeder.ping()
        await eventually(lambda: setup.events_done() == 7)
        feed = setup.feed()
    assert (feed.missed, feed.gaps) == (5, 2)


async def test_a_late_start(make_setup: MakeSetup) -> None:
    """Events published before anybody listened are missed; heartbeats nobody heard are no loss."""
    setup = make_setup()
    async with Feeder.silent(setup) as feeder:
        for _ in range(5):
            feeder.ping()
            feeder.beat()
        async with setup.running("consumer"):
            await eventually(lambda: feeder.beat() or setup.feed().missed)
            feeder.ping()
            await eventually(lambda: setup.events_done() == 6)
            feed = setup.feed()
    assert (feed.missed, feed.gaps) == (5, 1)


async def test_a_new_run(make_setup: MakeSetup) -> None:
    """A bridge that starts again counts from nought: nothing is missing, nothing is doubled, and it goes on."""
    setup = make_setup()
    async with setup.running("consumer"):
        async with Feeder.silent(setup) as before:
            assert await before.publisher.subscribed(10)
            for _ in range(3):
                before.ping()
            before.beat()
            await eventually(lambda: setup.events_done() == 3)
        async with Feeder.silent(setup) as after:
            assert await after.publisher.subscribed(10)
            after.ping()
            after.beat()
            await eventually(lambda: setup.feed().run == after.publisher.run)
            feed = setup.feed()
            assert (setup.events_done(), setup.samples()) == (1, 4)
    assert after.publisher.run > before.publisher.run
    assert (feed.missed, feed.gaps) == (0, 0)


async def test_a_clock_set_back(make_setup: MakeSetup) -> None:
    """When the bridge begins a new run because its clock was set back, its events are stored on."""
    setup = make_setup()
    async with consumed(setup) as feeder:
        feeder.ping()
        feeder.publisher.new_run()
        feeder._ts = feeder._ts - 3_600_000
        feeder.say(LATENCY, phone_event("another", latency=20_000))
        await eventually(lambda: setup.feed().run == feeder.publisher.run and setup.events_done() == 1)
        assert setup.samples() == 2
        assert setup.feed().missed == 0


async def test_silence(make_setup: MakeSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bridge that stops its heartbeat is silent: told and counted once each time, and its contacts are unknown."""
    monkeypatch.setattr(feeds, "DEAD_AFTER_MS", 300)
    monkeypatch.setattr(nodes, "DEAD_AFTER_MS", 300)
    monkeypatch.setattr(recorder, "EXPIRY_SECONDS", 0.1)
    setup = make_setup()
    with capture_logs() as logs:
        async with consumed(setup) as feeder:
            for times in (1, 2):
                feeder.say(LATENCY, phone_event("x", latency=20_000))
                feeder.beat()
                await eventually(lambda: "x/x" in setup.pages() and setup.page("x")["status"] == "online")
                await eventually(lambda times=times: setup.feed().silences == times)  # type: ignore[misc]
                assert setup.page("x")["status"] == "unknown"
    assert [line["event"] for line in logs if line["log_level"] == "warning"] == ["the bridge is silent"] * 2


async def test_a_slow_subscriber() -> None:
    """What the publisher drops at a subscriber that does not read is counted to the last message."""
    publisher = Publisher(ANYWHERE, "n", high_water_mark=100)
    subscriber = Subscriber((publisher.endpoint,), high_water_mark=100)
    assert await publisher.subscribed(10)
    params = {"fill": "x" * 1000}
    for n in range(50_000):
        publisher.publish(LATENCY, params, n)
    sequences = Sequences()
    received = missed = 0
    while messages := await subscriber.receive(1):
        for frames in messages:
            gap = sequences.check(decode(*frames))
            received, missed = received + 1, missed + gap.missed
    publisher.heartbeat(50_000, last_event_at=0, received=0, invalid=0, kernel_drops=0)
    (frames,) = await subscriber.receive(10)
    beat = decode(*frames)
    missed += sum(sequences.check_tail(beat.node, decode_heartbeat(beat.events[0][1]).seqs).values())
    subscriber.close()
    publisher.close()
    assert received + missed == 50_000
    assert 0 < received < 50_000


async def test_end_of_a_run() -> None:
    """The last message of a run is a heartbeat that says so, with the last counts; also before a new run."""
    publisher = Publisher(ANYWHERE, "n", high_water_mark=100)
    subscriber = Subscriber((publisher.endpoint,), high_water_mark=100)
    assert await publisher.subscribed(10)
    await eventually(lambda: publisher.read_topics() == {b"", HEARTBEAT.encode()})
    runs = [publisher.run]
    publisher.publish(LATENCY, {}, 1)
    publisher.heartbeat(2, received=7)
    publisher.new_run()
    runs.append(publisher.run)
    publisher.gather(INSERT, {}, 3)
    assert await asyncio.to_thread(publisher.close)
    messages: list[Message] = []
    while len(messages) < 5:
        messages += [decode(*frames) for frames in await subscriber.receive(10)]
    beats = [decode_heartbeat(one.events[0][1]) for one in messages if one.name == HEARTBEAT]
    alone: list[Frames] = []

    def has_all() -> bool:
        alone.extend(subscriber.heartbeats())
        return len(alone) == 3

    await eventually(has_all)
    subscriber.close()
    assert [decode(*frames) for frames in alone] == [one for one in messages if one.name == HEARTBEAT]
    assert [(one.run, one.name) for one in messages] == [
        (runs[0], LATENCY),
        (runs[0], HEARTBEAT),
        (runs[0], HEARTBEAT),
        (runs[1], INSERT),
        (runs[1], HEARTBEAT),
    ]
    assert [(beat.end, beat.seqs, beat.received) for beat in beats] == [
        (False, {LATENCY: 0}, 7),
        (True, {LATENCY: 0}, 7),
        (True, {INSERT: 0}, 7),
    ]


async def test_events_share_messages() -> None:
    """Events that are gathered go together, in their order, each with its own time, and seq counts each of them."""
    publisher = Publisher(ANYWHERE, "n", high_water_mark=100)
    subscriber = Subscriber((publisher.endpoint,), high_water_mark=100)
    assert await publisher.subscribed(10)
    for ts in range(20):
        publisher.gather(LATENCY, {"n": ts}, ts)
    publisher.gather(INSERT, {"n": 20}, 20)
    publisher.publish(LATENCY, {"n": 21}, 21)
    publisher.heartbeat(22)
    messages: list[Message] = []
    while len(messages) < 5:
        messages += [decode(*frames) for frames in await subscriber.receive(5)]
    subscriber.close()
    publisher.close()
    assert [(m.name, m.seq, len(m.events)) for m in messages[:4]] == [
        (LATENCY, 0, 16),
        (LATENCY, 16, 4),
        (INSERT, 0, 1),
        (LATENCY, 20, 1),
    ]
    assert [(ts, msgpack.unpackb(params)["n"]) for m in messages[:4] for ts, params in m.events] == [
        (n, n) for n in range(22)
    ]
    assert decode_heartbeat(messages[4].events[0][1]).seqs == {LATENCY: 20, INSERT: 0}


async def test_ipv6_beside_ipv4() -> None:
    """A subscriber hears bridges at IPv6 and IPv4 addresses alike."""
    publishers = [Publisher(endpoint, "n", high_water_mark=100) for endpoint in ("tcp://[::1]:*", ANYWHERE)]
    subscriber = Subscriber(tuple(publisher.endpoint for publisher in publishers), high_water_mark=100)
    try:
        for publisher in publishers:
            assert await publisher.subscribed(10)
            publisher.publish(LATENCY, {"at": publisher.endpoint}, 1)
        messages: list[Message] = []
        while len(messages) < len(publishers):
            messages += [decode(*frames) for frames in await subscriber.receive(5)]
    finally:
        subscriber.close()
        for publisher in publishers:
            publisher.close()
    addresses = {msgpack.unpackb(message.events[0][1])["at"].rpartition(":")[0] for message in messages}
    assert addresses == {"tcp://[::1]", "tcp://127.0.0.1"}


async def test_bytes_that_are_no_utf8(make_setup: MakeSetup) -> None:
    """An event and a heartbeat with broken text are counted as invalid, and the consumer goes on."""
    broken = msgspec.Raw(b"\x81\xa3aor\xa1\xff")
    setup = make_setup()
    async with consumed(setup) as feeder:
        before = metrics.total(metrics.INVALID)
        for name in (LATENCY, HEARTBEAT):
            feeder.publisher.publish(name, {}, 1)
            envelope = {"v": 1, "node": "opensips", "run": feeder.publisher.run, "seq": 9, "ts": 1, "params": broken}
            feeder.publisher._socket.send_multipart([name.encode(), msgspec.msgpack.encode(envelope)])
        feeder.say(INSERT, phone_event("good"))
        await eventually(lambda: metrics.total(metrics.INVALID) - before >= 2)
        await eventually(lambda: feeder.beat() or "good/good" in setup.pages())


async def count_received(subscriber: Subscriber, seconds: float) -> int:
    return len(await subscriber.receive(seconds))


async def test_keys() -> None:
    """With CURVE a subscriber with the right keys hears everything; one with none, or with others, hears nothing."""
    (server, server_secret), (client, client_secret), (_, foreign_secret) = (
        [key.decode() for key in zmq.curve_keypair()] for _ in range(3)
    )
    publisher = Publisher(ANYWHERE, "n", high_water_mark=1000, curve=Curve(server_secret, (client,)))
    wrong_server = zmq.curve_keypair()[0].decode()
    right = Subscriber((publisher.endpoint,), high_water_mark=1000, curve=Curve(client_secret, server=server))
    strangers = [
        Subscriber((publisher.endpoint,), high_water_mark=1000, curve=curve)
        for curve in (None, Curve(foreign_secret, server=server), Curve(client_secret, server=wrong_server))
    ]
    try:
        assert await publisher.subscribed(10)
        count, started_at = 0, time.monotonic()
        while time.monotonic() - started_at < 1.5:
            publisher.publish(LATENCY, {}, 1)
            count += await count_received(right, 0.05)
        assert count == publisher.last_seqs[LATENCY] + 1
        assert [await count_received(stranger, 0) for stranger in strangers] == [0, 0, 0]
    finally:
        for subscriber in (right, *strangers):
            subscriber.close()
        publisher.close()


async def test_a_companion_with_keys(make_setup: MakeSetup, tmp_path: Path) -> None:
    """Bridge and consumer with the keys that `companion curve-keys` made speak to each other."""
    assert cli("curve-keys", str(tmp_path)).returncode == 0
    public = {name: (tmp_path / f"{name}.public").read_text() for name in ("bridge", "consumer")}
    bridge = {"curve_secret_key_file": str(tmp_path / "bridge.secret"), "curve_clients": [public["consumer"]]}
    consumer = {"curve_secret_key_file": str(tmp_path / "consumer.secret"), "curve_server_key": public["bridge"]}
    assert (tmp_path / "bridge.secret").stat().st_mode & 0o777 == 0o600
    async with make_setup(bridge=bridge, consumer=consumer).running() as setup:
        with Udp(setup.datagram) as udp:
            udp.send(notification(LATENCY, phone_event("safe", latency=20_000)))
        await eventually(lambda: "safe/safe" in setup.pages())


@pytest.mark.parametrize(
    ("section", "values", "key"),
    [
        ("bridge", {"publish": "tcp://0.0.0.0:5555"}, "publish"),
        ("bridge", {"publish": "tcp://*:5555"}, "publish"),
        ("consumer", {"subscribe": ["tcp://127.0.0.1:5555", "tcp://192.0.2.1:5555"]}, "subscribe"),
        ("consumer", {"subscribe": ["tcp://bridge.example:5555"]}, "subscribe"),
    ],
)
def test_no_clear_text_beyond_the_machine(
    make_setup: MakeSetup, section: str, values: dict[str, object], key: str
) -> None:
    """A bus that leaves the machine without CURVE is refused, unless that is asked for in so many words."""
    setup = make_setup()
    setup.tables[section].update(values)
    refused = setup.cli("check-config")
    assert refused.returncode == 2
    assert f"[{section}]" in refused.stderr
    assert f"{key} = " in refused.stderr
    assert "allow_plaintext = true" in refused.stderr
    setup.tables[section]["allow_plaintext"] = True
    assert setup.cli("check-config").returncode == 0


def test_a_bus_that_is_taken() -> None:
    """A second bridge at the same endpoint says which endpoint it could not have, and where that is set."""
    publisher = Publisher(ANYWHERE, "n", high_water_mark=10)
    with pytest.raises(UnavailableError, match=r"the bus can not be opened at .* change \[bridge\] publish"):
        Publisher(publisher.endpoint, "n", high_water_mark=10)
    publisher.close()


async def test_many_bridges(make_setup: MakeSetup) -> None:
    """One consumer reads several bridges, and tells their gaps apart."""
    first, other = make_setup(), make_setup()
    endpoints = [f"tcp://127.0.0.1:{setup.publish}" for setup in (first, other)]
    setup = make_setup(consumer={"subscribe": endpoints})
    async with setup.running("consumer"), Feeder.silent(first, "a") as a, Feeder.silent(other, "b") as b:
        assert all(await asyncio.gather(a.publisher.subscribed(10), b.publisher.subscribed(10)))
        for feeder in (a, b):
            feeder.ping()
        b.publisher.last_seqs[LATENCY] += 4
        b.ping()
        await eventually(lambda: (setup.events_done("a"), setup.events_done("b")) == (1, 6))
        assert (setup.feed("a").missed, setup.feed("b").missed) == (0, 4)
