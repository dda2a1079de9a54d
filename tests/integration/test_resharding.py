"""The number of shards: a store moves to another one with all its history, wherever that is interrupted."""

import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from typer.testing import CliRunner

from companion.cli.main import app
from companion.config import Config
from companion.doctor import gather
from companion.doctor import redis as doctor
from companion.errors import ShardingError, UsageError
from companion.http.monitoring.watch import Watch
from companion.opensips import events
from companion.query.reader import Reader
from companion.simulator.redis import EmbeddedRedis, find_redis_server
from companion.store import maintenance, resharding
from companion.store.audit import append_audit_entry
from companion.store.connection import Command, Connection, NotNowError
from companion.store.consumers import ConsumerReport, save_consumer
from companion.store.fence import FencedError, fence, read_errors, take_over
from companion.store.jobs import JobRun, save_job_run
from companion.store.keys import Keys
from companion.store.leases import Leases
from companion.store.migration import migrate
from companion.store.placement import TaggedKey
from companion.store.recordings import Recording, load_recordings, load_spelling, save_recording, save_spelling
from companion.store.report_budgets import load_refused_reports
from companion.store.resharding import Resharded, reshard
from companion.store.shards import Sharding, load_sharding
from companion.store.store import Store, open_store
from companion.store.traces import append_packets, load_trace
from companion.text import Json
from companion.times import now_ms
from tests.integration.conftest import (
    Kind,
    MakeSetup,
    RedisUrl,
    Setup,
    clean_environment,
    message,
    phone_event,
    record_events,
    until,
)
from tests.integration.redis_cluster import RedisCluster, redis_cluster
from tests.integration.test_call_reading import tell
from tests.integration.test_redis_rights import PROJECT, documented_rights
from tests.integration.test_store_migration import answers, load_released, released_answers

ENGINES: list[tuple[Kind, str]] = [("module", "timeseries"), ("plain", "streams")]
CLUSTERS: list[tuple[Kind, str]] = [("cluster", "timeseries"), ("plain-cluster", "streams")]
PHONES = 30
RECORDED = "web/web"


def ignore(*_: int) -> None:
    pass


def fill(make_setup: MakeSetup, kind: Kind, engine: str, server: RedisUrl | None = None) -> Setup:
    """Make a store with one shard that has keys of all kinds."""
    setup = make_setup(kind, server, redis={"shards": 1, "series": engine})
    load_released(setup, engine)
    migrate(setup.store, ignore)
    now = now_ms()
    phones = [(events.INSERT, phone_event(f"phone{n}", attr=f"<urn:uuid:{n:032}>")) for n in range(PHONES)]
    phones += [(events.LATENCY, phone_event(f"phone{n}", latency=20_000)) for n in range(PHONES)]
    record_events(setup, [message(event, params, now + n, n) for n, (event, params) in enumerate(phones)])
    tell(setup, RECORDED, "call-1", ended_at=now)
    tell(setup, "phone1/phone1", "call-2", seconds=5, ended_at=now)
    append_packets(setup.store, RECORDED, [(1, b"\x00\xff packed"), (2, b"\xfe")], 60_000)
    save_spelling(setup.store, RECORDED, "Web")
    save_recording(setup.store, Recording(RECORDED, "ann", now, now + 60_000), 10)
    append_audit_entry(setup.store, {"device": RECORDED, "action": "record"}, "recorded", {"by": "ann"})
    setup.store.connection.call("HSET", setup.store.keys.report_budget(RECORDED), "at", now, "refused", 3)
    return setup


def open_again(setup: Setup, shards: int) -> Store:
    """Open the store of a setup as `companion store reshard` does."""
    return open_store(setup.config.redis.model_copy(update={"shards": shards}), any_shards=True)


def move(setup: Setup, shards: int, progress: Callable[[int, int], None] = ignore) -> Resharded:
    store = open_again(setup, shards)
    try:
        return reshard(store, progress)
    finally:
        store.close()


READS: dict[str, Callable[[str], Command]] = {
    "hash": lambda key: ("HGETALL", key),
    "set": lambda key: ("SMEMBERS", key),
    "zset": lambda key: ("ZRANGE", key, 0, -1, "WITHSCORES"),
    "stream": lambda key: ("XRANGE", key, "-", "+"),
    "string": lambda key: ("GET", key),
    "TSDB-TYPE": lambda key: ("TS.RANGE", key, "-", "+"),
}
MEANT = {"shards", "jobs", "consumers"}
"""Keys that are not of the data that moves."""


def list_rows(content: Any) -> Iterable[Any]:
    if isinstance(content, dict):
        return content.items()
    return content if isinstance(content, list | set) else [content]


def contents(setup: Setup) -> dict[str, Any]:
    """Return what all keys hold and whether they expire, by name without the shard, however it is divided."""
    connection, prefix = setup.store.connection, setup.store.keys.prefix
    keys = [key for server in connection.masters() for key in server.call("KEYS", f"{prefix}*") if "filler" not in key]
    types = connection.pipeline(("TYPE", key) for key in keys)
    values = connection.read_bytes(READS[kind](key) for kind, key in zip(types, keys, strict=True))
    lives = connection.pipeline(("PTTL", key) for key in keys)
    everything: defaultdict[str, list[Any]] = defaultdict(list)
    for key, content, life_ms in zip(keys, values, lives, strict=True):
        name = key.removeprefix(prefix)
        is_tagged = name.startswith("{")
        kind = name.partition("}:")[2] if is_tagged else name
        if kind != "writers" and kind not in MEANT and not kind.startswith("node:"):
            everything[kind] += [repr(row) for row in list_rows(content)]
            everything[kind] += [f"expires: {life_ms > 0}"] if is_tagged and ":" in kind else []
    return {kind: sorted(rows) for kind, rows in everything.items()}


def read_all(setup: Setup, shards: int) -> Json:
    """Return what a reader that knows the number of shards says."""
    expected = released_answers("timeseries")
    again = Setup.__new__(Setup)
    again.__dict__.update(setup.__dict__, store=open_store(setup.config.redis.model_copy(update={"shards": shards})))
    reader = Reader(setup.config, again.store)
    try:
        return {
            "devices": answers(again, expected["now"], expected["day"]),
            "calls": [reader.calls(RECORDED, 3_600_000), reader.call("call-2")],
            "spelling": load_spelling(again.store, RECORDED),
            "trace": [row.hex() for row in load_trace(again.store, RECORDED)],
            "recordings": list(load_recordings(again.store)),
            "audit": reader.remediations(),
            "budget": load_refused_reports(again.store, RECORDED),
        }
    finally:
        again.store.close()


def tags_in_use(setup: Setup) -> set[int]:
    prefix = setup.store.keys.prefix
    names = [key for server in setup.store.connection.masters() for key in server.call("KEYS", f"{prefix}{{*")]
    return {setup_tag(name, prefix) for name in names if not name.endswith("}:writers")}


def setup_tag(name: str, prefix: str) -> int:
    return int(name.removeprefix(prefix + "{").partition("}")[0])


@pytest.mark.parametrize(("kind", "engine"), ENGINES + CLUSTERS)
def test_there_and_back(make_setup: MakeSetup, kind: Kind, engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With any number of shards all keys have the same contents and readers the same answers."""
    monkeypatch.setattr(maintenance, "PAGE", 20)
    setup = fill(make_setup, kind, engine)
    everything, pages = contents(setup), read_all(setup, 1)
    assert len(pages["devices"]["pages"]) == PHONES + len(released_answers(engine)["pages"])
    for shards in (64, 16) if setup.store.connection.is_cluster else (64, 16, 1):
        result = move(setup, shards)
        assert result.moved > PHONES
        assert result.orphaned == 0
        assert len(tags_in_use(setup)) == len(tags_in_use(setup) & set(range(shards))) > shards // 3
        assert contents(setup) == everything
        assert read_all(setup, shards) == pages
        assert move(setup, shards) == Resharded()


class Cut:
    """Lets a connection die after the server has taken so many commands that write."""

    READS = frozenset({"GET", "HGET", "SMEMBERS", "HGETALL"})

    def __init__(self, connection: Connection, after: int) -> None:
        self._connection = connection
        self._left = after
        self._pipeline = connection.pipeline

    def __enter__(self) -> None:
        self._connection.pipeline = self._cut  # type: ignore[assignment, method-assign]

    def __exit__(self, *_: object) -> None:
        del self._connection.pipeline

    def _cut(self, commands: Iterable[Command], *, raise_on_error: bool = True) -> list[Any]:
        every = list(commands)
        if all(command[0] in self.READS for command in every):
            return self._pipeline(every, raise_on_error=raise_on_error)
        first = every[: self._left]
        self._left -= len(first)
        replies = self._pipeline(first, raise_on_error=raise_on_error)
        if first != every:
            raise TimeoutError("cut")
        return replies


@pytest.mark.parametrize(("kind", "engine"), [*ENGINES, *CLUSTERS[:1]])
def test_cut_off_anywhere(make_setup: MakeSetup, kind: Kind, engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often a move is cut off, and wherever, the last one ends with all that there was."""
    monkeypatch.setattr(maintenance, "PAGE", 20)
    setup = fill(make_setup, kind, engine)
    everything = contents(setup)
    cuts = sum(is_cut_off(setup, shards, after) for shards in (16, 3) for after in range(0, 300, 17))
    assert cuts > 6
    move(setup, 3)
    assert contents(setup) == everything
    assert tags_in_use(setup) == {0, 1, 2}


def is_cut_off(setup: Setup, shards: int, after: int) -> bool:
    """Move the data, and return whether that was cut off; the first move to another number is completed before."""
    stored = load_sharding(setup.store.connection, setup.store.keys)
    if stored and stored.before and stored.number != shards:
        with pytest.raises(UsageError, match=f"a move to {stored.number} shards has not ended"):
            move(setup, shards)
        move(setup, stored.number)
    store = open_again(setup, shards)
    try:
        with Cut(store.connection, after):
            reshard(store, ignore)
    except TimeoutError:
        with pytest.raises(ShardingError, match="run `companion store reshard` again"):
            open_store(setup.config.redis)
        return True
    finally:
        store.close()
    return False


def has_moved(setup: Setup) -> bool:
    """Return whether a key of a shard that there was not is there."""
    keys = Keys(setup.store.keys.prefix, 64)
    fillers = (keys.spelling(f"filler{n}/x") for n in range(200))
    return any(setup.store.connection.pipeline(("EXISTS", key) for key in fillers if keys.shard_of(key)))


@pytest.mark.parametrize("kind", ["module", "cluster"])
def test_killed_and_started_again(make_setup: MakeSetup, kind: Kind) -> None:
    """The command is killed half-way; no companion starts then, and the next run of the command ends it."""
    setup = fill(make_setup, kind, "timeseries")
    keys, connection = setup.store.keys, setup.store.connection
    number = 4_000 if connection.is_cluster else 12_000
    connection.pipeline(("SET", keys.spelling(f"filler{n}/x"), n, "PX", 600_000) for n in range(number))
    everything = contents(setup)
    setup.tables["redis"]["shards"] = 64
    command = [sys.executable, "-m", "companion", "store", "reshard", "--yes", "-c", str(setup.file())]
    with subprocess.Popen(command, env=clean_environment(), stdout=subprocess.DEVNULL) as process:
        until(lambda: load_sharding(connection, keys) == Sharding(64, 1) or process.poll() is not None)
        until(lambda: has_moved(setup))
        process.kill()
    assert load_sharding(connection, keys) == Sharding(64, 1)
    run = setup.cli("run")
    assert (run.returncode, run.stdout, len(run.stderr.splitlines())) == (2, "", 1)
    assert "a part of the data in Redis is moved from 1 shard to 64: stop all companions, then run" in run.stderr
    assert f"holds {keys.lease('opensips')}: stop all" in setup.cli("store", "reshard", "--yes").stderr
    connection.pipeline(("DEL", key) for key in (keys.lease("opensips"), keys.sweeper()))  # they would end soon
    done = setup.cli("store", "reshard", "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("the data is in 64 shards now: ")
    assert contents(setup) == everything
    moved = Keys(keys.prefix, 64)
    values = connection.pipeline(("GET", moved.spelling(f"filler{n}/x")) for n in range(number))
    assert values == [str(n) for n in range(number)]
    assert setup.cli("store", "reshard").stdout == "nothing to do: the data is in 64 shards\n"


def move_until_full(setup: Setup, pages: int) -> bool:
    """Move to 64 shards on a server that has no memory left after so many pages; return whether it ended."""
    call, looked_at = setup.store.connection.call, count(1)

    def fill_up(*_: int) -> None:
        if next(looked_at) == pages:
            call("CONFIG SET", "maxmemory", 1)

    with suppress(NotNowError):
        move(setup, 64, fill_up)
    call("CONFIG SET", "maxmemory", 0)
    return load_sharding(setup.store.connection, setup.store.keys) == Sharding(64)


def test_a_full_server(make_setup: MakeSetup, own_redis: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that gets full refuses to write, but not to delete: wherever that happens, nothing is lost."""
    monkeypatch.setattr(maintenance, "PAGE", 20)
    setup = fill(make_setup, "module", "timeseries", server=own_redis)
    everything = contents(setup)
    assert next(pages for pages in range(1, 500) if move_until_full(setup, pages)) > 2
    assert contents(setup) == everything


def test_another_server_takes_over(
    make_setup: MakeSetup, own_redis: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another server lists its keys in another order, so that some are missed: the next run moves them."""
    monkeypatch.setattr(maintenance, "PAGE", 20)
    setup = fill(make_setup, "module", "timeseries", server=own_redis)
    keys, connection, looked_at, number = setup.store.keys, setup.store.connection, count(1), 2_000
    connection.pipeline(("SET", keys.spelling(f"filler{n}/x"), n, "PX", 600_000) for n in range(number))
    everything = contents(setup)

    def start_anew(*_: int) -> None:
        if next(looked_at) == 40:
            own_redis.stop()
            own_redis.start()
            until(has_loaded)

    def has_loaded() -> bool:
        with suppress(NotNowError):
            return bool(connection.call("DBSIZE"))
        return False

    with pytest.raises(UsageError, match="another server took over"):
        move(setup, 64, start_anew)
    assert move(setup, 64).moved
    moved = Keys(keys.prefix, 64)
    values = connection.pipeline(("GET", moved.spelling(f"filler{n}/x")) for n in range(number))
    assert values == [str(n) for n in range(number)]
    assert contents(setup) == everything


def test_a_long_index(make_setup: MakeSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    """The locks are renewed while the members of one long index move."""
    monkeypatch.setattr(resharding, "PAGE", 100)
    setup, renewals = make_setup(redis={"shards": 1}), list[None]()
    index = setup.store.keys.devices(0)
    setup.store.connection.call("ZADD", index, *(part for n in range(2_000) for part in (n, f"phone{n}/x")))
    store = open_again(setup, 16)
    resharding._move_members(store, TaggedKey(0, "devices"), lambda: renewals.append(None))
    assert len(renewals) > 10
    sizes = store.connection.pipeline(("ZCARD", store.keys.devices(shard)) for shard in range(16))
    assert sum(sizes) == 2_000
    assert min(sizes)
    store.close()


def test_not_while_a_companion_runs(make_setup: MakeSetup) -> None:
    """While a consumer or a scheduler runs nothing moves, and while it moves none of them gets a lease."""
    setup = make_setup(redis={"shards": 1})
    record_events(setup, [message(events.INSERT, phone_event("ann"), now_ms(), 0)])
    keys, call = setup.store.keys, setup.store.connection.call
    save_consumer(setup.store, "host/1", ConsumerReport(now_ms()))
    with pytest.raises(UsageError, match="a consumer runs on this Redis: stop all companions"):
        move(setup, 4)
    call("DEL", keys.consumers())
    save_job_run(setup.store, "summary", JobRun(now_ms(), 10))
    for held in (keys.lease("opensips"), keys.turn("summary"), keys.sweeper()):
        call("SET", held, "a companion")
        with pytest.raises(UsageError, match=f"a companion runs on this Redis and holds {held}: stop all"):
            move(setup, 4)
        call("DEL", held)
    assert load_sharding(setup.store.connection, keys) == Sharding(1)

    def look(*_: int) -> None:
        with pytest.raises(ShardingError, match="only a part of the data"):
            Leases(setup.store).hold("opensips")

    assert move(setup, 4, look).moved


def test_an_earlier_consumer(make_setup: MakeSetup) -> None:
    """A consumer that slept through a move is refused: its write, its next lease, and its readiness."""
    setup = make_setup(redis={"shards": 1})
    record_events(setup, [message(events.INSERT, phone_event("ann"), now_ms(), 0)])
    take_over(setup.store, "opensips", "asleep")
    move(setup, 4)
    late = fence(setup.store.keys.writers(0), {"opensips": "asleep"}, [("SET", setup.store.keys.device("x/y"), 1)])
    with pytest.raises(FencedError):
        read_errors(setup.store.connection.pipeline(late, raise_on_error=False))
    line = r"shards = 1, but the data in Redis is divided into 4: leave `shards` out, or stop all companions, then run"
    with pytest.raises(ShardingError, match=line):
        Leases(setup.store).hold("opensips")
    (reason,) = (one for one in Watch(setup.config, setup.store)._judge().reasons if one.name == "store-format")
    assert "run `companion store reshard`" in reason.text


def test_commands(make_setup: MakeSetup) -> None:
    """The command asks first, does nothing twice, and is what the doctor names when the number differs."""
    setup = make_setup(redis={"shards": 1})
    setup.file()
    command = ["store", "reshard", "-c", str(setup.file())]
    assert CliRunner().invoke(app, command).stdout == "nothing to do: there is no data\n"
    record_events(setup, [message(events.INSERT, phone_event("ann"), now_ms(), 0)])
    setup.tables["redis"]["shards"] = 4
    setup.file()
    (finding,) = doctor.check(gather._stored(Config.model_validate(setup.tables))).findings
    assert finding.text == "[redis] shards = 4, but the data in Redis is divided into 1"
    assert finding.remedy == "leave `shards` out, or stop all companions, then run `companion store reshard`"
    refused = CliRunner().invoke(app, command, input="n\n")
    assert refused.exit_code == 1
    assert "from 1 to 4 shards? No companion may run" in refused.stderr
    assert load_sharding(setup.store.connection, setup.store.keys) == Sharding(1)
    assert CliRunner().invoke(app, command, input="y\n").stdout.endswith("the data is in 4 shards now: 4 keys moved\n")
    assert CliRunner().invoke(app, command).stdout == "nothing to do: the data is in 4 shards\n"


@pytest.fixture(scope="module")
def new_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    with redis_cluster(tmp_path_factory.mktemp("new"), replicas=0) as cluster:
        yield cluster


class FewRights(NamedTuple):
    """Lead to a Cluster as a user with few rights."""

    url: str


def test_rights_on_a_cluster(make_setup: MakeSetup, new_cluster: RedisCluster) -> None:
    """The documented rights and +restore are enough to move a store of a Cluster."""
    rights = (*documented_rights(has_timeseries=True), documented_right_to_move())
    for server in new_cluster.all():
        server.call("ACL", "SETUSER", "companion", "on", ">secret", *rights)
    at = FewRights(new_cluster.url.replace("//", "//companion:secret@"))
    setup = make_setup(server=at, redis={"prefix": "companion:"})
    record_events(setup, [message(events.INSERT, phone_event("ann"), now_ms(), 0)])
    assert move(setup, 4).moved
    assert [denial for server in new_cluster.all() for denial in server.call("ACL", "LOG")] == []


def documented_right_to_move() -> str:
    text = (PROJECT / "docs/redis.md").read_text(encoding="utf-8")
    (right,) = re.findall(r"`companion store reshard` on a Redis Cluster needs `([^`]*)`", text)
    return str(right)


def test_to_a_cluster(make_setup: MakeSetup, new_cluster: RedisCluster, tmp_path: Path) -> None:
    """A store that has 64 shards is copied to a new Cluster as docs/scale.md says, and has the same answers there."""
    with EmbeddedRedis(tmp_path / "old", persistent=False) as old:
        setup = fill(make_setup, "module", "timeseries", server=old)
        move(setup, 64)
        everything, pages = contents(setup), read_all(setup, 64)
        client = find_redis_server().binary.with_name("redis-cli")
        (line,) = re.findall(r"redis-cli (--cluster import .*)", (PROJECT / "docs/scale.md").read_text())
        places = {"NEW:6379": f"127.0.0.1:{new_cluster.masters[0].port}", "OLD:6379": f"127.0.0.1:{old.port}"}
        words = [places.get(word, word) for word in line.split()]
        subprocess.run([str(client), *words], check=True, capture_output=True, timeout=60)
        moved = make_setup(server=new_cluster, redis={"prefix": setup.config.redis.prefix})
        assert moved.store.keys.shards == 64
        assert contents(moved) == everything == contents(setup)
        assert read_all(moved, 64) == pages


def test_what_belongs_to_nothing(make_setup: MakeSetup) -> None:
    """Keys that nothing leads to are left to expire and counted; a foreign number of shards is refused."""
    setup = make_setup(redis={"shards": 1})
    record_events(setup, [message(events.INSERT, phone_event("ann"), now_ms(), 0)])
    keys, call = setup.store.keys, setup.store.connection.call
    for key in (keys.care_state("ann", "0123456789abcdef"), keys.media("ann/ann", "0123456789abcdef")):
        call("SET", key, "x", "PX", 60_000)
    call("SET", keys.contact("ann", "fedcba9876543210"), "no record", "PX", 60_000)
    call("SET", f"{keys.prefix}{{0}}:unheard-of:x", "x", "PX", 60_000)
    assert move(setup, 4).orphaned == 4
    call("SET", keys.shard_count(), "hostile")
    with pytest.raises(ShardingError, match="is no number of shards: choose another"):
        open_store(setup.config.redis)
