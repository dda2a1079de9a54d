"""Who may write a node's events: one consumer at a time, by a lock in Redis that runs out by itself."""

import os
import socket
import time
from collections.abc import Callable
from threading import Lock as Mutex
from typing import Final

from redis.exceptions import LockError
from redis.lock import Lock

from companion.store.connection import Connection, telling_not_now
from companion.store.keys import Keys

LEASE_SECONDS: Final = 10.0
RENEW_SECONDS: Final = 3.0
PAUSE_SECONDS: Final = 0.5
"""How long who was refused a lease waits before it asks again."""


class Leases:
    """The leases of one consumer, for any thread of it. `hold` is cheap while a lease is fresh."""

    def __init__(self, connection: Connection, keys: Keys, clock: Callable[[], float] = time.monotonic) -> None:
        self._connection = connection
        self._keys = keys
        self._clock = clock
        self._owner = f"{socket.gethostname()}/{os.getpid()}/{os.urandom(4).hex()}"
        self._one_at_a_time = Mutex()
        self._locks: dict[str, Lock] = {}
        self._renewed_at: dict[str, float] = {}
        self._refused_at: dict[str, float] = {}

    def hold(self, node: str) -> bool:
        """Whether we may write this node's events; takes or renews the lease when it is time to."""
        with self._one_at_a_time, telling_not_now():
            now = self._clock()
            if now - self._renewed_at.get(node, -RENEW_SECONDS) < RENEW_SECONDS:
                return True
            if now - self._refused_at.get(node, -PAUSE_SECONDS) < PAUSE_SECONDS:
                return False
            held = self._renew(node) or self._acquire(node)
            if held:
                self._renewed_at[node] = now
            else:
                self._renewed_at.pop(node, None)
                self._refused_at[node] = now
            return held

    def _renew(self, node: str) -> bool:
        lock = self._locks.get(node)
        try:
            return lock is not None and lock.reacquire()
        except LockError:
            del self._locks[node]
            return False

    def _acquire(self, node: str) -> bool:
        lock = Lock(self._connection.redis, self._keys.lease(node), timeout=LEASE_SECONDS, thread_local=False)
        if not lock.acquire(blocking=False, token=f"{self._owner}/{os.urandom(4).hex()}"):
            return False
        self._locks[node] = lock
        return True

    def release(self) -> None:
        """Give all back, so that the next one need not wait until they run out."""
        for lock in self._locks.values():
            try:
                with telling_not_now():
                    lock.release()
            except LockError:
                continue
        self._locks.clear()
        self._renewed_at.clear()
