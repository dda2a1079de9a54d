"""The shipped opensips.cfg on a real OpenSIPS, and `companion run` beside it, in a process of its own."""

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

import httpx2

from companion.config import Config
from companion.query.devices import render_device
from companion.query.now import load_view
from companion.query.row import make_glance
from companion.remediation import audit
from companion.simulator.redis import EmbeddedRedis, find_free_port
from companion.store.devices import load_device
from companion.store.nodes import load_feeds
from companion.store.store import Store, open_store
from companion.store.timeline import load_timeline
from tests.acceptance.conftest import Build, Ports, Server
from tests.sip_phone.phone import Phone

CONFIGS = Path(__file__).parents[2] / "opensips"
# a contact that is pinged again within ping_threshold and a second or so can crash nathelper
INTERVAL = 5
LOST_AFTER = 3
DAY_MS = 24 * 3_600_000
START_SECONDS = 120
"""How long a companion may take to start on a machine that is full; usually it takes two."""


def shipped(build: Build, ports: Ports, datagram: int, *marks: str, changes: Mapping[str, str] | None = None) -> str:
    """opensips.cfg with these marks switched on; only ports, the interval, mpath and `changes` are others."""
    script = (CONFIGS / "opensips.cfg").read_text()
    everywhere = {
        "socket=udp:127.0.0.1:5060": f"socket=udp:127.0.0.1:{ports.udp}",
        "socket=ws:127.0.0.1:8080": f"socket=ws:127.0.0.1:{ports.ws}",
        "socket=wss:127.0.0.1:7443": f"socket=wss:127.0.0.1:{ports.wss}",
        '"port", 8888': f'"port", {ports.mi}',
        "udp:127.0.0.1:8889": f"udp:127.0.0.1:{ports.probe}",
        "udp:127.0.0.1:5066": f"udp:127.0.0.1:{datagram}",
        '"natping_interval", 120': f'"natping_interval", {INTERVAL}',
        "stderror_enabled=no": "stderror_enabled=yes",
        "syslog_enabled=yes": "syslog_enabled=no",
    }
    for old, new in (everywhere | dict(changes or {})).items():
        assert old in script, f"opensips.cfg has no {old}"
        script = script.replace(old, new)
    return for_build(build, script, *marks)


def for_build(build: Build, script: str, *marks: str) -> str:
    """What README.md says is to be done: where modules are, what 3.4 and 4.0 need, the marks to switch on."""
    script = re.sub("^mpath=.*$", f'mpath="{build.modules}/"', script, flags=re.MULTILINE)
    if build.version < (3, 5):
        script = re.sub("^.*receive_buf_size.*$", "", script.replace("#3.4 ", ""), flags=re.MULTILINE)
    if build.version >= (4,):
        script = script.replace("#4.0 ", "")
    for mark in marks:
        assert f"#{mark} " in script
        script = script.replace(f"#{mark} ", "")
    return script


@contextmanager
def running(server: Server) -> Iterator[Server]:
    """A server that was started, until the end of the block."""
    try:
        server.wait()
        yield server
    finally:
        server.stop()


class Edge(NamedTuple):
    """An OpenSIPS with the shipped configuration, and the port its events go to."""

    server: Server
    datagram: int


@contextmanager
def edge_with(build: Build, folder: Path, *marks: str, **changes: str) -> Iterator[Edge]:
    """OpenSIPS with the shipped configuration and these marks on; `changes` are texts of it, old=new in a dict."""
    datagram, ports = find_free_port(), Ports.free()
    config = shipped(build, ports, datagram, *marks, changes=changes)
    with running(Server(build, folder, config, ports, domain=True)) as server:
        yield Edge(server, datagram)


class Companion:
    """`companion run` with a Redis of its own, which hears what comes to `datagram`."""

    def __init__(self, folder: Path, datagram: int, mi_url: str, probe_url: str = "", **sections: Any) -> None:
        self._folder = folder
        self._redis = EmbeddedRedis(folder / "redis", persistent=False)
        self._redis.start()
        bus = f"tcp://127.0.0.1:{find_free_port()}"
        self._tables: dict[str, Any] = {
            "redis": {"url": self._redis.url},
            "bridge": {"datagram": f"udp:127.0.0.1:{datagram}", "publish": bus},
            "consumer": {"subscribe": [bus]},
            "pings": {"interval": INTERVAL, "lost_after": LOST_AFTER},
            "opensips": [{"node": "opensips", "mi_url": mi_url, "probe_url": probe_url}],
            "remediation": {"mode": "enforce", "sweep_interval": 1, "ghost_grace": 1},
            "api": {"listen": f"127.0.0.1:{find_free_port()}"},
        }
        for name, table in sections.items():
            self._tables[name] = {**self._tables.get(name, {}), **table} if isinstance(table, Mapping) else table
        self.config = Config.model_validate(self._tables)
        self.store: Store = open_store(self.config.redis)
        self._environment = {
            **os.environ,
            **{f"COMPANION_{name.upper()}": json.dumps(table) for name, table in self._tables.items()},
        }
        with (folder / "companion.log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "companion", "run"],
                stdout=log,
                stderr=log,
                cwd=folder,
                env=self._environment,
            )

    def __enter__(self) -> Self:
        try:
            self._wait_for_feed()
        except BaseException:
            self._end()
            raise
        return self

    def _wait_for_feed(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not any(feed.heartbeat_at for feed in load_feeds(self.store).values()):
            assert self._process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.05)

    def __exit__(self, *_: object) -> None:
        try:
            self._process.terminate()
            assert self._process.wait(30) == 0, self.log
        finally:
            self._end()

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()
        self.store.close()
        self._redis.stop()

    @property
    def log(self) -> str:
        return (self._folder / "companion.log").read_text(errors="replace")

    async def cli(self, *arguments: str) -> tuple[int, str]:
        """Run a command with the same configuration, and return its exit code and its output."""
        command = [sys.executable, "-m", "companion", *arguments]
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*command, stdout=pipe, env=self._environment)
        out, _ = await asyncio.wait_for(process.communicate(), 60)
        return process.returncode or 0, out.decode()

    def cpu_seconds(self) -> float:
        """What its process used so far."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_bytes(self) -> int:
        resident = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        return resident * os.sysconf("SC_PAGE_SIZE")

    def page(self, device: str) -> dict[str, Any]:
        """All that an operator is told of a device."""
        return render_device(self.store, device, load_view(self.config, self.store), DAY_MS)

    def statuses(self, ids: list[str]) -> list[str]:
        now = load_view(self.config, self.store)
        devices = [load_device(self.store, device_id) for device_id in ids]
        return [make_glance(device, now).status if device else "" for device in devices]

    def counts(self, device: str) -> tuple[int, int]:
        """How many pings were answered and how many lost, as stored."""
        keys, connection, series = self.store.keys, self.store.connection, self.store.series
        both = (keys.latency(device), keys.lost(device))
        answered, lost = (len(series.read(connection, key, 0, 1 << 52)) for key in both)
        return answered, lost

    def decisions(self, device: str) -> list[tuple[str, str]]:
        """(action, result) of all decisions about a device."""
        return [
            (decision["action"], decision["result"])
            for _, decision in audit.read(self.store)
            if decision["device"] == device
        ]

    def events(self, device: str) -> set[str]:
        return {entry["event"] for entry in load_timeline(self.store, device, 0, 1 << 52)}


def device_of(server: Server, phone: Phone) -> str:
    return f"{server.aor(phone.aor.partition('@')[0])}/{phone.instance}"


async def call_mi(server: Server, method: str, **params: Any) -> None:
    """Call a method that the companion has no use for."""
    async with httpx2.AsyncClient() as client:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        assert (await client.post(server.mi_url, json=body)).json()["result"] == "OK"


async def stop_pings(server: Server) -> None:
    await call_mi(server, "nathelper:enable_ping" if server.version >= (4,) else "nh_enable_ping", status=0)


async def settled(condition: Callable[[], object], seconds: float = 100) -> None:
    """Wait for what takes several ping intervals."""
    async with asyncio.timeout(seconds):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110 - the condition is anything, not an event
            await asyncio.sleep(0.1)


def make_certificate(folder: Path) -> None:
    """Write cert.pem and key.pem of 127.0.0.1, signed by themselves."""
    options = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=edge"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    name = ["-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(["openssl", *options, *name, *files], check=True, capture_output=True)
