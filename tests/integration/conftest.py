"""Real servers for tests: Redis with and without the TimeSeries module, and a companion between OpenSIPS and Redis."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from itertools import count
from pathlib import Path
from typing import Any, Literal, Protocol, Self

import msgspec
import pytest

from companion.bus.envelope import HEARTBEAT, Message
from companion.bus.publisher import Publisher
from companion.config import Config
from companion.consumer.recorder import Recorder
from companion.consumer.standby import AnyMessage
from companion.query.device_ids import find_device_id
from companion.query.devices import iterate_devices, render_device
from companion.query.now import load_view
from companion.services.app import App, ServiceName
from companion.simulator.redis import EmbeddedRedis, find_free_port
from companion.steady_clock import steady_ms
from companion.store.nodes import Feed, load_feed
from companion.store.store import open_store
from companion.text import Json
from tests.integration.command_process import run_command
from tests.integration.redis_cluster import RedisCluster, find_plain_server, redis_cluster

CAPTURE = Path(__file__).parents[1] / "captures" / "opensips-3.6.8"
WINDOW_MS = 24 * 3_600_000
Kind = Literal["module", "plain", "cluster", "plain-cluster"]
_prefixes = count()


def until(condition: Callable[[], Any], seconds: float = 60) -> None:
    """Wait for a condition; fail when it does not come."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


async def eventually(condition: Callable[[], Any], seconds: float = 60) -> None:
    """Wait for a condition while the event loop runs on; fail when it does not come."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - the condition is anything, not an event
            await asyncio.sleep(0.01)


def message(event: str, params: Json, ts: int, seq: int, node: str = "opensips") -> Message:
    """One event as it comes over the bus."""
    return Message(event, node, 1, seq, [(ts, msgspec.Raw(msgspec.msgpack.encode(params)))])


async def record_batch(recorder: Recorder, batch: Sequence[AnyMessage]) -> None:
    """Take messages and store what they change."""
    await recorder.take(batch)
    await recorder.tick(steady_ms())
    await recorder.write()
    while recorder.pending:
        await recorder.write()


def record_events(setup: "Setup", batch: Sequence[Message]) -> None:
    """Store what a batch changes, as a consumer does that starts before it and stops after it."""
    recorder = Recorder(setup.config, setup.store)
    asyncio.run(record_batch(recorder, batch))
    asyncio.run(recorder.tenure.close())


class RedisUrl(Protocol):
    """Where a Redis is reached."""

    @property
    def url(self) -> str: ...


class Setup:
    """One companion's configuration with ports of its own, and the store it writes to."""

    def __init__(self, server: RedisUrl, folder: Path, **sections: Json) -> None:
        self.folder = folder
        self.datagram, self.stream, self.publish = find_free_port(), find_free_port(), find_free_port()
        self.tables: dict[str, Json] = {
            "redis": {"url": server.url, "prefix": f"t{next(_prefixes)}:"},
            "bridge": {
                "datagram": f"udp:127.0.0.1:{self.datagram}",
                "stream": f"tcp:127.0.0.1:{self.stream}",
                "publish": f"tcp://127.0.0.1:{self.publish}",
            },
            "consumer": {"subscribe": [f"tcp://127.0.0.1:{self.publish}"], "batch_ms": 20},
            "log": {"format": "json"},
        }
        for name, table in sections.items():
            self.tables.setdefault(name, {}).update(table)
        self.config = Config.model_validate(self.tables)
        self.store = open_store(self.config.redis)

    @property
    def udp(self) -> str:
        return f"udp:127.0.0.1:{self.datagram}"

    @property
    def tcp(self) -> str:
        return f"tcp:127.0.0.1:{self.stream}"

    def file(self) -> Path:
        """The configuration as a config.toml (JSON's numbers, texts and lists are TOML's)."""
        path = self.folder / "config.toml"
        sections = (
            [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items())]
            for name, table in self.tables.items()
        )
        path.write_text("\n".join(line for lines in sections for line in lines) + "\n")
        return path

    def feed(self, node: str = "opensips") -> Feed:
        return load_feed(self.store, node)[0]

    def events_done(self, node: str = "opensips") -> int:
        """How many events of the present run the consumer has stored or counted as missing."""
        seqs = load_feed(self.store, node)[1]
        return sum(seq + 1 for event, seq in seqs.items() if event != HEARTBEAT)

    def page(self, device: str) -> Json:
        """What `companion device DEVICE --json` prints."""
        device_id = find_device_id(self.store, device)
        document = render_device(self.store, device_id, load_view(self.config, self.store), WINDOW_MS)
        page: Json = json.loads(json.dumps(document))
        return page

    def pages(self) -> dict[str, Json]:
        return {device.id: self.page(device.id) for device in iterate_devices(self.store)}

    def samples(self) -> int:
        """How many answered pings are stored, of all devices."""
        keys, now = self.store.keys, int(time.time() * 1000)
        ids = [device.id for device in iterate_devices(self.store)]
        read = self.store.series.read
        return sum(len(read(self.store.connection, keys.latency(one), 0, now + 60_000)) for one in ids)

    @asynccontextmanager
    async def running(self, *names: ServiceName) -> AsyncIterator["Setup"]:
        """A companion in this process; with a bridge ready when its first heartbeat is stored."""
        stopped = asyncio.Event()
        names = names or ("bridge", "consumer")
        task = asyncio.create_task(App(self.config, names).run(stopped))
        try:
            await eventually(lambda: task.done() or "bridge" not in names or self.feed().heartbeat_at)
            yield self
        finally:
            stopped.set()
            await task

    def cli(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command with this configuration."""
        return cli(*arguments, "-c", str(self.file()))

    @contextmanager
    def process(self, *services: ServiceName, **environment: str) -> Iterator["Process"]:
        """Run a companion in a process of its own, with these environment variables."""
        started = Process(self.file(), services, environment)
        try:
            yield started
        finally:
            started.end()


class Process:
    """`python -m companion run …`, with its log in a file."""

    def __init__(
        self, config: Path, services: tuple[ServiceName, ...], environment: Mapping[str, str] | None = None
    ) -> None:
        self.log_file = config.with_name(f"{'-'.join(services)}-{time.monotonic_ns()}.log")
        with self.log_file.open("wb") as log:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "companion", "run", *services, "-c", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=clean_environment() | dict(environment or {}),
            )

    def log(self) -> list[Json]:
        return [json.loads(line) for line in self.log_file.read_text().splitlines() if line.startswith("{")]

    def kill(self) -> None:
        """End it as kill -9 does."""
        self.popen.kill()
        self.popen.wait(10)

    def terminate(self) -> int:
        """End it as an operator does; its exit code."""
        self.popen.terminate()
        return self.popen.wait(30)

    def end(self) -> None:
        if self.popen.poll() is None:
            self.kill()


def cli(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`companion …` in a process of its own."""
    return run_command(arguments, clean_environment() | environment)


def clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("COMPANION_")}


class Feeder:
    """A bridge's side of the bus that publishes answered pings of some phones at a steady rate."""

    BEAT_SECONDS = 0.25

    def __init__(
        self,
        setup: Setup,
        node: str = "opensips",
        phones: int = 50,
        per_second: int = 1000,
        high_water_mark: int = 200_000,
    ) -> None:
        self.publisher = Publisher(f"tcp://127.0.0.1:{setup.publish}", node, high_water_mark=200_000)
        self.published = 0
        self._phones = phones
        self._per_second = per_second
        self._registered: set[int] = set()
        self._task: asyncio.Task[None] | None = None
        self._ts = int(time.time() * 1000)

    async def __aenter__(self) -> Self:
        assert await self.publisher.subscribed(60)
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.pause()
        self.publisher.close()

    @classmethod
    @asynccontextmanager
    async def silent(cls, setup: Setup, node: str = "opensips") -> AsyncIterator["Feeder"]:
        """One that only says what it is told to."""
        feeder = cls(setup, node)
        try:
            yield feeder
        finally:
            feeder.publisher.close()

    async def pause(self) -> None:
        """Publish no more; the last heartbeat says how much there was."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
            self.beat()

    def consumers(self) -> int:
        """How many consumers are connected: each subscribes to all events, and beside that to heartbeats."""
        port, established = self.publisher.endpoint.rpartition(":")[2], "01"
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        return sum(row[1].endswith(f":{int(port):04X}") and row[3] == established for row in rows) // 2

    async def _run(self) -> None:
        started_at = beat_at = time.monotonic()
        done = 0
        while True:
            now = time.monotonic()
            for _ in range(int((now - started_at) * self._per_second) - done):
                self.ping()
                done += 1
            if now >= beat_at:
                self.beat()
                beat_at = now + self.BEAT_SECONDS
            await asyncio.sleep(0.005)

    def beat(self) -> bool:
        """Say that we live; False, to be said again and again while waiting for something else."""
        self.publisher.heartbeat(int(time.time() * 1000), last_event_at=self._ts, received=self.published)
        return False

    def ping(self) -> None:
        """One answered ping of the next phone, at a time of its own."""
        phone = self.published % self._phones
        self.say("E_UL_LATENCY_UPDATE", phone_event(f"phone{phone}", latency=30_000))

    def say(self, event: str, params: Json) -> None:
        self._ts = max(self._ts + 1, int(time.time() * 1000))
        self.publisher.publish(event, params, self._ts)
        self.published += 1


def phone_event(aor: str, **params: Any) -> Json:
    """The parameters of a contact event of a phone; what is given goes before."""
    return {
        "domain": "location",
        "aor": aor,
        "uri": f"sip:{aor}@192.0.2.1:5060",
        "received": "",
        "path": None,
        "qval": -1,
        "user_agent": "Desk Phone 1.0",
        "socket": "udp:127.0.0.1:5060",
        "bflags": 14,
        "expires": int(time.time()) + 3600,
        "callid": f"call-{aor}",
        "cseq": 1,
        "attr": "",
        "latency": 0,
        "shtag": "",
        **params,
    }


def notification(method: str, params: Any) -> bytes:
    """What OpenSIPS puts on the wire for one event."""
    return json.dumps({"jsonrpc": "2.0", "method": method, "params": params}).encode()


class Udp:
    """Sends datagrams as event_datagram does."""

    def __init__(self, port: int) -> None:
        self._address = ("127.0.0.1", port)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        self._socket.sendto(data, self._address)


MakeSetup = Callable[..., Setup]
"""Makes a Setup on a server (`kind`), or on a Redis of the test's own (`server`), with other sections."""


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Kind, EmbeddedRedis]]:
    """A Redis with the TimeSeries module and one without; tests tell themselves apart by their keys' prefix."""
    folder = tmp_path_factory.mktemp("redis")
    with (
        EmbeddedRedis(folder / "module", persistent=False) as module,
        EmbeddedRedis(folder / "plain", modules=False, persistent=False) as plain,
    ):
        yield {"module": module, "plain": plain}


@pytest.fixture(scope="session")
def find_server(
    servers: dict[Kind, EmbeddedRedis], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[Kind], RedisUrl]]:
    """Servers by their kind. Clusters start with the first test that wants one."""
    clusters: dict[Kind, RedisCluster] = {}
    with ExitStack() as stack:

        def find(kind: Kind) -> RedisUrl:
            if kind in servers:
                return servers[kind]
            if kind not in clusters:
                program = find_plain_server() if kind == "plain-cluster" else None
                if kind == "plain-cluster" and not program:
                    pytest.skip("no Redis without TimeSeries on this machine")
                folder = tmp_path_factory.mktemp(kind)
                clusters[kind] = stack.enter_context(redis_cluster(folder, program, replicas=0))
            return clusters[kind]

        yield find


@pytest.fixture
def make_setup(find_server: Callable[[Kind], RedisUrl], tmp_path: Path) -> Iterator[MakeSetup]:
    made: list[Setup] = []

    def make(kind: Kind = "module", server: RedisUrl | None = None, **sections: Json) -> Setup:
        setup = Setup(server or find_server(kind), tmp_path, **sections)
        made.append(setup)
        return setup

    yield make
    for setup in made:
        setup.store.close()


@pytest.fixture(autouse=True)
def patient_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let probes and metrics in this process wait for Redis: a loaded machine is no Redis that hangs."""
    for module in ("fleet_metrics", "watch"):
        monkeypatch.setattr(f"companion.http.monitoring.{module}.PATIENCE_SECONDS", 30.0)


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    """A Redis that keeps what it has when it is stopped."""
    with EmbeddedRedis(tmp_path / "redis") as redis:
        yield redis
