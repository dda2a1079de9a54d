"""Lease a node's events to one consumer at a time, by a lock in Redis that runs out by itself.

Each lease has a token. Who takes a node over leaves it beside the data (`fence.py`), which ends the writes of the
consumer before. When a lock ran out and nobody took over, the lease goes on with its token.
"""

import math
import os
import socket
import time
from collections.abc import Callable, Iterable
from threading import Event
from threading import Lock as Mutex
from typing import Final

from companion.store.fence import take_over
from companion.store.format import check_format
from companion.store.locks import HeldLock, acquire_lock
from companion.store.store import Store

LEASE_SECONDS: Final = 10.0
RENEW_SECONDS: Final = 3.0
PAUSE_SECONDS: Final = 0.5
"""How long a consumer that was refused a lease waits before it tries again."""
SETTLE_SECONDS: Final = 0.6
"""Leases of one dead holder run out within this time, and longer than PAUSE_SECONDS."""
YIELD_SECONDS: Final = 4.0
"""How long a consumer that has not listened for a whole lease yet leaves a free lease to others."""


class Leases:
    """Hold the leases of one consumer, for any thread of it. `hold` is cheap while a lease is fresh."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self.owner = f"{socket.gethostname()}/{os.getpid()}/{os.urandom(4).hex()}"
        self._one_at_a_time = Mutex()
        self._settling = Event()
        """Never set: waiting for it works where time.sleep does not, under a clock that is set for a test."""
        self.tokens: dict[str, str] = {}
        """The token of each lease, by node."""
        self._locks: dict[str, HeldLock] = {}
        self._tried: dict[str, str] = {}
        """The token of each lease that Redis may have given us without our hearing of it."""
        self._renewed_at: dict[str, float] = {}
        self._refused_at: dict[str, float] = {}
        self._waiting_since: dict[str, float] = {}
        self._free_since: dict[str, float] = {}

    def hold(self, node: str) -> bool:
        """Return whether we may write this node's events; take or renew the lease when it is time to."""
        with self._one_at_a_time:
            now = self._clock()
            if now - self._renewed_at.get(node, -RENEW_SECONDS) < RENEW_SECONDS:
                return True
            if now - self._refused_at.get(node, -PAUSE_SECONDS) < PAUSE_SECONDS:
                return False
            is_held = self._renew(node) if node in self.tokens else self._is_our_turn(node, now) and self._acquire(node)
            if is_held:
                self._renewed_at[node] = now
                self._waiting_since[node] = -math.inf
            else:
                self._forget(node)
                self._refused_at[node] = now
                self._waiting_since.setdefault(node, now)
            return is_held

    def hold_all(self, nodes: Iterable[str]) -> list[str]:
        """Return the nodes that we may write now, and take all that are free before the work for one begins.

        What came for a dead holder's nodes may take seconds to store. Meanwhile a consumer that lacks it would take the
        next one.
        """
        nodes = list(nodes)
        held = [node for node in nodes if self.hold(node)]
        if held and len(held) < len(nodes):
            self._settling.wait(SETTLE_SECONDS)
            held += [node for node in nodes if node not in held and self.hold(node)]
        return held

    def renew(self) -> None:
        """Renew all leases at once, so that they run out at once. Whether one was lost, the next `hold` finds out."""
        with self._one_at_a_time:
            now = self._clock()
            for node, lock in list(self._locks.items()):
                if node in self._renewed_at and lock.renew():
                    self._renewed_at[node] = now

    def lose(self, token: str) -> None:
        """Give up the lease with this token, which no longer counts: the next `hold` takes a new one, if it can."""
        with self._one_at_a_time:
            for node in [node for node, own in self.tokens.items() if own == token]:
                self._locks[node].release()
                self._forget(node)

    def _is_our_turn(self, node: str, now: float) -> bool:
        """Return whether to try for a lease, or to leave it to consumers that have listened for longer.

        A consumer that was killed and started again lacks what came in between, and a standby has it. So whoever never
        had the lease, and was first refused it less than a lease ago, takes it only if nobody else does.
        """
        if now - self._waiting_since.get(node, -math.inf) >= LEASE_SECONDS:
            return True
        if select_leased(self._store, [node]):
            self._free_since.pop(node, None)
            return False
        return now - self._free_since.setdefault(node, now) >= YIELD_SECONDS

    def _renew(self, node: str) -> bool:
        return self._locks[node].renew() or self._lock(node, self.tokens[node])

    def _acquire(self, node: str) -> bool:
        """Take a node over; False when the lock ran out while we told so, because another may hold it by now."""
        check_format(self._store.connection, self._store.keys)  # it may have changed since we opened the store
        if node in self._locks:  # Redis failed in the midst of it
            self._locks.pop(node).release()
        token = self._tried.setdefault(node, f"{self.owner}/{os.urandom(4).hex()}")
        is_locked = self._lock(node, token)
        del self._tried[node]
        if not is_locked:
            return False
        take_over(self._store, node, token)
        self.tokens[node] = token
        return self._locks[node].renew()

    def _lock(self, node: str, token: str) -> bool:
        lock = acquire_lock(self._store, self._store.keys.lease(node), LEASE_SECONDS, token=token)
        if lock:
            self._locks[node] = lock
        return lock is not None

    def _forget(self, node: str) -> None:
        self._locks.pop(node, None)
        self.tokens.pop(node, None)
        self._renewed_at.pop(node, None)

    def release(self) -> None:
        """Give all leases back, so that the next consumer need not wait until they run out."""
        for lock in self._locks.values():
            lock.release()
        self._locks.clear()
        self.tokens.clear()
        self._renewed_at.clear()


def select_leased(store: Store, nodes: list[str]) -> list[str]:
    """Return those of these nodes whose events a consumer writes now."""
    exist = store.connection.pipeline(("EXISTS", store.keys.lease(node)) for node in nodes)
    return [node for node, is_there in zip(nodes, exist, strict=True) if is_there]


def load_holders(store: Store, nodes: Iterable[str]) -> dict[str, str]:
    """Return the consumer that writes the events of each of these nodes now, as `host/process`; no others."""
    nodes = list(nodes)
    tokens = store.connection.pipeline(("GET", store.keys.lease(node)) for node in nodes)
    return {node: "/".join(token.split("/")[:2]) for node, token in zip(nodes, tokens, strict=True) if token}
