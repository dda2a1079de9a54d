"""Hold what a running companion would hold, while all data is worked on, and go through its keys."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from companion.errors import UsageError
from companion.store.consumers import FRESH_MS, load_consumers
from companion.store.jobs import load_job_runs
from companion.store.leases import LEASE_SECONDS
from companion.store.locks import HeldLock, acquire_lock
from companion.store.store import Store
from companion.times import now_ms

PAGE: Final = 2000
"""Keys that are looked at together."""

Progress = Callable[[int, int], None]
"""Called with how many keys were looked at, and how many there are."""


@contextmanager
def alone(store: Store, name: str) -> Iterator[Callable[[], None]]:
    """Hold all that a running companion would hold, and return what renews it: to be called every few seconds.

    These are the leases of all nodes, the turns of all jobs, and the lock of the sweeper. Raises UsageError when a
    companion runs, and from the function when the locks were lost. `name` is that of the work.
    """
    keys, now = store.keys, now_ms()
    if any(abs(now - report.at) < FRESH_MS for report in load_consumers(store).values()):
        raise UsageError("a consumer runs on this Redis: stop all companions, then try again (15 s after a crash)")
    nodes = sorted(store.connection.call("SMEMBERS", keys.nodes()))
    locks: list[HeldLock] = []
    try:
        for key in (*map(keys.lease, nodes), *map(keys.turn, sorted(load_job_runs(store))), keys.sweeper()):
            lock = acquire_lock(store, key, LEASE_SECONDS, token=f"{name}/{now}")
            if lock is None:
                raise UsageError(f"a companion runs on this Redis and holds {key}: stop all companions, then try again")
            locks.append(lock)
        yield lambda: _renew(locks, name)
    finally:
        for lock in locks:
            lock.release()


def _renew(locks: Sequence[HeldLock], name: str) -> None:
    renewed = [lock.renew() for lock in locks]
    if not all(renewed):
        raise UsageError(f"the {name} lost its locks, because Redis did not answer: run it again")


def iterate_tagged_keys(store: Store) -> Iterator[list[str]]:
    """Return all keys with a hash tag, about PAGE at a time; one may come twice."""
    pattern = re.sub(r"([*?\[\]\\^-])", r"\\\1", store.keys.prefix) + "{*"
    for server in store.connection.masters():
        cursor = -1
        while cursor:
            reply, keys = server.call("SCAN", max(0, cursor), "MATCH", pattern, "COUNT", PAGE)
            cursor = int(reply)
            yield keys


def count_keys(store: Store) -> int:
    """Return the number of keys, also of other prefixes."""
    return sum(int(server.call("DBSIZE")) for server in store.connection.masters())
