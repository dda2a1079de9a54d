"""Both engines of the series against real servers: one contract, and what the store promises whichever is in use."""

import asyncio
import random
import re
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.exceptions import ConnectionError as RedisConnectionError

from companion import metrics
from companion.bus.envelope import Message
from companion.bus.numbered import TOGETHER
from companion.consumer.recorder import Recorder
from companion.errors import ConfigError
from companion.opensips import events
from companion.query.devices import iterate_devices
from companion.query.pings import put_in_buckets
from companion.query.reader import Reader
from companion.store.connection import Command, Connection, ResponseError
from companion.store.devices import load_device
from companion.store.series import Aggregate, Row
from companion.store.store import open_store
from companion.text import Json
from companion.times import iso
from tests.integration.conftest import Kind, MakeSetup, Setup, message, phone_event, record_batch

DAY_MS = 86_400_000
HOUR_MS = 3_600_000
RETENTION_MS = 7 * DAY_MS
ENGINES: list[tuple[Kind, str]] = [("module", "timeseries"), ("plain", "streams"), ("module", "streams")]
CLUSTERS: list[tuple[Kind, str]] = [("cluster", "timeseries"), ("plain-cluster", "streams")]
ON_CLUSTERS = {
    "test_what_goes_in_comes_out",
    "test_every_key_has_its_end",
    "test_latency_leaves_out_what_a_page_leaves_out",
    "test_a_batch_written_twice",
    "test_a_consumer_killed_while_it_wrote",
}
"""Tests that a Redis Cluster has to pass as well: where the order of writes counts, or many keys are read."""
WITHOUT_TTL = {
    "fleet-changes",
    "format",
    "shards",
    "devices",
    "answers",
    "expires",
    "failing",
    "writers",
    "nodes",
    "node",
    "seqs",
}
"""Keys that live on: indexes that the scheduler keeps small, one hash of last answers, and a node's own."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test with both engines, and some on a Redis Cluster too."""
    more = CLUSTERS if metafunc.function.__name__ in ON_CLUSTERS else []
    metafunc.parametrize(("kind", "engine"), ENGINES + more)


@pytest.fixture
def setup(make_setup: MakeSetup, kind: Kind, engine: str) -> Setup:
    return make_setup(kind, redis={"series": engine})


def put(setup: Setup, rows: Sequence[Row]) -> None:
    """Write rows as the store does: one pipeline, then a look at its replies."""
    series, connection = setup.store.series, setup.store.connection
    replies = connection.pipeline(series.commands(rows), raise_on_error=False)
    series.settle(connection, "latency", rows, replies)


def read(setup: Setup, key: str, since: int = 0, until: int = 1 << 52) -> list[tuple[int, int]]:
    return setup.store.series.read(setup.store.connection, key, since, until)


def aggregates(setup: Setup, key: str, since: int, until: int, bucket_ms: int) -> list[Aggregate]:
    return setup.store.series.aggregates(setup.store.connection, key, since, until, bucket_ms)


def by_hand(points: Sequence[tuple[int, int]], bucket_ms: int) -> list[Aggregate]:
    """What should be in which bucket."""
    buckets: dict[int, list[int]] = {}
    for ts, value in points:
        buckets.setdefault(ts // bucket_ms * bucket_ms, []).append(value)
    return [
        Aggregate(start, min(values), sum(values), max(values), len(values))
        for start, values in sorted(buckets.items())
    ]


def key_of(setup: Setup, name: str = "x/y") -> str:
    return setup.store.keys.latency(name)


def keys(setup: Setup) -> list[str]:
    """All keys of this setup, but the lease, which is nobody's data."""
    prefix = setup.store.keys.prefix
    names = chain.from_iterable(server.call("KEYS", f"{prefix}*") for server in setup.store.connection.masters())
    return sorted(key for key in names if not key.startswith(setup.store.keys.lease("")))


def kind_of(setup: Setup, key: str) -> str:
    return re.sub(r"^{\d+}:", "", key.removeprefix(setup.store.keys.prefix)).partition(":")[0]


def contents(setup: Setup) -> dict[str, Any]:
    """What every key holds, in an order of its own, but for the numbers of scripts.

    Readers may be told of the same changes twice.
    """
    call = setup.store.connection.call
    readers: dict[str, Callable[[str], Any]] = {
        "hash": lambda key: {
            name: text for name, text in call("HGETALL", key).items() if not name.startswith("batch/")
        },
        "set": lambda key: sorted(call("SMEMBERS", key)),
        "zset": lambda key: call("ZRANGE", key, 0, -1, "WITHSCORES"),
        "stream": lambda key: call("XRANGE", key, "-", "+"),
        "string": lambda key: call("GET", key),
        "TSDB-TYPE": lambda key: call("TS.RANGE", key, "-", "+"),
    }
    return {key: readers[call("TYPE", key)](key) for key in keys(setup) if key != setup.store.keys.fleet_changes()}


def test_what_goes_in_comes_out(setup: Setup) -> None:
    """Rows of many series, more than go into one command, come out again point by point."""
    names = [f"phone{n}" for n in range(20)]
    rows = [(key_of(setup, name), 1000 * t + n, 10 * t + n) for t in range(1, 51) for n, name in enumerate(names)]
    stored = metrics.total(metrics.STORED, series="latency")

    put(setup, rows)

    for n, name in enumerate(names):
        assert read(setup, key_of(setup, name)) == [(1000 * t + n, 10 * t + n) for t in range(1, 51)]
    assert metrics.total(metrics.STORED, series="latency") - stored == 1000


def test_reads_are_bounded_on_both_sides(setup: Setup) -> None:
    """A read gives the points from `since` to `until`, both included; of a series that is not there, none."""
    put(setup, [(key_of(setup), ts, ts) for ts in (10, 20, 30, 40)])

    assert read(setup, key_of(setup), 20, 30) == [(20, 20), (30, 30)]
    assert read(setup, key_of(setup), -5, 10) == [(10, 10)]
    assert read(setup, key_of(setup, "nobody")) == []


times = st.integers(1, 4000)
samples = st.dictionaries(st.integers(1, 3000), st.integers(0, 600_000), max_size=60)


def test_buckets(setup: Setup) -> None:
    """Least, sum, most and count of each bucket are those of the points in it, wherever it and the range begin."""
    names = count()

    @settings(deadline=None, max_examples=80)
    @given(samples, st.sampled_from([0, 1_795_452_109_605]), st.integers(-5, 3005), st.integers(0, 3005), times)
    def check(pings: dict[int, int], start: int, since: int, until: int, bucket_ms: int) -> None:
        key, points = key_of(setup, f"phone{next(names)}"), [(start + ts, pings[ts]) for ts in sorted(pings)]
        put(setup, [(key, ts, value) for ts, value in points])
        inside = [(ts, value) for ts, value in points if start + since <= ts <= start + until]
        assert aggregates(setup, key, start + since, start + until, bucket_ms) == by_hand(inside, bucket_ms)

    check()


@pytest.mark.parametrize("points", [10, 288, 720, 2000])
def test_buckets_of_a_week(setup: Setup, points: int) -> None:
    """A week of pings, more than one chunk of either engine holds, is the same in buckets and one by one."""
    chance = random.Random(points)
    start = int(time.time() * 1000) - RETENTION_MS
    week = [(start + n * 120_000 + chance.randrange(9000), round(chance.expovariate(1 / 60))) for n in range(1, 5040)]
    put(setup, [(key_of(setup), ts, value) for ts, value in week])

    bucket_ms = RETENTION_MS // (points - 1)
    assert aggregates(setup, key_of(setup), 0, 1 << 52, bucket_ms) == by_hand(week, bucket_ms)


def test_buckets_of_what_is_not_there(setup: Setup) -> None:
    """A series that is not there has no buckets; a foreign value under its name is an error as for any read."""
    assert aggregates(setup, key_of(setup), 0, 1000, 100) == []
    setup.store.connection.call("SET", key_of(setup), "mine")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        aggregates(setup, key_of(setup), 0, 1000, 100)


def test_either_protocol(make_setup: MakeSetup, kind: Kind, engine: str) -> None:
    """Whichever protocol the Redis library speaks by itself, numbers come out the same."""
    first, replies = make_setup(kind), []
    key, url = key_of(first), first.config.redis.url
    for protocol in (2, 3):
        redis = {"series": engine, "url": f"{url}?protocol={protocol}", "prefix": first.config.redis.prefix}
        setup = make_setup(kind, redis=redis)
        put(setup, [(key, 10, 0xFFFFFFFFFFFFF), (key, 20, 40), (key, 130, 41)])
        replies.append((read(setup, key), aggregates(setup, key, 0, 1000, 100)))
        setup.store.connection.call("DEL", key)

    assert replies[0] == replies[1]
    assert replies[0][1] == by_hand(replies[0][0], 100)


def test_the_number_of_a_contact_is_exact(setup: Setup) -> None:
    """A lost ping's value, 52 bits that name a contact, comes back to the last bit."""
    number = 0xFFFFFFFFFFFFF
    put(setup, [(key_of(setup), 10, number), (key_of(setup), 20, number - 1)])

    assert read(setup, key_of(setup)) == [(10, number), (20, number - 1)]


def test_seven_days(setup: Setup) -> None:
    """As later samples come, those older than seven days disappear: exactly for a read of the window, soon for good."""
    start = int(time.time() * 1000) - 9 * DAY_MS
    minutes = [start + n * 600_000 for n in range(9 * 144)]
    for first in range(0, len(minutes), 144):
        put(setup, [(key_of(setup), ts, 20) for ts in minutes[first : first + 144]])

    since = minutes[-1] - RETENTION_MS
    inside = [(ts, 20) for ts in minutes if ts >= since]
    assert read(setup, key_of(setup), since) == inside
    left_over = len(read(setup, key_of(setup))) - len(inside)
    assert left_over == 0 or (setup.store.series.name == "streams" and left_over < 100)


def test_the_same_rows_again(setup: Setup) -> None:
    """Rows that are written twice are there once."""
    rows = [(key_of(setup), ts, ts // 10) for ts in (100, 200, 300)]
    put(setup, rows)
    put(setup, rows)

    assert read(setup, key_of(setup)) == [(100, 10), (200, 20), (300, 30)]


def test_late_samples(setup: Setup) -> None:
    """A sample older than the last finds its place with TimeSeries; a stream refuses it, and it is counted."""
    refused = metrics.total(metrics.REFUSED, reason="older")
    put(setup, [(key_of(setup), 200, 2), (key_of(setup), 100, 1), (key_of(setup), 300, 3)])

    late = [(100, 1)] if setup.store.series.name == "timeseries" else []
    assert read(setup, key_of(setup)) == [*late, (200, 2), (300, 3)]
    assert metrics.total(metrics.REFUSED, reason="older") - refused == 1 - len(late)


def test_a_series_that_vanished(setup: Setup) -> None:
    """A series whose key ran out or was deleted is made again by its next sample."""
    put(setup, [(key_of(setup), 100, 1)])
    setup.store.connection.call("DEL", key_of(setup))
    put(setup, [(key_of(setup), 200, 2), (key_of(setup, "other"), 200, 3)])

    assert read(setup, key_of(setup)) == [(200, 2)]
    assert read(setup, key_of(setup, "other")) == [(200, 3)]


def test_a_key_of_another_kind(setup: Setup) -> None:
    """A foreign value under a series' name costs that series' samples, counted, and no other's."""
    refused = metrics.total(metrics.REFUSED, reason="redis")
    setup.store.connection.call("SET", key_of(setup), "mine")
    put(setup, [(key_of(setup), 200, 2), (key_of(setup, "other"), 200, 3)])

    assert read(setup, key_of(setup, "other")) == [(200, 3)]
    assert metrics.total(metrics.REFUSED, reason="redis") - refused == 1


def test_auto_takes_what_the_server_can(make_setup: MakeSetup, kind: Kind, engine: str) -> None:
    """`auto` is TimeSeries where the server has it and streams where not; asking for what is not there is an error."""
    automatic = make_setup(kind)
    assert automatic.store.series.name == ("timeseries" if kind in ("module", "cluster") else "streams")
    if kind == "plain":
        section = automatic.config.redis.model_copy(update={"series": "timeseries"})
        with pytest.raises(ConfigError, match=r"\[redis\] series = 'timeseries', but 127.0.0.1:\d+ has no TS commands"):
            open_store(section)


# What the store makes of events, with either engine


class Bridge:
    """Makes the messages that a bridge would publish, each a second after the one before."""

    def __init__(self, seconds_ago: int = 60) -> None:
        self._ts = int(time.time() * 1000) - seconds_ago * 1000
        self._seqs: dict[str, int] = {}

    def say(self, event: str, params: Json) -> Message:
        self._ts += 1000
        seq = self._seqs[event] = self._seqs.get(event, -1) + 1
        return message(event, params, self._ts, seq)


def story() -> list[Message]:
    """A phone with a WebSocket that reloads its page, and one without: registered, answering, losing, gone."""
    bridge = Bridge()
    instance = "<urn:uuid:6513270e-269e-0d37-f2a7-4de452e6b438>"

    def ann(host: str, port: int, **params: Any) -> Json:
        received = f"sip:192.0.2.9:{port};transport=ws"
        return phone_event("ann", uri=f"sip:ann@{host}.invalid", received=received, attr=instance, **params)

    gone = {"src_ip": "192.0.2.9", "src_port": 4001, "dst_ip": "192.0.2.1", "dst_port": 443, "proto": "wss"}
    lost = events.LOST_PING_US
    steps = [
        (events.AOR_INSERT, {"domain": "location", "aor": "ann"}),
        (events.INSERT, ann("a", 4001)),
        (events.LATENCY, ann("a", 4001, latency=20_000)),
        (events.INSERT, phone_event("bob")),
        (events.LATENCY, phone_event("bob", latency=30_000)),
        (events.DISCONNECT, gone),
        (events.INSERT, ann("b", 4002, callid="other")),
        (events.LATENCY, ann("b", 4002, callid="other", latency=22_000)),
        *((events.LATENCY, ann("a", 4001, latency=lost)) for _ in range(4)),
        (events.DELETE, ann("a", 4001, latency=lost)),
        *((events.LATENCY, phone_event("bob", latency=lost)) for _ in range(2)),
        (events.LATENCY, phone_event("bob", latency=31_000)),
        (events.UPDATE, ann("b", 4002, callid="other", cseq=2)),
        (events.DELETE, phone_event("bob", latency=31_000)),
    ]
    return [bridge.say(event, params) for event, params in steps]


def long_story() -> list[Message]:
    """Three phones, pinged forty times: some lose, one registers anew, one leaves and comes back."""
    bridge, messages = Bridge(seconds_ago=200), []
    for turn in range(40):
        for number, aor in enumerate(("ann", "bob", "eve")):
            params = {"callid": "again", "cseq": 1 + turn // 10} if aor == "bob" else {}
            if turn % 10 == 0:
                messages.append(bridge.say(events.UPDATE if turn else events.INSERT, phone_event(aor, **params)))
            if (aor, turn) == ("eve", 25):
                messages.append(bridge.say(events.DELETE, phone_event(aor, latency=1000)))
            lost = turn % 7 in range(number)
            latency = events.LOST_PING_US if lost else 20_000 + turn * 1000
            messages.append(bridge.say(events.LATENCY, phone_event(aor, **params, latency=latency)))
    return messages


def together(messages: Sequence[Message]) -> list[Message]:
    """The same events in fewer messages, as a bridge sends them that has many at once."""
    joined: list[Message] = []
    for one in messages:
        if joined and joined[-1].name == one.name and len(joined[-1].events) < TOGETHER:
            joined[-1] = joined[-1]._replace(events=[*joined[-1].events, *one.events])
        else:
            joined.append(one)
    return joined


def test_events_that_share_messages(make_setup: MakeSetup, kind: Kind, engine: str) -> None:
    """A flood, most of whose pings are recognised by their bytes, leaves what the same events leave one by one."""
    alone, shared = (make_setup(kind, redis={"series": engine}) for _ in range(2))
    messages = long_story()
    record(alone, [[one] for one in messages])
    flood = together(messages)
    record(shared, [flood[:15], flood[15:]])
    assert len(flood) < len(messages) / 3
    for phone in ("ann", "bob", "eve"):
        assert shared.page(phone) == alone.page(phone)
    assert shared.samples() == alone.samples() > 90


def record(setup: Setup, batches: Sequence[Sequence[Message]]) -> None:
    """What a consumer does with them, from its start to its end."""
    recorder = Recorder(setup.config, setup.store)
    for batch in batches:
        asyncio.run(record_batch(recorder, batch))
    asyncio.run(recorder.tenure.close())


@pytest.mark.parametrize("together", [True, False])
def test_every_key_has_its_end(setup: Setup, together: bool) -> None:  # noqa: FBT001 - a pytest parameter
    """Each key of a device, contact, series, timeline, AOR, instance or connection dies an hour after its samples."""
    record(setup, [story()] if together else [[one] for one in story()])

    kinds = set()
    for key in keys(setup):
        ttl, name = setup.store.connection.call("PTTL", key), kind_of(setup, key)
        kinds.add(name)
        if name in WITHOUT_TTL:
            assert ttl == -1, key
        else:
            assert RETENTION_MS < ttl <= RETENTION_MS + HOUR_MS, key
    mortal = {"device", "contact", "latency", "lost", "timeline", "aor", "instance", "connection", "witnesses"}
    assert mortal <= kinds <= mortal | WITHOUT_TTL


def test_a_consumer_started_anew_knows_what_lives_on(setup: Setup) -> None:
    """Keys get their life anew an hour after the last time, also when another consumer did that."""
    start = int(time.time() * 1000) - 2 * HOUR_MS
    aor, call = setup.store.keys.aor("ann"), setup.store.connection.call
    record(setup, [[message(events.INSERT, phone_event("ann"), start, 0)]])
    call("PEXPIRE", aor, HOUR_MS)
    record(setup, [[message(events.LATENCY, phone_event("ann", latency=20_000), start + HOUR_MS - 1, 0)]])
    assert call("PTTL", aor) <= HOUR_MS
    record(setup, [[message(events.LATENCY, phone_event("ann", latency=20_000), start + HOUR_MS, 1)]])
    assert call("PTTL", aor) > RETENTION_MS


@pytest.mark.parametrize("points", [10, 50, 2000])
def test_latency_leaves_out_what_a_page_leaves_out(setup: Setup, points: int) -> None:
    """The buckets of a device are those of the pings on its page: no ghost's losses among them, every other one is."""
    record(setup, [story()])
    reader = Reader(setup.config, setup.store)
    left_out = 0
    for device in iterate_devices(setup.store):
        pings = reader.device(device.id, HOUR_MS)["samples"]
        latency = reader.latency(device.id, HOUR_MS, points)
        assert latency["buckets"] == put_in_buckets(pings, latency["bucket_ms"])
        left_out += len(read(setup, setup.store.keys.lost(device.id))) - sum(
            bucket.lost for bucket in latency["buckets"]
        )
    assert left_out > 0


def test_news_are_what_is_later(setup: Setup) -> None:
    """Of a device's pings and timeline only what is later than the given time is told."""
    record(setup, [story()])
    reader = Reader(setup.config, setup.store)
    page = reader.device("bob", HOUR_MS)
    *before, last = page["samples"]
    assert len(before) == 3
    for since, later in ((before[-1][0], [last]), (last[0], [])):
        news = reader.news("bob", since)
        assert news["samples"] == later
        assert news["timeline"] == [entry for entry in page["timeline"] if entry["at"] > str(iso(since))]


def test_a_batch_written_twice(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writing the same changes again changes no key."""
    recorder = Recorder(setup.config, setup.store)
    written: list[Any] = []
    write = recorder._writer._batch.write

    def write_and_remember(*what: Any) -> None:
        written.append(what)
        write(*what)

    monkeypatch.setattr(recorder._writer._batch, "write", write_and_remember)
    asyncio.run(record_batch(recorder, story()))
    once = contents(setup)
    for what in written:
        write(*what)

    assert written
    assert contents(setup) == once


def test_a_consumer_that_starts_over(setup: Setup) -> None:
    """Events that are recorded again one by one, by a consumer that knows of no progress, change nothing."""
    record(setup, [story_once := story()])
    once = contents(setup)
    setup.store.connection.call("DEL", setup.store.keys.seqs("opensips"), setup.store.keys.node("opensips"))
    record(setup, [[one] for one in story_once])

    assert without_feed(contents(setup)) == without_feed(once)


def without_feed(everything: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in everything.items() if ":node:" not in key and not key.endswith(":writers")}


class Cut:
    """Lets a connection die after the server has taken so many commands that write."""

    READS = frozenset({"HGETALL", "HGET", "HMGET", "MGET", "SMEMBERS", "SRANDMEMBER", "ZRANGEBYSCORE"})

    def __init__(self, connection: Connection, after: int) -> None:
        self._connection = connection
        self._left = after
        self._pipeline = connection.pipeline

    def __enter__(self) -> None:
        self._connection.pipeline = self._cut  # type: ignore[method-assign]

    def __exit__(self, *_: object) -> None:
        self._connection.pipeline = self._pipeline  # type: ignore[method-assign]

    def _cut(self, commands: Iterable[Command], *, raise_on_error: bool = True, one_moment: bool = False) -> list[Any]:
        every = list(commands)
        if all(command[0] in self.READS for command in every):
            return self._pipeline(every, raise_on_error=raise_on_error, one_moment=one_moment)
        first = every[: self._left]
        self._left -= len(first)
        replies = self._pipeline(first, raise_on_error=raise_on_error)
        if first != every:
            raise RedisConnectionError("cut")
        return replies


def test_a_consumer_killed_while_it_wrote(make_setup: MakeSetup, kind: Kind, engine: str) -> None:
    """Wherever a write was cut off, the next consumer, given the same events, ends with what there should be."""
    messages = story()
    whole = make_setup(kind, redis={"series": engine})
    record(whole, [messages])
    expected = normal(whole)
    for after in range(0, 75, 15 if whole.store.connection.is_cluster else 1):
        setup = make_setup(kind, redis={"series": engine})
        with Cut(setup.store.connection, after):
            dying = Recorder(setup.config, setup.store)
            dying.give_up_at(0)
            asyncio.run(record_batch(dying, messages))
        asyncio.run(dying.tenure.close())
        record(setup, [messages[:7], messages[7:]])
        assert normal(setup) == expected, f"cut after {after} commands"


def normal(setup: Setup) -> Json:
    """All that is stored, under names without the prefix; each device with its contacts' last answers, which are in
    `answers` or in a contact's own record.
    """
    prefix = setup.store.keys.prefix
    contents_by_key = {key.replace(prefix, ""): value for key, value in contents(setup).items()}
    for shard in range(setup.store.keys.shards):
        devices = [
            load_device(setup.store, device) for device in sorted(dict(contents_by_key.pop(f"{{{shard}}}:devices", ())))
        ]
        contents_by_key[f"{{{shard}}}:devices"] = [
            [(c.id, c.last_latency_at, c.changed_at) for c in d.contacts] for d in devices if d
        ]
        contents_by_key.pop(f"{{{shard}}}:writers", None)  # who writes
        contents_by_key.pop(f"{{{shard}}}:answers", None)
    del contents_by_key["node:opensips"]
    contents_by_key.pop("witnesses", None)  # names of phones that answered lately: any will do
    return contents_by_key
