"""Two real OpenSIPS that share usrloc, a companion that may remove what it likes, and phones with different fates."""

import asyncio
import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, Self

from companion.opensips.mi import Mi
from companion.remediation import audit
from companion.store.nodes import load_feeds
from tests.acceptance.conftest import Build, Ports, Server
from tests.acceptance.edge import Companion, call_mi, settled, shipped
from tests.acceptance.lines import Relay
from tests.sip_phone.phone import Phone

Pinging = Literal["default", "cooperation", "ownership"]
Listening = Literal["own", "wildcard", "same-wildcard", "advertised"]
"""Addresses of their own, 0.0.0.0 with different ports, 0.0.0.0 with the same ports, or addresses `AS` another."""
DOMAIN: Final = "cluster.example"
INTERVAL: Final = 4
"""A contact that is pinged again within ping_threshold (1 s) and what a busy machine adds to it can crash nathelper."""
LOST_AFTER: Final = 3
ADVERTISED: Final = "203.0.113.9"


def find_quiet_port() -> int:
    """Return a free port that no outgoing connection takes, while its server restarts for instance."""
    while True:
        port = random.randrange(20_000, 32_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


class Listeners(NamedTuple):
    """Hold the ports of one node: two WebSocket listeners, TCP, and the link to the other node."""

    second_ws: int
    tcp: int
    bin: int

    @classmethod
    def free(cls) -> Self:
        return cls(*(find_quiet_port() for _ in cls._fields))


class Node(Server):
    """One OpenSIPS of the cluster, `number` 1 or 2, and its bridge."""

    def __init__(self, number: int, place: "Place", ports: Ports, listeners: Listeners) -> None:
        self.number = number
        self.host = place.host
        self.gateway = place.gateway
        self._prefix = place.prefix
        self.name = f"n{number}"
        self.listeners = listeners
        self.datagram = find_quiet_port()
        self.publish = f"tcp://127.0.0.1:{find_quiet_port()}"
        self._ports = ports

    def launch(self, build: Build, folder: Path, config: str) -> None:
        """Start it for the first time."""
        super().__init__(build, folder, config, self._ports, domain=True, prefix=self._prefix)

    @property
    def urls(self) -> tuple[str, str]:
        """Return the addresses of its two WebSocket listeners."""
        return self.ws_url, f"ws://{self.host}:{self.listeners.second_ws}"

    @property
    def udp_url(self) -> str:
        return f"udp://{self.host}:{self._ports.udp}"

    @property
    def tcp_url(self) -> str:
        return f"tcp://{self.host}:{self.listeners.tcp}"

    def sockets(self, listening: Listening) -> str:
        """Return its lines for listening sockets."""
        host = "0.0.0.0" if "wildcard" in listening else self.host
        public = f" AS {ADVERTISED}:443" if listening == "advertised" else ""
        other = f" AS {ADVERTISED}:444" if listening == "advertised" else ""
        return "\n".join(
            (
                f"socket=ws:{host}:{self._ports.ws}{public}",
                f"socket=ws:{host}:{self.listeners.second_ws}{other}",
                f"socket=tcp:{host}:{self.listeners.tcp}",
                f"socket=bin:{self.host}:{self.listeners.bin}",
            )
        )


def quiet_ports() -> Ports:
    return Ports(*(find_quiet_port() for _ in Ports._fields))


@dataclass(frozen=True)
class Setting:
    """Hold how the nodes ping, every so many seconds, and how they listen."""

    pinging: Pinging = "default"
    listening: Listening = "own"
    interval: int = INTERVAL

    def __str__(self) -> str:
        return f"{self.pinging}-{self.listening}"


def configure(build: Build, node: Node, other: Node, link: int, setting: Setting) -> str:
    """Return the shipped opensips.cfg for one node of a cluster; `link` is the port that leads to the other's."""
    host = "0.0.0.0" if "wildcard" in setting.listening else node.host
    modules = ["proto_tcp.so", "proto_bin.so", "clusterer.so"]
    changes = {
        "socket=udp:127.0.0.1:5060": f"socket=udp:{host}:{node._ports.udp}",
        "socket=ws:127.0.0.1:8080": node.sockets(setting.listening),
        '"ip", "127.0.0.1"': f'"ip", "{node.host}"',
        "udp:127.0.0.1:8889": f"udp:{node.host}:{node._ports.probe}",
        "udp:127.0.0.1:5066": f"udp:{node.gateway}:{node.datagram}",
        "#alias=sip.example.com": f"alias={DOMAIN}",
        "udp_workers=4": "udp_workers=1",
        "tcp_workers=4": "tcp_workers=2",
        '"natping_interval", 120': f'"natping_interval", {setting.interval}',
        '"ping_threshold", 3': f'"ping_threshold", {3 if setting.interval > INTERVAL else 1}',
        '"natping_partitions", 4': '"natping_partitions", 1',
        'loadmodule "event_routing.so"': "\n".join(
            f'loadmodule "{module}"' for module in [*modules, "event_routing.so"]
        ),
        '"working_mode_preset", "single-instance-no-db")': '"working_mode_preset", "full-sharing-cluster")\n'
        + "\n".join(_cluster_lines(node, other, link, setting)),
    }
    if setting.pinging == "ownership":
        changes['force-registration")'] = f'force-registration", , "{node.name}")'
        changes['"ping_nated_only", 0)'] = (
            '"ping_nated_only", 0)\nmodparam("nathelper", "cluster_id", 1)\n'
            f'modparam("nathelper", "cluster_sharing_tag", "{node.name}")'
        )
    return shipped(build, node._ports, node.datagram, changes=changes)


def _cluster_lines(node: Node, other: Node, link: int, setting: Setting) -> Iterator[str]:
    flags = ",flags=seed" if node.number == 1 else ""
    own = f"cluster_id=1,url=bin:{node.host}:{node.listeners.bin}{flags}"
    neighbour = f"cluster_id=1,node_id={other.number},url=bin:{node.gateway}:{link}"
    yield 'modparam("usrloc", "location_cluster", 1)'
    yield 'modparam("clusterer", "db_mode", 0)'
    yield f'modparam("clusterer", "my_node_id", {node.number})'
    yield f'modparam("clusterer", "my_node_info", "{own}")'
    yield f'modparam("clusterer", "neighbor_node_info", "{neighbour}")'
    yield 'modparam("clusterer", "ping_interval", 1)'
    yield 'modparam("clusterer", "node_timeout", 2)'
    if setting.pinging != "default":
        yield f'modparam("usrloc", "pinging_mode", "{setting.pinging}")'
    if setting.pinging == "ownership":
        yield f'modparam("clusterer", "sharing_tag", "{node.name}/1=active")'
        yield f'modparam("clusterer", "sharing_tag", "{other.name}/1=backup")'


class Bridge:
    """`companion run bridge` of one node, in a process of its own."""

    def __init__(self, folder: Path, node: Node) -> None:
        table = {"node": node.name, "datagram": f"udp:{node.gateway}:{node.datagram}", "publish": node.publish}
        self._log = folder / f"bridge-{node.name}.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "companion", "run", "bridge"],
                stdout=log,
                stderr=log,
                cwd=folder,
                env={**os.environ, "COMPANION_BRIDGE": json.dumps(table)},
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


class Cluster:
    """Two nodes, the second one not started yet, a bridge for each and one companion in mode enforce."""

    def __init__(self, stack: ExitStack, build: Build, folder: Path, setting: Setting, **sections: Any) -> None:
        self._stack = stack
        self._build = build
        self._folder = folder
        self.setting = setting
        self.nodes = _make_nodes(stack, setting.listening)
        first, second = self.nodes
        self.links = [
            stack.enter_context(Relay(node.listeners.bin, other.gateway, node.host))
            for node, other in ((first, second), (second, first))
        ]
        self.start(self.nodes[0])
        self.companion = stack.enter_context(
            Companion(folder, first.datagram, first.mi_url, **_companion_sections(self.nodes, sections))
        )
        self.bridge = stack.enter_context(Bridge(folder, second))
        self._wait_for_feed(second)

    def _wait_for_feed(self, node: Node) -> None:
        """Wait until the consumer hears the bridge of a node: what comes before that is lost."""
        deadline = time.monotonic() + 60
        while node.name not in load_feeds(self.companion.store):
            assert time.monotonic() < deadline, self.companion.log
            time.sleep(0.1)

    def start(self, node: Node) -> None:
        """Start a node for the first time, and wait until it serves."""
        folder = self._folder / node.name
        folder.mkdir()
        other = self.nodes[2 - node.number]
        config = configure(self._build, node, other, self.links[other.number - 1].port, self.setting)
        node.launch(self._build, folder, config)
        self._stack.callback(node.stop)
        node.wait()

    async def join(self, node: Node, phone: Phone) -> None:
        """Start a node, and wait until it has the contact of a phone on the other one."""
        await asyncio.to_thread(self.start, node)
        await settled(lambda: asyncio.run(self.is_registered(node, phone)))

    def cut_link(self) -> None:
        """Break the connections between the nodes, and let none be made."""
        for link in self.links:
            link.blocked = True
            link.cut()

    def heal_link(self) -> None:
        for link in self.links:
            link.blocked = False

    async def move_tag(self, source: Node, target: Node) -> None:
        """Make the contacts of one node another node's to ping, as an operator does after a failure."""
        method = "clusterer:shtag_set_active" if target.version >= (4,) else "clusterer_shtag_set_active"
        await call_mi(target, method, tag=f"{source.name}/1")

    def audit(self) -> list[dict[str, Any]]:
        """Return all decisions."""
        return [entry for _, entry in audit.read(self.companion.store)]

    async def is_registered(self, node: Node, phone: Phone) -> bool:
        async with Mi(node.mi_url) as mi:
            return any(contact.uri == phone.uri for contact in await mi.show_contact("location", phone.aor))

    async def holders(self, phone: Phone, nodes: Sequence[Node] = ()) -> list[Node]:
        """Return which of these nodes (none: all) have the contact of a phone."""
        return [node for node in nodes or self.nodes if await self.is_registered(node, phone)]


class Place(NamedTuple):
    """Hold where a node runs: its address, ours as it sees it, and what goes before its command."""

    host: str = "127.0.0.1"
    gateway: str = "127.0.0.1"
    prefix: tuple[str, ...] = ()


def _make_nodes(stack: ExitStack, listening: Listening) -> list[Node]:
    if listening != "same-wildcard":
        return [Node(number, Place(), quiet_ports(), Listeners.free()) for number in (1, 2)]
    ports, listeners = quiet_ports(), Listeners.free()
    places = stack.enter_context(network_namespace())
    return [Node(number, place, ports, listeners) for number, place in enumerate(places, 1)]


@contextmanager
def network_namespace() -> Iterator[tuple[Place, Place]]:
    """Make a place on this machine and one in a network namespace of its own, which needs root."""
    number = uuid.uuid4().int
    name = f"oc{number % 100_000}"
    near, far = (f"10.213.{number % 250}.{number // 250 % 60 * 4 + host}" for host in (1, 2))
    commands = (
        f"ip netns add {name}",
        f"ip link add {name}a type veth peer name {name}b netns {name}",
        f"ip addr add {near}/30 dev {name}a",
        f"ip link set {name}a up",
        f"ip -n {name} addr add {far}/30 dev {name}b",
        f"ip -n {name} link set {name}b up",
        f"ip -n {name} link set lo up",
    )
    try:
        for command in commands:
            subprocess.run(command.split(), check=True, capture_output=True)
        yield Place(near, near), Place(far, near, ("ip", "netns", "exec", name))
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def can_make_namespaces() -> bool:
    """Return whether this user may make network namespaces."""
    try:
        with network_namespace():
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


def _companion_sections(nodes: Sequence[Node], sections: Mapping[str, Any]) -> dict[str, Any]:
    tables: dict[str, Any] = {
        "bridge": {
            "node": nodes[0].name,
            "datagram": f"udp:{nodes[0].gateway}:{nodes[0].datagram}",
            "publish": nodes[0].publish,
        },
        "consumer": {"subscribe": [node.publish for node in nodes]},
        "pings": {"interval": INTERVAL, "lost_after": LOST_AFTER},
        "opensips": [
            {"node": node.name, "cluster": "c", "mi_url": node.mi_url, "probe_url": node.probe_url} for node in nodes
        ],
        "remediation": {"disconnect_grace": 5, "breaker_calm": 5, "node_lost_after": 60},
    }
    for name, table in sections.items():
        tables[name] = {**tables.get(name, {}), **table}
    return tables


@contextmanager
def cluster_with(build: Build, folder: Path, setting: Setting, **sections: Any) -> Iterator[Cluster]:
    with ExitStack() as stack:
        yield Cluster(stack, build, folder, setting, **sections)
