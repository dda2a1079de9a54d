"""Put everything together: two Redis servers, all services in processes of their own, phones, readers and strangers."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from random import Random
from typing import Any, Final

import zmq

from companion import config
from companion.bus.curve import Curve
from companion.services.app import ServiceName
from companion.simulator.calls import SimulatedCalls
from companion.simulator.redis import find_free_port
from companion.store.store import Store, open_store
from tests.fake_clock import LIBRARY, Clock
from tests.soak.load import Load
from tests.soak.phones import Phones
from tests.soak.readers import Answers, Readers
from tests.soak.redis_pair import RedisPair
from tests.soak.service import Service
from tests.soak.strangers import NODE as STRANGER
from tests.soak.strangers import SECRET, BusStranger, HttpStrangers
from tests.soak.tap import Tap
from tests.soak.waiting import wait_until

PING_SECONDS: Final = 1
LOADS: Final = {"east": "udp", "west": "tcp"}
"""Nodes whose events are all accounted for, and how their OpenSIPS sends them."""
PHONES: Final = "phones"
PHONES_SIZE: Final = 200
READY_SECONDS: Final = 240.0

_CONFIG: Final = """
[redis]
url = "{redis}"
[consumer]
subscribe = [{buses}]
curve_server_key = "{server}"
curve_secret_key = "{secret}"
[pings]
interval = {interval}
[[opensips]]
node = "{phones}"
mi_url = "{mi}"
probe_url = "{probe}"
subscribe = true
events_to = "{events_to}"
[remediation]
mode = "enforce"
sweep_interval = 3
disconnect_grace = 3
ghost_grace = 3
push_grace = 5
push_per_day = 100000
suspects_per_hour = 100000
breaker_calm = 3
[api]
listen = "127.0.0.1:{api}"
[media]
secret = "{media}"
[log]
format = "json"
"""


class World:
    """Hold all parts of a run; `rate` is in events a second, and the same seed gives the same faults and phones."""

    def __init__(self, folder: Path, seed: int, rate: int) -> None:
        self.folder = folder
        self.redis = RedisPair(folder)
        self.api_port = find_free_port()
        self.services: dict[str, Service] = {}
        self.endpoints = {node: f"tcp://127.0.0.1:{find_free_port()}" for node in (*LOADS, PHONES, STRANGER)}
        self._inputs = {
            node: f"{proto}:127.0.0.1:{find_free_port()}" for node, proto in {**LOADS, PHONES: "udp"}.items()
        }
        self._bridge_keys, self._our_keys = zmq.curve_keypair(), zmq.curve_keypair()
        share = (rate - PHONES_SIZE) // len(LOADS)
        self.loads = [
            Load(node, self._inputs[node], phones=max(1, share * PING_SECONDS), per_second=share, seed=seed)
            for node in LOADS
        ]
        self.phones = Phones(PHONES, PHONES_SIZE, PING_SECONDS, seed)
        self.writers_clock, self.readers_clock = Clock(folder / "clock-of-writers"), Clock(folder / "clock-of-readers")
        self.chance = Random(seed)
        self.readers = Readers(self.api_port, self.loads[0].devices[:20], seed)
        self.http_strangers = HttpStrangers(self.api_port, self.chance)
        self.failures: list[str] = []
        """What failed in the harness itself: then the run proves nothing."""
        self.store: Store
        self._tasks: list[asyncio.Task[Any]] = []

    @property
    def server_key(self) -> str:
        """Return the public key of the bridges."""
        return self._bridge_keys[0].decode()

    @property
    def publishers(self) -> list[str]:
        """Return the endpoints of the real bridges."""
        return [self.endpoints[node] for node in (*LOADS, PHONES)]

    @asynccontextmanager
    async def running(self) -> AsyncIterator["World"]:
        """Start all parts, wait until the companion is ready, and end them all."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.redis)
            await self.phones.start()
            stack.push_async_callback(self.phones.opensips.stop)
            file = self._write_config()
            self._make_services(file)
            self.config = config.load(file, {})
            self.store = await asyncio.to_thread(open_store, self.config.redis)
            stack.callback(self.store.close)
            stack.push_async_callback(self.stop)
            await self._start()
            yield self

    async def stop(self) -> None:
        """End readers and services; the phones stop before."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        await asyncio.gather(*(service.stop() for service in self.services.values()))

    async def stop_events(self) -> None:
        for load in self.loads:
            load.stop()
        await asyncio.gather(*self._loading)
        self.phones.opensips.pause_events()

    @contextmanager
    def quiet(self, node: str) -> Iterator[None]:
        """Let a node's OpenSIPS send nothing for a while."""
        if node == PHONES:
            self.phones.opensips.pause_events()
            yield
            self.phones.opensips.resume_events()
            return
        load = next(load for load in self.loads if load.node == node)
        load.is_paused = True
        yield
        load.is_paused = False

    def consumers(self) -> list[Service]:
        return [service for service in self.services.values() if service.kind == "consumer"]

    def bridges(self) -> list[Service]:
        return [service for service in self.services.values() if service.kind == "bridge"]

    def schedulers(self) -> list[Service]:
        return [service for service in self.services.values() if service.kind == "scheduler"]

    def active_consumer(self) -> Service:
        """Return the consumer that holds the lease of the first node, else any."""
        holder = str(self.store.connection.call("GET", self.store.keys.lease(self.loads[0].node)) or "")
        pids = holder.split("/")[1:2]
        return next((one for one in self.consumers() if str(one.pid) in pids), self.consumers()[0])

    def is_ready(self) -> bool:
        """Return whether the API says that the companion is ready."""
        return self.readers.is_ready

    def _write_config(self) -> Path:
        file = self.folder / "config.toml"
        file.write_text(
            _CONFIG.format(
                redis=self.redis.url,
                buses=", ".join(f'"{endpoint}"' for endpoint in self.endpoints.values()),
                server=self.server_key,
                secret=self._our_keys[1].decode(),
                interval=PING_SECONDS,
                phones=PHONES,
                mi=self.phones.opensips.mi_url,
                probe=self.phones.opensips.probe_url,
                events_to=self._inputs[PHONES],
                api=self.api_port,
                media=SECRET,
            )
        )
        return file

    def _make_services(self, file: Path) -> None:
        for name, kind, environment in self._describe_services():
            clock = self.writers_clock if kind in {"bridge", "consumer"} else self.readers_clock
            faked = clock.environment if LIBRARY else {}
            self.services[name] = Service(name, kind, file, {**faked, **environment})

    def _describe_services(self) -> Iterator[tuple[str, ServiceName, dict[str, str]]]:
        for node in (*LOADS, PHONES):
            kind = "DATAGRAM" if self._inputs[node].startswith("udp") else "STREAM"
            other = "STREAM" if kind == "DATAGRAM" else "DATAGRAM"
            inputs = {f"COMPANION_BRIDGE__{kind}": self._inputs[node], f"COMPANION_BRIDGE__{other}": ""}
            yield f"bridge-{node}", "bridge", {**self._bridge_environment(node), **inputs}
        for number in (1, 2):
            yield f"consumer-{number}", "consumer", {}
            yield f"scheduler-{number}", "scheduler", {}
        yield "api", "api", {}

    def _bridge_environment(self, node: str) -> dict[str, str]:
        return {
            "COMPANION_BRIDGE__NODE": node,
            "COMPANION_BRIDGE__PUBLISH": self.endpoints[node],
            "COMPANION_BRIDGE__CURVE_SECRET_KEY": self._bridge_keys[1].decode(),
            "COMPANION_BRIDGE__CURVE_CLIENTS": self._our_keys[0].decode(),
        }

    async def _start(self) -> None:
        """Start receivers before senders: nothing is lost at the start."""
        ours = Curve(self._our_keys[1].decode(), server=self.server_key)
        bridges = Curve(self._bridge_keys[1].decode(), clients=(self._our_keys[0].decode(),))
        self.tap = Tap(tuple(self.publishers), ours)
        self.bus_stranger = BusStranger(self.endpoints[STRANGER], bridges, self.chance)
        self._do(self.tap.run(), self.bus_stranger.run(), self.readers.run(), self.phones.revive())
        for service in self.services.values():
            service.start()
        await wait_until(self.is_ready, READY_SECONDS, "a companion that is ready")
        self.readers.answers = Answers()
        calls = SimulatedCalls(self.phones.opensips.fleet, f"http://127.0.0.1:{self.api_port}", SECRET)
        self._do(calls.run())
        self._loading = self._do(*(load.run() for load in self.loads))

    def _do(self, *works: Coroutine[Any, Any, None]) -> list[asyncio.Task[None]]:
        tasks = [asyncio.create_task(work) for work in works]
        for task in tasks:
            task.add_done_callback(self._note_failure)
        self._tasks += tasks
        return tasks

    def _note_failure(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            self.failures.append(f"{task.get_coro()}: {error!r}")
