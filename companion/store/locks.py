"""Lock something in Redis for one holder at a time."""

from typing import NamedTuple

from redis.exceptions import LockError
from redis.lock import Lock

from companion.store.connection import Connection
from companion.store.store import Store


class HeldLock(NamedTuple):
    """Hold a lock until it is released, or its time runs out without a renewal.

    `fence` grows with each holder of anyone, where the lock has a counter; else it is 0.
    """

    connection: Connection
    lock: Lock
    fence: int = 0

    def renew(self) -> bool:
        """Start the time of the lock anew; False when it is no longer ours."""
        try:
            with self.connection.attempt():
                return bool(self.lock.reacquire())
        except LockError:
            return False

    def release(self) -> bool:
        """Give the lock back; False when its time had run out."""
        try:
            with self.connection.attempt():
                self.lock.release()
        except LockError:
            return False
        return True


def _resume(lock: Lock, token: str) -> bool:
    """Take back a lock that an earlier attempt with this token took; False when it is another's."""
    lock.local.token = token.encode()
    try:
        return bool(lock.reacquire())
    except LockError:
        return False


def acquire_lock(
    store: Store, key: str, seconds: float, *, fence_key: str = "", token: str | None = None
) -> HeldLock | None:
    """Take a lock for so long; None when another holds it.

    `fence_key` counts the holders. `token` is the value that an operator sees, unique to this holder. With the same one
    an attempt may be repeated: Redis may have taken it, and its reply was lost.
    """
    lock = Lock(store.connection.redis, key, timeout=seconds, thread_local=False)
    with store.connection.attempt():
        if not lock.acquire(blocking=False, token=token) and not (token and _resume(lock, token)):
            return None
    return HeldLock(store.connection, lock, int(store.connection.call("INCR", fence_key)) if fence_key else 0)


def acquire_dump_lock(store: Store, cluster: str, seconds: float) -> HeldLock | None:
    """Take the lock of a cluster's contacts, for a dump of them or a removal; None when another holds it.

    A removal must not wait in OpenSIPS until a dump has ended: its phone may register again meanwhile.
    """
    return acquire_lock(store, store.keys.dump_lock(cluster), seconds)
