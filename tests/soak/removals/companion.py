"""Run recorder and sweep against a simulated fleet, with real Redis, on the fleet's own clock."""

import itertools
import os
import time
from collections import Counter
from typing import Any, Final, Literal, NamedTuple
from unittest.mock import patch

from companion import sip
from companion.config import Config, OpensipsSection
from companion.consumer.recorder import Recorder
from companion.errors import MiUnreachableError
from companion.opensips.mi_contact import MiContact
from companion.opensips.probe import ProbeReply, Question
from companion.query.now import load_view
from companion.query.summary import compute_summary
from companion.remediation.questions import Questioner
from companion.remediation.safety import ClockWatch
from companion.remediation.sweep import Sweeper
from companion.store.networks import save_network_counts
from companion.store.store import Store, open_store
from companion.store.summary import save_summary
from tests.soak.removals.fleet_world import INTERVAL, TICK, FleetWorld, SoakBinding, SoakNode

LOST_AFTER: Final = 3
COUNTED_EVERY: Final = 12
_numbers: Final = itertools.count()
SETTINGS: Final[dict[str, Any]] = {
    "mode": "enforce",
    "disconnect_grace": 5,
    "ghost_grace": 5,
    "push_grace": 10,
    "breaker_calm": 20,
    "max_per_minute": 100_000,
    "node_lost_after": 600,
    "suspects_per_hour": 100_000,
}


class SoakReport(NamedTuple):
    """Hold what a run gave: sweeps, removals, wrong ones, and dead contacts that stayed."""

    seed: int
    sweeps: int
    removed: int
    wrong: list[str]
    left: int


class SoakMi:
    """Answer as MI of one node."""

    def __init__(self, world: FleetWorld, node: SoakNode) -> None:
        self._world = world
        self._node = node

    def _check(self) -> None:
        if not (self._node.mi_up and self._node.is_up):
            raise MiUnreachableError(self._node.name, "it is down")

    async def uptime_seconds(self) -> int:
        self._check()
        return 1

    async def show_contact(self, domain: str, aor: str) -> list[MiContact]:
        self._check()
        if self._world.now < self._node.unsynced_until:
            return []
        bindings = self._node.cluster.bindings.values()
        return [self._record(domain, binding) for binding in bindings if binding.phone.aor == aor]

    def _record(self, domain: str, binding: SoakBinding) -> MiContact:
        phone, node = binding.phone, self._node
        names_socket = node is binding.owner or node.cluster.wildcard
        return MiContact(
            domain=domain,
            aor=phone.aor,
            uri=binding.uri,
            callid=binding.callid,
            cseq=binding.cseq,
            user_agent="Soak",
            received=binding.received,
            path="<sip:proxy.example;lr>" if phone.behind_proxy else "",
            socket=node.socket(phone.transport) if names_socket else "",
            attr="",
            instance=phone.instance,
            seconds_left=100,
            state="active",
            latency_us=binding.latency_us.get(node.name),
            push=False,
            cflags=(),
        )

    async def remove_contact(self, _: str, aor: str, uri: str) -> Literal["removed", "already-gone"]:
        self._check()
        return "removed" if self._world.remove(self._node.cluster, aor, uri) else "already-gone"

    async def raise_event(self, _: str, params: dict[str, Any]) -> None:
        self._check()
        self._world.wake(self._node.cluster, params["aor"], params["uri"])


class SoakProber:
    """Answer as phones do, through one node: over another node's connection there is only silence."""

    def __init__(self, world: FleetWorld, node: SoakNode) -> None:
        self._world = world
        self._node = node

    async def ask(self, question: Question) -> ProbeReply:
        node = self._node
        bindings = node.cluster.bindings.values()
        targets = [binding for binding in bindings if (binding.uri, binding.received) == question[:2]]
        lives = node.way_works and node.is_up and any(self._world.reaches(node, binding) for binding in targets)
        return ProbeReply("answered" if lives else "unanswered", "200 OK" if lives else "408", 1.0)


class SoakAccess:
    """Stand in for NodeAccess: every node has MI, and a way to ask unless `asks` is False."""

    def __init__(self, config: Config, world: FleetWorld, *, asks: bool) -> None:
        self._config = config
        self._world = world
        self._asks = asks

    def tables(self, cluster: str) -> list[OpensipsSection]:
        return [table for table in self._config.opensips if self._config.cluster(table.node) == cluster]

    def mi(self, table: OpensipsSection) -> SoakMi:
        return SoakMi(self._world, self._world.nodes[table.node])

    def prober(self, table: OpensipsSection) -> SoakProber | None:
        return SoakProber(self._world, self._world.nodes[table.node]) if self._asks else None

    def can_ask(self, _: str) -> bool:
        return self._asks

    async def aclose(self) -> None:
        return


class SoakCompanion:
    """Hold recorder, sweep and store beside a world, on its clock."""

    def __init__(self, world: FleetWorld, redis_url: str, *, can_ask: bool = True, **remediation: Any) -> None:
        self.world = world
        self.config = Config.model_validate(
            {
                "redis": {"url": redis_url, "prefix": f"soak{next(_numbers)}-{os.getpid()}:"},
                "pings": {"interval": INTERVAL, "lost_after": LOST_AFTER},
                "opensips": [{"node": node.name, "cluster": node.cluster.name} for node in world.nodes.values()],
                "remediation": SETTINGS | remediation,
            }
        )
        self.store = open_store(self.config.redis)
        access: Any = SoakAccess(self.config, world, asks=can_ask)
        self._recorder, self._sweeper = Recorder(self.config, self.store), Sweeper(self.config, self.store, access)
        self._sweeps = 0
        questioner = Questioner(self.store, access, clock=lambda: world.now)
        self._sweeper._remover.questioner = questioner
        self._sweeper._troubles._clock = ClockWatch(self._now, lambda: world.now)

    def _now(self) -> float:
        return self.world.now + self.world.clock_error

    async def sweep(self) -> None:
        """Record what came over the bus, count the fleet now and then, and sweep."""
        with patch.object(time, "time", self._now):
            await self._recorder.take(list(self.world.messages()))
            await self._recorder.write()
            if self._sweeps % COUNTED_EVERY == 0:
                summary = compute_summary(self.store, load_view(self.config, self.store))
                save_summary(self.store, summary, fresh_ms=600_000)
                save_network_counts(self.store, self._count_networks(), fresh_ms=600_000)
            self._sweeps += 1
            await self._sweeper.run()

    def _count_networks(self) -> Counter[str]:
        bindings = (binding for cluster in self.world.clusters for binding in cluster.bindings.values())
        return Counter(sip.network_prefix(binding.address[0]) for binding in bindings)

    def close(self) -> None:
        """Delete what was stored."""
        _delete_keys(self.store)
        self.store.close()


async def run_seed(seed: int, redis_url: str, *, sweeps: int, phones: int = 20) -> SoakReport:
    """Live one seed; every fifth is without faults."""
    world = FleetWorld.random(seed, phones=phones, faults=bool(seed % 5))
    companion = SoakCompanion(world, redis_url)
    try:
        for _ in range(sweeps):
            world.tick()
            await companion.sweep()
    finally:
        companion.close()
    world.count_left(limit=(LOST_AFTER + 3) * INTERVAL + 2 * TICK)
    return SoakReport(seed, sweeps, world.removed, world.wrong, world.left)


def _delete_keys(store: Store) -> None:
    keys = list(store.connection.redis.scan_iter(f"{store.keys.prefix}*", count=1000))
    for start in range(0, len(keys), 500):
        store.connection.redis.delete(*keys[start : start + 500])
