"""Simulate clusters of OpenSIPS nodes with phones that move, sleep and die, under random faults. Time is simulated.

Everything behind the bus is real: recorder, Redis, sweep, rule. MI and questions are answered by the simulation, which
knows at each removal whether the phone could be reached.
"""

import random
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Self

import msgspec

from companion.bus.envelope import HEARTBEAT, Message
from companion.opensips.events import DELETE, DISCONNECT, INSERT, LATENCY, LOST_PING_US, UPDATE

INTERVAL: Final = 10.0
TICK: Final = 5.0
THRESHOLD: Final = 2.0
LIFETIME: Final = 3600.0
START: Final = 1_795_000_000.0
WILDCARD: Final = "0.0.0.0"


@dataclass(eq=False)
class SoakPhone:
    """Hold one phone: where it is connected, and whether it can be reached now."""

    aor: str
    instance: str
    transport: str
    token: str
    cluster: "SoakCluster"
    loss: float
    behind_proxy: bool = False
    node: "SoakNode | None" = None
    binding: "SoakBinding | None" = None
    address: tuple[str, int] = ("", 0)
    state: str = "off"
    muted_until: float = 0.0
    cseq: int = 0
    callid: str = ""
    uri_params: str = ""


@dataclass(eq=False)
class SoakBinding:
    """Hold one binding of usrloc, shared by the nodes of a cluster."""

    uri: str
    phone: SoakPhone
    owner: "SoakNode"
    received: str
    address: tuple[str, int]
    callid: str
    cseq: int
    expires_at: float
    latency_us: dict[str, int] = field(default_factory=dict)
    dead_at: float = 0.0
    answered: bool = False

    @property
    def is_reachable(self) -> bool:
        """Return whether the phone is there, on this binding's own connection."""
        phone = self.phone
        return phone.state == "on" and phone.binding is self and phone.address == self.address


@dataclass(eq=False)
class SoakNode:
    """Hold one OpenSIPS with its bridge: sequence numbers, faults, and what waits to be delivered."""

    name: str
    host: str
    cluster: "SoakCluster"
    run: int = 1
    seqs: Counter[str] = field(default_factory=Counter)
    queue: list[tuple[float, str, dict[str, Any]]] = field(default_factory=list)
    bridge_up: bool = True
    mi_up: bool = True
    is_up: bool = True
    way_works: bool = True
    doubles: bool = False
    stream_breaks: int = 0
    unsynced_until: float = 0.0

    def socket(self, transport: str) -> str:
        """Return its listening socket of a transport, as events name it."""
        host = WILDCARD if self.cluster.wildcard else self.host
        return f"{transport}:{host}:{5060 if transport == 'udp' else 8080}"


@dataclass(eq=False)
class SoakCluster:
    """Hold nodes that share usrloc, and who of them pings which contact."""

    name: str
    pinging: str
    wildcard: bool
    nodes: list[SoakNode] = field(default_factory=list)
    bindings: dict[tuple[str, str], SoakBinding] = field(default_factory=dict)

    def pingers(self, binding: SoakBinding) -> list[SoakNode]:
        """Return the nodes that ping a binding."""
        alive = [node for node in self.nodes if node.is_up and self.pinging != "never"]
        if self.pinging == "all" or not alive:
            return alive
        if self.pinging == "ownership" and binding.owner.is_up:
            return [binding.owner]
        return [alive[zlib.crc32(binding.phone.aor.encode()) % len(alive)]]


class FleetWorld:
    """Move phones, nodes and their faults on by ticks; `messages` then come over the bus."""

    def __init__(self, chance: random.Random, *, faults: bool = False, acts: bool = False) -> None:
        self.chance = chance
        self.faults = faults
        self.acts = acts
        self.now = START
        self.clock_error = 0.0
        self.networks = 3
        self.clusters: list[SoakCluster] = []
        self.nodes: dict[str, SoakNode] = {}
        self.phones: list[SoakPhone] = []
        self.wrong: list[str] = []
        self.removed = self.left = 0
        self._used_addresses: list[tuple[str, int]] = []

    @classmethod
    def random(cls, seed: int, *, phones: int, faults: bool) -> Self:
        """Make clusters and phones by chance; they act by chance, too."""
        world = cls(random.Random(seed), faults=faults, acts=True)
        clusters = [world._make_cluster(f"c{number}") for number in range(world.chance.choice((1, 1, 2)))]
        world.clusters = clusters
        world._enter(clusters, [world._make_phone(number) for number in range(phones)])
        return world

    @classmethod
    def of(cls, clusters: list[SoakCluster], phones: list[SoakPhone], *, networks: int = 3) -> Self:
        """Make a world of these, each phone on the first node of its cluster. Nothing happens by chance."""
        world = cls(random.Random(0))
        world.networks = networks
        world._enter(list(dict.fromkeys(clusters)), phones)
        return world

    def _enter(self, clusters: list[SoakCluster], phones: list[SoakPhone]) -> None:
        self.clusters, self.phones = clusters, phones
        self.nodes = {node.name: node for cluster in clusters for node in cluster.nodes}
        for phone in phones:
            self.register(phone)

    # Making

    def _make_cluster(self, name: str) -> SoakCluster:
        chance = self.chance
        cluster = SoakCluster(name, chance.choice(("cooperation", "ownership", "all")), chance.random() < 0.3)
        for number in range(chance.choice((1, 2, 2))):
            run = 1_000_000 * chance.randrange(1, 1000)
            cluster.nodes.append(SoakNode(f"{name}-n{number}", f"203.0.113.{number + 1}", cluster, run))
        return cluster

    def _make_phone(self, number: int) -> SoakPhone:
        chance = self.chance
        twin = number and chance.random() < 0.1
        aor = f"user{number - 1 if twin else number}"
        instance = f"urn:uuid:{number - 1 if twin else number}" if chance.random() < 0.9 else ""
        token = f"T{number}" if twin or chance.random() < 0.3 else ""
        transport = chance.choice(("ws", "ws", "tcp", "udp"))
        loss = chance.choice((0.0, 0.0, 0.05, 0.4))
        behind_proxy = chance.random() < 0.05
        if behind_proxy:
            loss = 0.0  # it can not be asked: nobody could tell it from a dead one
        return SoakPhone(aor, instance, transport, token, chance.choice(self.clusters), loss, behind_proxy)

    # Phones

    def register(self, phone: SoakPhone, *, new_uri: bool = True) -> None:
        """Let a phone connect and register, on a node that is up."""
        nodes = [node for node in phone.cluster.nodes if node.is_up]
        if not nodes:
            phone.state = "off"
            return
        phone.node, phone.address = self.chance.choice(nodes) if self.acts else nodes[0], self._address()
        phone.state, phone.cseq = "on", phone.cseq + 1
        uri = phone.binding.uri if phone.binding and not new_uri else self._uri(phone)
        phone.callid = phone.callid if phone.binding and not new_uri else f"call{self.chance.getrandbits(40):x}"
        self._save(phone, uri)

    def _save(self, phone: SoakPhone, uri: str) -> None:
        assert phone.node is not None
        host, port = phone.address
        received = "" if phone.transport == "udp" and not port else f"sip:{host}:{port};transport={phone.transport}"
        bindings, key = phone.cluster.bindings, (phone.aor, uri)
        name = UPDATE if key in bindings else INSERT
        old, expires_at = phone.binding, self.now + LIFETIME
        phone.binding = bindings[key] = SoakBinding(
            uri, phone, phone.node, received, phone.address, phone.callid, phone.cseq, expires_at
        )
        phone.binding.answered = old is not None and old.uri == uri and old.answered
        if old is not None and old is not phone.binding and old.uri != uri:
            self._die(old)
        for node in phone.cluster.nodes:
            self._raise_contact(node, name, phone.binding, delay=0.0 if node is phone.node else 0.02)

    def _uri(self, phone: SoakPhone) -> str:
        token = f";pn-provider=fcm;pn-prid={phone.token}" if phone.token else ""
        host = f"{self.chance.getrandbits(40):x}.invalid"
        return f"sip:{phone.aor}@{host};transport={phone.transport}{token}{phone.uri_params}"

    def _address(self) -> tuple[str, int]:
        if self._used_addresses and self.chance.random() < 0.3:
            return self.chance.choice(self._used_addresses)  # NAT hands out a port again
        host = f"198.51.{self.chance.randrange(self.networks)}.{self.chance.randrange(1, 250)}"
        return host, self.chance.randrange(1024, 65000)

    def disconnect(self, phone: SoakPhone, *, is_reported: bool) -> None:
        """End a phone's connection; its node may tell, even late."""
        if phone.transport == "udp" or phone.node is None:
            return
        self._used_addresses.append(phone.address)
        if is_reported and phone.node.is_up:
            self.raise_disconnect(phone.node, phone.address, phone.transport, delay=self.chance.choice((0.0, 0.0, 4.0)))

    def _die(self, binding: SoakBinding) -> None:
        if not binding.dead_at:
            binding.dead_at = self.now

    def act(self, phone: SoakPhone) -> None:
        """Let a phone do something, or nothing."""
        if phone.state != "on":
            if self.chance.random() < 0.05:
                self.register(phone, new_uri=self.chance.random() < 0.5)
            return
        dice = self.chance.random()
        for chance, step in (
            (0.010, self._roam),
            (0.010, self._reload),
            (0.010, self._end),
            (0.004, self._fall_mute),
            (0.006, self._refresh),
            (0.003, self._unregister),
            (0.003, self._end_another_connection),
        ):
            dice -= chance
            if dice < 0:
                step(phone)
                return

    def _roam(self, phone: SoakPhone) -> None:
        self.disconnect(phone, is_reported=self.chance.random() < 0.7)
        self.register(phone, new_uri=False)

    def _reload(self, phone: SoakPhone) -> None:
        self.disconnect(phone, is_reported=True)
        self.register(phone)

    def _end(self, phone: SoakPhone) -> None:
        assert phone.binding is not None
        phone.state = "off"
        self._die(phone.binding)
        self.disconnect(phone, is_reported=self.chance.random() < 0.5)

    def _fall_mute(self, phone: SoakPhone) -> None:
        """Lose the pings of a phone that can be reached all the same, and asked."""
        if not phone.behind_proxy:
            phone.muted_until = self.now + self.chance.uniform(1, 6) * INTERVAL

    def _refresh(self, phone: SoakPhone) -> None:
        assert phone.binding is not None
        phone.cseq += 1
        self._save(phone, phone.binding.uri)

    def _unregister(self, phone: SoakPhone) -> None:
        assert phone.binding is not None
        self._delete(phone.cluster, phone.binding)
        phone.state = "off"

    def _end_another_connection(self, phone: SoakPhone) -> None:
        """End another connection from the phone's address: to another socket, or on another node."""
        transport, node = self.chance.choice(("ws", "wss", "tcp")), self.chance.choice(phone.cluster.nodes)
        is_another = transport != phone.transport or node is not phone.node
        if node.is_up and phone.transport != "udp" and is_another:
            self.raise_disconnect(node, phone.address, transport, delay=0.0)

    def _delete(self, cluster: SoakCluster, binding: SoakBinding) -> None:
        cluster.bindings.pop((binding.phone.aor, binding.uri), None)
        for node in cluster.nodes:
            self._raise_contact(node, DELETE, binding, delay=0.01)

    # Nodes

    def fail(self) -> None:
        """Let a fault begin or end, or nothing."""
        node = self.chance.choice(list(self.nodes.values()))
        dice = self.chance.random()
        if dice < 0.02:
            node.bridge_up = not node.bridge_up
            if node.bridge_up:
                self._new_run(node)
        elif dice < 0.04:
            node.mi_up = not node.mi_up
        elif dice < 0.06:
            node.way_works = not node.way_works
        elif dice < 0.075:
            node.doubles = not node.doubles
        elif dice < 0.09:
            node.stream_breaks += 1
            node.queue.clear()
        elif dice < 0.10:
            self._restart(node)
        elif dice < 0.11:
            self.clock_error = self.chance.choice((0.0, 0.0, 3600.0, -3600.0, 5.0))
        else:
            self._heal(node)

    def _heal(self, node: SoakNode) -> None:
        if self.chance.random() < 0.3:
            node.mi_up = node.way_works = True
            node.doubles = False
            if not node.bridge_up:
                node.bridge_up = True
                self._new_run(node)

    def _new_run(self, node: SoakNode) -> None:
        node.run += 1
        node.seqs.clear()
        node.queue.clear()

    def _restart(self, node: SoakNode) -> None:
        """Restart a node: its connections end without a word; a lone node forgets its contacts."""
        for phone in self.phones:
            if phone.node is node and phone.transport != "udp" and phone.state == "on" and phone.binding:
                self._die(phone.binding)
                phone.state = "off"
        if len(node.cluster.nodes) == 1:
            node.cluster.bindings.clear()
        else:  # the others have not sent it their contacts yet
            node.unsynced_until = self.now + 3 * INTERVAL
        for binding in node.cluster.bindings.values():
            binding.latency_us.pop(node.name, None)

    # Pings and events

    def tick(self) -> None:
        """Move everything on by TICK seconds."""
        for phone in self.phones if self.acts else ():
            self.act(phone)
        if self.faults:
            self.fail()
        is_ping_turn = round(self.now / TICK) % round(INTERVAL / TICK) == 0
        for cluster in self.clusters:
            for binding in list(cluster.bindings.values()):
                if binding.expires_at <= self.now:
                    self._delete(cluster, binding)
                elif is_ping_turn:
                    for node in cluster.pingers(binding):
                        self._ping(node, binding)
        self.now += TICK

    def _ping(self, node: SoakNode, binding: SoakBinding) -> None:
        phone = binding.phone
        lost = self.chance.random() < phone.loss or self.now < phone.muted_until or not self.reaches(node, binding)
        binding.answered |= not lost
        binding.latency_us[node.name] = LOST_PING_US if lost else self.chance.randrange(5_000, 90_000)
        self._raise_contact(node, LATENCY, binding, delay=THRESHOLD if lost else 0.05)

    @staticmethod
    def reaches(node: SoakNode, binding: SoakBinding) -> bool:
        """Return whether a packet of this node gets to the phone."""
        return binding.is_reachable and binding.phone.node is node

    def _raise_contact(self, node: SoakNode, name: str, binding: SoakBinding, *, delay: float) -> None:
        phone = binding.phone
        names_socket = node is binding.owner or node.cluster.wildcard
        params = {
            "domain": "location",
            "aor": phone.aor,
            "uri": binding.uri,
            "received": binding.received,
            "path": "<sip:proxy.example;lr>" if phone.behind_proxy else None,
            "user_agent": "Soak",
            "socket": node.socket(phone.transport) if names_socket else "",
            "bflags": 0,
            "expires": round(binding.expires_at),
            "callid": binding.callid,
            "cseq": binding.cseq,
            "attr": f"<{phone.instance}>" if phone.instance else "",
            "latency": binding.latency_us.get(node.name, 0),
        }
        self._raise(node, name, params, delay)

    def raise_disconnect(self, node: SoakNode, address: tuple[str, int], transport: str, *, delay: float) -> None:
        host = WILDCARD if node.cluster.wildcard else node.host
        source = {"src_ip": address[0], "src_port": address[1]}
        self._raise(node, DISCONNECT, {**source, "dst_ip": host, "dst_port": 8080, "proto": transport}, delay)

    def _raise(self, node: SoakNode, name: str, params: dict[str, Any], delay: float) -> None:
        if not node.is_up:
            return
        late = self.chance.choice((0.0,) * 20 + (1.0, 3.0)) if self.faults else 0.0
        if self.faults and self.chance.random() < 0.01:
            return  # lost where nobody can count it
        node.queue.append((self.now + delay + late, name, params))
        if node.doubles:
            node.queue.append((self.now + delay + late + 0.003, name, params))

    # The bus

    def messages(self) -> Iterator[Message]:
        """Return what the bridges publish up to now."""
        for node in self.nodes.values():
            due = sorted((event for event in node.queue if event[0] <= self.now), key=lambda event: event[0])
            node.queue = [event for event in node.queue if event[0] > self.now]
            if not node.bridge_up:
                continue
            for ts, name, params in due:
                if self.faults and self.chance.random() < 0.002:
                    node.seqs[name] += 1  # lost on the bus, and counted
                yield self._message(node, name, round(ts * 1000), params)
            yield self._heartbeat(node)

    def _message(self, node: SoakNode, name: str, ts: int, params: dict[str, Any]) -> Message:
        seq = node.seqs[name]
        node.seqs[name] += 1
        return Message(name, node.name, node.run, seq, [(ts, pack(params))])

    def _heartbeat(self, node: SoakNode) -> Message:
        seqs = {name: seq - 1 for name, seq in node.seqs.items() if name != HEARTBEAT and seq}
        counts = {"seqs": seqs, "last_event_at": round(self.now * 1000), "stream_breaks": node.stream_breaks}
        return self._message(node, HEARTBEAT, round(self.now * 1000), counts)

    # What the companion asks and does

    def remove(self, cluster: SoakCluster, aor: str, uri: str) -> bool:
        """Remove a contact for the companion, and note it if its phone could be reached."""
        binding = cluster.bindings.pop((aor, uri), None)
        if binding is None:
            return False
        self.removed += 1
        if binding.is_reachable:
            self.wrong.append(f"{aor} {uri} at {self.now:.0f}")
        for node in cluster.nodes:
            self._raise_contact(node, DELETE, binding, delay=0.01)
        return True

    def wake(self, cluster: SoakCluster, aor: str, uri: str) -> None:
        """Let a push reach a phone that sleeps, now and then."""
        binding = cluster.bindings.get((aor, uri))
        if binding and binding.phone.state == "off" and self.chance.random() < 0.3:
            self.register(binding.phone, new_uri=False)

    def count_left(self, limit: float) -> None:
        """Count the contacts that died longer than `limit` seconds ago and should be gone.

        Those with push or Path are kept, and those that never answered: some phones ignore OPTIONS.
        """
        for cluster in self.clusters:
            for binding in cluster.bindings.values():
                due = binding.dead_at and not binding.is_reachable and self.now - binding.dead_at > limit
                if due and binding.answered and not binding.phone.token and not binding.phone.behind_proxy:
                    self.left += 1


def pack(params: dict[str, Any]) -> msgspec.Raw:
    """Return parameters as the bus carries them."""
    return msgspec.Raw(msgspec.msgpack.encode(params))
