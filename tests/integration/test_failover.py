"""Redis fails over: behind a proxy old connections stay with the server that is a replica now."""

import contextlib
import os
import signal
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from redis import Redis

from companion.simulator.redis import EmbeddedRedis
from tests.integration.conftest import Feeder, MakeSetup, Setup, eventually
from tests.integration.web import OPERATE_SECRET, make_web
from tests.integration.web import client as web_client

SECONDS = 30.0
QUICK = {"sweep_interval": 0.25, "warm_up": 0.3}


class Proxy(socketserver.ThreadingTCPServer):
    """A TCP proxy to the port `target`; a connection keeps the server that it began with, as with HAProxy."""

    daemon_threads = True

    def __init__(self, target: int) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.target = target

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.server_address[1]}/0"


class Handler(socketserver.BaseRequestHandler):
    """Carry bytes both ways until one side ends."""

    server: Proxy

    def handle(self) -> None:
        with socket.create_connection(("127.0.0.1", self.server.target)) as far:
            threading.Thread(target=carry, args=(far, self.request), daemon=True).start()
            carry(self.request, far)


def carry(source: socket.socket, destination: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            destination.sendall(data)
        destination.shutdown(socket.SHUT_WR)


@contextmanager
def proxied(target: int) -> Iterator[Proxy]:
    with Proxy(target) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        yield proxy
        proxy.shutdown()


def client(server: EmbeddedRedis) -> Redis:
    return Redis(port=server.port, decode_responses=True)


def replicates(replica: Redis, master: EmbeddedRedis) -> bool:
    """Make one a replica of the other, at once and not after the 5 s that others are waited for; tell when it is."""
    with client(master) as source:
        source.config_set("repl-diskless-sync-delay", 0)
    replica.replicaof("127.0.0.1", str(master.port))
    state: Any = replica.info("replication")
    return bool(state.get("master_link_status") == "up")


def count_sweeps(setup: Setup) -> int:
    return int(setup.store.connection.call("GET", setup.store.keys.fence()) or 0)


async def fail_over(old: EmbeddedRedis, new: EmbeddedRedis, proxy: Proxy) -> None:
    """Make the replica the master, and let new connections lead to it, once it has all that was written."""
    with client(old) as demoted, client(new) as promoted:
        await eventually(lambda: demoted.wait(1, 0) == 1, SECONDS)
        promoted.replicaof("NO", "ONE")
        demoted.replicaof("127.0.0.1", str(new.port))
        proxy.target = new.port


async def test_failover_behind_a_proxy(make_setup: MakeSetup, tmp_path: Path) -> None:
    """Recorder, scheduler and readers follow to the new master by themselves: no event is lost."""
    with (
        EmbeddedRedis(tmp_path / "a") as first,
        EmbeddedRedis(tmp_path / "b") as second,
        proxied(first.port) as proxy,
        client(second) as replica,
    ):
        await eventually(lambda: replicates(replica, first), SECONDS)
        setup = make_setup(server=proxy, consumer={"batch_ms": 50}, remediation=QUICK)
        with setup.process("consumer", "scheduler"):
            await follow(setup, first, second, proxy)


async def follow(setup: Setup, first: EmbeddedRedis, second: EmbeddedRedis, proxy: Proxy) -> None:
    async with Feeder(setup) as feeder:
        await eventually(lambda: setup.events_done() > 500, SECONDS)
        await feeder.pause()
        await eventually(lambda: setup.events_done() == feeder.published, SECONDS)
        await fail_over(first, second, proxy)
        sweeps = count_sweeps(setup)
        for _ in range(500):
            feeder.ping()
        feeder.beat()
        await eventually(lambda: setup.events_done() == feeder.published, SECONDS)
        await eventually(lambda: count_sweeps(setup) >= sweeps + 4, SECONDS)
        assert setup.samples() == feeder.published
    assert setup.feed().missed == 0


@contextmanager
def halted(pid: int) -> Iterator[None]:
    """Stop a process meanwhile, as one that hangs."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def test_what_an_operator_decides_is_replicated(make_setup: MakeSetup, tmp_path: Path) -> None:
    """A replica has switch and pause when the command ends. If it hangs that is said, and both are in force."""
    with (
        EmbeddedRedis(tmp_path / "a") as first,
        EmbeddedRedis(tmp_path / "b") as second,
        client(second) as replica,
    ):
        await eventually(lambda: replicates(replica, first), SECONDS)
        setup = make_web(make_setup, server=first)
        keys = (setup.store.keys.off(), setup.store.keys.pause())
        assert [setup.cli("remediation", *words).returncode for words in (("off",), ("pause", "1h"))] == [0, 0]
        assert replica.exists(*keys) == 2
        setup.store.connection.call("DEL", *keys)
        with halted(second.pid):
            done = [setup.cli("remediation", *words) for words in (("off",), ("pause", "1h"))]
            answer = web_client(setup, secret=OPERATE_SECRET).post("/api/v1/remediation/pause", json={"seconds": 60})
            assert setup.store.connection.call("EXISTS", *keys) == 2
        assert [(one.returncode, "no replica has it yet: say it again" in one.stderr) for one in done] == [
            (1, True)
        ] * 2
        assert (answer.status_code, answer.json()["type"].rpartition(":")[2]) == (503, "not-replicated")
