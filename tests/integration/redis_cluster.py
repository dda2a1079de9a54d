"""Run a Redis Cluster: three masters, each with a replica."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from companion.simulator.redis import RedisServer, find_free_port, find_redis_server
from tests.integration.certificates import Certificates

SYSTEM = Path("/usr/bin/redis-server")
SLOTS = 16384
NODE_TIMEOUT_MS = 1000
START_SECONDS = 30.0


class Server:
    """One server of a Cluster."""

    def __init__(self, folder: Path, program: RedisServer, certificates: Certificates | None = None) -> None:
        self.port = find_free_port()
        self.bus_port = find_free_port()
        """Not 10,000 above the other, as is the default: outgoing connections have such ports."""
        self.client = Redis("127.0.0.1", self.port, decode_responses=True, **_trust(certificates))
        options = {
            **_tls(self.port, certificates),
            "bind": "127.0.0.1",
            "dir": folder,
            "save": "",
            "appendonly": "no",
            "cluster-enabled": "yes",
            "cluster-node-timeout": NODE_TIMEOUT_MS,
            "cluster-port": self.bus_port,
            "cluster-config-file": f"nodes-{self.port}.conf",
            "repl-diskless-sync-delay": 0,
        }
        words = [str(program.binary), *(word for name, value in options.items() for word in (f"--{name}", str(value)))]
        for module in program.modules:
            words += ["--loadmodule", str(module.resolve())]
        self.process = subprocess.Popen(words, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def call(self, *command: Any) -> Any:
        return self.client.execute_command(*command)  # type: ignore[no-untyped-call]

    @property
    def id(self) -> str:
        return str(self.call("CLUSTER MYID"))

    def is_up(self) -> bool:
        try:
            return bool(self.client.ping())
        except RedisError:
            return False

    def is_master(self) -> bool:
        try:
            return bool(self.call("ROLE")[0] == "master" and self.call("CLUSTER INFO")["cluster_state"] == "ok")
        except RedisError:
            return False

    def kill(self) -> None:
        """End it as kill -9 does."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(10)

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Stop it as a machine that hangs, and let it go on after the block."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)


def _tls(port: int, certificates: Certificates | None) -> dict[str, Any]:
    """Return the port, or how to speak TLS with all: clients need a certificate of the same authority."""
    if not certificates:
        return {"port": port}
    files = {"ca-cert": certificates.ca, "cert": certificates.certificate, "key": certificates.key}
    return {
        "port": 0,
        "tls-port": port,
        "tls-cluster": "yes",
        "tls-replication": "yes",
        **{f"tls-{name}-file": path for name, path in files.items()},
    }


def _trust(certificates: Certificates | None) -> dict[str, Any]:
    if not certificates:
        return {}
    files = {"ca_certs": certificates.ca, "certfile": certificates.certificate, "keyfile": certificates.key}
    return {"ssl": True, **{f"ssl_{name}": str(path) for name, path in files.items()}}


class RedisCluster:
    """Three masters, and the replica of each."""

    def __init__(self, masters: Sequence[Server], replicas: Sequence[Server]) -> None:
        self.masters = list(masters)
        self.replicas = list(replicas)
        self.login = ""
        """`USER:PASSWORD@`, where the companion has a user."""

    @property
    def hosts(self) -> str:
        return ",".join(f"127.0.0.1:{server.port}" for server in self.masters)

    @property
    def url(self) -> str:
        return f"redis+cluster://{self.login}{self.hosts}"

    def build(self) -> None:
        """Make a Cluster of servers that do not know each other."""
        wait_for(lambda: all(server.is_up() for server in self.all()))
        first, share = self.masters[0], SLOTS // len(self.masters) + 1
        for number, server in enumerate(self.all(), 1):
            server.call("CLUSTER SET-CONFIG-EPOCH", number)
            server.call("CLUSTER MEET", "127.0.0.1", first.port, first.bus_port)
        for number, server in enumerate(self.masters):
            server.call("CLUSTER ADDSLOTSRANGE", number * share, min(SLOTS, (number + 1) * share) - 1)
        wait_for(lambda: all(len(server.call("CLUSTER NODES")) == len(self.all()) for server in self.all()))
        for master, replica in zip(self.masters, self.replicas, strict=False):
            replica.call("CLUSTER REPLICATE", master.id)
        wait_for(self.is_whole)

    def all(self) -> list[Server]:
        return [*self.masters, *self.replicas]

    def is_whole(self) -> bool:
        """Return whether all slots are served, and each replica has what its master has."""
        states = [server.call("CLUSTER INFO") for server in self.all()]
        links = [server.client.info("replication") for server in self.replicas]
        return all(state["cluster_state"] == "ok" for state in states) and all(
            link.get("master_link_status") == "up" for link in links
        )

    def cut_off(self, number: int) -> None:
        """End the replication from a master, and refuse it from then on."""
        master = self.masters[number]
        master.call("ACL", "SETUSER", "default", "-psync", "-sync", "-replconf")
        master.call("CLIENT", "KILL", "TYPE", "replica")

    def owner(self, slot: int) -> Server:
        """Return the master that has a slot."""
        rows = self.masters[0].call("CLUSTER SLOTS")
        port = next(primary[1] for first, last, primary, *_ in rows if first <= slot <= last)
        return next(server for server in self.all() if server.port == port)

    def move_slot(self, slot: int, target: Server, *, at_once: int = 10) -> None:
        """Move a slot with its keys to another master, as redis-cli does."""
        source = self.owner(slot)
        target.call("CLUSTER SETSLOT", slot, "IMPORTING", source.id)
        source.call("CLUSTER SETSLOT", slot, "MIGRATING", target.id)
        while keys := source.call("CLUSTER GETKEYSINSLOT", slot, at_once):
            source.call("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
        for server in (target, source, *(one for one in self.masters if one not in (source, target))):
            server.call("CLUSTER SETSLOT", slot, "NODE", target.id)


def find_plain_server() -> RedisServer | None:
    """Return a Redis of this machine without TimeSeries that can be a Cluster."""
    return RedisServer(SYSTEM) if SYSTEM.is_file() else None


def wait_for(condition: Any) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "the Cluster did not get ready in time"
        time.sleep(0.02)


@contextmanager
def redis_cluster(
    folder: Path, program: RedisServer | None = None, *, replicas: int = 3, certificates: Certificates | None = None
) -> Iterator[RedisCluster]:
    """Run a Cluster of three masters and so many replicas, with TLS if there are certificates."""
    folder.mkdir(parents=True, exist_ok=True)
    program = program or find_redis_server()
    with ExitStack() as stack:
        servers = []
        for _ in range(3 + replicas):
            server = Server(folder, program, certificates)
            stack.callback(server.process.wait)
            stack.callback(server.process.kill)
            stack.callback(server.client.close)
            servers.append(server)
        cluster = RedisCluster(servers[:3], servers[3:])
        cluster.build()
        yield cluster
