"""Lock something in Redis for one holder at a time."""

import os
from typing import Final, NamedTuple

from companion.store.connection import Connection
from companion.store.store import Store

_RENEW: Final = "return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('PEXPIRE', KEYS[1], ARGV[2]) or 0"
_RELEASE: Final = "return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('DEL', KEYS[1]) or 0"
"""Both do nothing to a lock of another holder."""


class HeldLock(NamedTuple):
    """Hold a lock until it is released, or its time runs out without a renewal.

    `fence` grows with each holder of anyone, where the lock has a counter; else it is 0.
    """

    connection: Connection
    key: str
    token: str
    lasts_ms: int
    fence: int = 0

    def renew(self) -> bool:
        """Start the time of the lock anew; False when it is no longer ours."""
        return bool(self.connection.call("EVAL", _RENEW, 1, self.key, self.token, self.lasts_ms))

    def release(self) -> bool:
        """Give the lock back; False when its time had run out."""
        return bool(self.connection.call("EVAL", _RELEASE, 1, self.key, self.token))


def acquire_lock(
    store: Store, key: str, seconds: float, *, fence_key: str = "", token: str | None = None
) -> HeldLock | None:
    """Take a lock for so long; None when another holds it.

    `fence_key` counts the holders. `token` is the value that an operator sees, unique to this holder. With the same one
    an attempt may be repeated: Redis may have taken it, and its reply was lost.
    """
    lock = HeldLock(store.connection, key, token or os.urandom(16).hex(), round(seconds * 1000))
    is_ours = store.connection.call("SET", key, lock.token, "NX", "PX", lock.lasts_ms)
    if not is_ours and not (token and lock.renew()):
        return None
    return lock._replace(fence=int(store.connection.call("INCR", fence_key)) if fence_key else 0)


def acquire_dump_lock(store: Store, cluster: str, seconds: float) -> HeldLock | None:
    """Take the lock of a cluster's contacts, for a dump of them or a removal; None when another holds it.

    A removal must not wait in OpenSIPS until a dump has ended: its phone may register again meanwhile.
    """
    return acquire_lock(store, store.keys.dump_lock(cluster), seconds)
