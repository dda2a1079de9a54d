"""Lease the nodes of a cluster to one consumer at a time, by locks in Redis that run out by themselves.

Nodes of a cluster share their contacts, so one consumer records them all. A lease is one lock of the cluster and one of
each of its nodes: these tell readers who records a node, and keep apart consumers that disagree about the clusters.

Each lease has a token. Who takes a cluster over leaves it beside the data (`fence.py`), which ends the writes of the
consumer before. When a lock ran out and nobody took over, the lease goes on with its token.
"""

import math
import os
import socket
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import lru_cache
from threading import Event
from threading import Lock as Mutex
from typing import Final

from companion.store.fence import take_over
from companion.store.format import check_format
from companion.store.locks import HeldLock, acquire_lock
from companion.store.shards import claim_shards
from companion.store.store import Store

LEASE_SECONDS: Final = 8.0
"""A dead consumer's clusters are free after this time, and another one has them within ten seconds."""
RENEW_SECONDS: Final = 2.0
PAUSE_SECONDS: Final = 0.5
"""How long a consumer that was refused a lease waits before it tries again."""
SETTLE_SECONDS: Final = 0.6
"""Leases of one dead holder run out within this time, and longer than PAUSE_SECONDS."""
YIELD_SECONDS: Final = 4.0
"""How long a free lease is left to others: to those that have listened for a whole lease, or whose share it is."""
MOST_CLUSTERS: Final = 1024


@dataclass(slots=True)
class _Lease:
    """Hold the lease of one cluster: its locks by key, and the nodes that were taken over."""

    token: str
    locks: dict[str, HeldLock] = field(default_factory=dict)
    nodes: set[str] = field(default_factory=set)


class Leases:
    """Hold the leases of one consumer, for any thread of it. `hold` is cheap while a lease is fresh."""

    def __init__(
        self, store: Store, clock: Callable[[], float] = time.monotonic, cluster_of: Callable[[str], str] = str
    ) -> None:
        self._store = store
        self._clock = clock
        self._cluster_of = lru_cache(MOST_CLUSTERS)(cluster_of)
        self.owner = f"{socket.gethostname()}/{os.getpid()}/{os.urandom(4).hex()}"
        self._one_at_a_time = Mutex()
        self._settling = Event()
        """Never set: waiting for it works where time.sleep does not, under a clock that is set for a test."""
        self.tokens: dict[str, str] = {}
        """The token of each lease, by node."""
        self.shares_of_others: AbstractSet[str] = frozenset()
        """Clusters that another consumer is to take when they get free."""
        self._leases: dict[str, _Lease] = {}
        """By cluster; one without nodes is a lease that Redis may have given us without our hearing of it."""
        self._nodes: defaultdict[str, set[str]] = defaultdict(set)
        """The nodes of each cluster that we were asked for."""
        self._renewed_at: dict[str, float] = {}
        self._refused_at: dict[str, float] = {}
        self._waiting_since: dict[str, float] = {}
        self._free_since: dict[str, float] = {}
        self._insisted: set[str] = set()

    def hold(self, node: str) -> bool:
        """Return whether we may write this node's events; take or renew the lease of its cluster when it is time to."""
        with self._one_at_a_time:
            cluster, now = self._cluster_of(node), self._clock()
            if node in self.tokens and now - self._renewed_at.get(cluster, -math.inf) < RENEW_SECONDS:
                return True
            if not self._is_due(cluster, now):
                return False
            self._nodes[cluster].add(node)
            lease = self._leases.get(cluster)
            if lease and lease.nodes:
                is_held = self._renew(lease) and (node in lease.nodes or self._admit(lease, node))
            else:
                is_held = self._is_our_turn(cluster, now) and self._acquire(cluster)
            self._insisted.discard(cluster)
            self._note(cluster, now, is_held=is_held)
            return is_held

    def hold_all(self, nodes: Iterable[str]) -> list[str]:
        """Return the nodes that we may write now, and take all that are free before the work for one begins.

        What came for a dead holder's nodes may take seconds to store. Meanwhile a consumer that lacks it would take the
        next one.
        """
        nodes = list(nodes)
        self._refuse_leased(nodes)
        held = [node for node in nodes if self.hold(node)]
        if held and len(held) < len(nodes):
            self._settling.wait(SETTLE_SECONDS)
            held += [node for node in nodes if node not in held and self.hold(node)]
        return held

    def select_due(self, nodes: Iterable[str]) -> set[str]:
        """Return those of these nodes, none of which we hold, whose lease it is time to try for. No I/O."""
        now = self._clock()
        return {node for node in nodes if self._is_due(self._cluster_of(node), now)}

    def renew(self) -> None:
        """Renew all leases at once, so that they run out at once. Whether one was lost, the next `hold` finds out."""
        with self._one_at_a_time:
            now = self._clock()
            for cluster, lease in list(self._leases.items()):
                if cluster in self._renewed_at and all(lock.renew() for lock in lease.locks.values()):
                    self._renewed_at[cluster] = now

    def lose(self, token: str) -> None:
        """Give up the lease with this token, which no longer counts: the next `hold` takes a new one, if it can."""
        with self._one_at_a_time:
            for cluster in [cluster for cluster, lease in self._leases.items() if lease.token == token]:
                self._drop(cluster)

    def give_up(self, clusters: Collection[str]) -> None:
        """Release the leases of these clusters, for another consumer to take them. Where Redis fails they run out."""
        with self._one_at_a_time:
            now = self._clock()
            leases = [lease for cluster in clusters if (lease := self._forget(cluster))]
            self._refused_at.update(dict.fromkeys(clusters, now))
            for lease in leases:
                _release(lease)

    def insist(self, node: str) -> None:
        """Take the lease of a node at the next `hold`, whoever has it: RabbitMQ gives its events to nobody but us."""
        with self._one_at_a_time:
            cluster = self._cluster_of(node)
            self._insisted.add(cluster)
            self._refused_at.pop(cluster, None)

    def release(self) -> None:
        """Give all leases back, so that the next consumer need not wait until they run out."""
        with self._one_at_a_time:
            for cluster, lease in list(self._leases.items()):
                _release(lease)
                self._forget(cluster)

    def _refuse_leased(self, nodes: Iterable[str]) -> None:
        """Refuse the clusters of these nodes that another consumer holds, with one question for all of them."""
        with self._one_at_a_time:
            for node in nodes:
                self._nodes[self._cluster_of(node)].add(node)
            clusters = {self._cluster_of(node) for node in nodes} - self._leases.keys() - self._insisted
            keys = [(cluster, key) for cluster in clusters for key in self._keys(cluster)]
            holders = self._store.connection.pipeline(("EXISTS", key) for _, key in keys)
            now = self._clock()
            for cluster in {cluster for (cluster, _), is_there in zip(keys, holders, strict=True) if is_there}:
                self._free_since.pop(cluster, None)
                self._note(cluster, now, is_held=False)

    def _is_due(self, cluster: str, now: float) -> bool:
        return now - self._refused_at.get(cluster, -math.inf) >= PAUSE_SECONDS

    def _is_our_turn(self, cluster: str, now: float) -> bool:
        """Return whether to try for a lease, or to leave it to consumers that should rather have it.

        A consumer that was killed and started again lacks what came in between, and a standby has it. So whoever never
        had the lease, and was first refused it less than a lease ago, takes it only if nobody else does. So does one
        that has its share.
        """
        if cluster in self._insisted:
            self._store.connection.pipeline(("DEL", key) for key in self._keys(cluster))
            return True
        is_new = now - self._waiting_since.get(cluster, -math.inf) < LEASE_SECONDS
        if not is_new and cluster not in self.shares_of_others:
            return True
        if any(self._store.connection.pipeline(("EXISTS", key) for key in self._keys(cluster))):
            self._free_since.pop(cluster, None)
            return False
        return now - self._free_since.setdefault(cluster, now) >= YIELD_SECONDS

    def _keys(self, cluster: str) -> list[str]:
        keys = self._store.keys
        return [keys.cluster_lease(cluster), *map(keys.lease, sorted(self._nodes[cluster]))]

    def _renew(self, lease: _Lease) -> bool:
        return all(lock.renew() or self._lock(lease, key) for key, lock in list(lease.locks.items()))

    def _acquire(self, cluster: str) -> bool:
        """Take a cluster over with its nodes. An attempt that Redis failed goes on with its token."""
        check_format(self._store.connection, self._store.keys)  # it may have changed since we opened the store
        claim_shards(self._store.connection, self._store.keys)
        lease = self._leases.setdefault(cluster, _Lease(f"{self.owner}/{os.urandom(4).hex()}"))
        if not all(self._lock(lease, key) for key in self._keys(cluster)):
            return False
        return all(self._admit(lease, node) for node in sorted(self._nodes[cluster])) and self._renew(lease)

    def _admit(self, lease: _Lease, node: str) -> bool:
        """Take a node over; False when a lock ran out while we told so, because another may hold it by now."""
        key = self._store.keys.lease(node)
        if not self._lock(lease, key):
            return False
        take_over(self._store, node, lease.token)
        if not lease.locks[key].renew():
            return False
        lease.nodes.add(node)
        self.tokens[node] = lease.token
        return True

    def _lock(self, lease: _Lease, key: str) -> bool:
        lock = acquire_lock(self._store, key, LEASE_SECONDS, token=lease.token)
        if lock:
            lease.locks[key] = lock
        return lock is not None

    def _note(self, cluster: str, now: float, *, is_held: bool) -> None:
        if is_held:
            self._renewed_at[cluster] = now
            self._waiting_since[cluster] = -math.inf
            self._free_since.pop(cluster, None)
        else:
            self._refused_at[cluster] = now
            self._waiting_since.setdefault(cluster, now)
            self._drop(cluster)

    def _drop(self, cluster: str) -> None:
        """Forget a lease, and release what is left of it."""
        if lease := self._forget(cluster):
            _release(lease)

    def _forget(self, cluster: str) -> _Lease | None:
        lease = self._leases.pop(cluster, None)
        self._renewed_at.pop(cluster, None)
        for node in lease.nodes if lease else ():
            self.tokens.pop(node, None)
        return lease


def _release(lease: _Lease) -> None:
    for lock in lease.locks.values():
        lock.release()


def select_leased(store: Store, nodes: list[str]) -> list[str]:
    """Return those of these nodes whose events a consumer writes now."""
    exist = store.connection.pipeline(("EXISTS", store.keys.lease(node)) for node in nodes)
    return [node for node, is_there in zip(nodes, exist, strict=True) if is_there]


def load_holders(store: Store, nodes: Iterable[str]) -> dict[str, str]:
    """Return the consumer that writes the events of each of these nodes now, as `host/process`; no others."""
    nodes = list(nodes)
    tokens = store.connection.pipeline(("GET", store.keys.lease(node)) for node in nodes)
    return {node: "/".join(token.split("/")[:2]) for node, token in zip(nodes, tokens, strict=True) if token}


def load_cluster_holders(store: Store, clusters: Iterable[str]) -> dict[str, str]:
    """Return the name of the consumer that holds each of these clusters now; no others."""
    clusters = list(clusters)
    tokens = store.connection.pipeline(("GET", store.keys.cluster_lease(cluster)) for cluster in clusters)
    return {cluster: token.rpartition("/")[0] for cluster, token in zip(clusters, tokens, strict=True) if token}
