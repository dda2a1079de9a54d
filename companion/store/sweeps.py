"""Keep the state of remediation that all companions share: pause, switch, budget, last sweep.

What an operator decides is to outlive a failover: where Redis has replicas, one must confirm it. If none does, the
decision is in force all the same, and NotReplicatedError is raised. Where an ACL denies INFO, nobody knows of replicas.
"""

from collections.abc import Mapping
from typing import Any, Final

from companion.errors import NotReplicatedError
from companion.store.connection import Command, ResponseError
from companion.store.locks import HeldLock, acquire_lock
from companion.store.server import parse_state
from companion.store.store import Store
from companion.times import now_ms

SWEEPER_SECONDS: Final = 10.0
"""How long a turn lasts unless it is renewed: longer than one call of MI may take."""
CONFIRM_MS: Final = 500
"""How long a replica may take to confirm: less than a reader waits for a reply."""
_MINUTE_MS: Final = 60_000


def acquire_turn(store: Store) -> HeldLock | None:
    """Begin a sweep, unless another companion is at it; the fence grows with each turn."""
    return acquire_lock(store, store.keys.sweeper(), SWEEPER_SECONDS, fence_key=store.keys.fence())


def load_last_sweep(store: Store) -> dict[str, str]:
    """Return the fields of the last sweep, none before the first: at (epoch ms), mode, candidates, acted, troubles."""
    fields: dict[str, str] = store.connection.call("HGETALL", store.keys.sweep())
    return fields


def save_sweep(store: Store, fields: Mapping[str, Any]) -> None:
    """Store how a sweep went."""
    key = store.keys.sweep()
    flat = [part for pair in fields.items() for part in pair]
    store.connection.pipeline([("HSET", key, *flat), ("PEXPIRE", key, store.retention_ms)])


def count_action(store: Store, now: int) -> int:
    """Count one more action of this minute, of all companions together, and return their number."""
    key = store.keys.actions(now // _MINUTE_MS)
    count, _ = store.connection.pipeline([("INCR", key), ("PEXPIRE", key, 2 * _MINUTE_MS)])
    return int(count)


def pause(store: Store, seconds: float) -> None:
    """Pause remediation for so long, on all companions."""
    _decide(store, ("SET", store.keys.pause(), now_ms(), "PX", round(seconds * 1000)))


def resume(store: Store) -> None:
    """End a pause."""
    store.connection.call("DEL", store.keys.pause())


def load_pause_ms(store: Store) -> int:
    """Return how long the pause still lasts; 0 when there is none."""
    return max(0, int(store.connection.call("PTTL", store.keys.pause())))


def switch_off(store: Store) -> None:
    """Let every companion only observe, whatever its configuration says, until `switch_on`."""
    _decide(store, ("SET", store.keys.off(), now_ms()))


def switch_on(store: Store) -> None:
    """Let the configured mode hold again."""
    store.connection.call("DEL", store.keys.off())


def load_off_at(store: Store) -> int:
    """Return since when (epoch ms) remediation is switched off; 0 when it is not."""
    return int(store.connection.call("GET", store.keys.off()) or 0)


def _decide(store: Store, command: Command) -> None:
    if not _has_replica(store, command[1]):
        store.connection.call(*command)
        return
    _, confirmed = store.connection.pipeline([command, ("WAIT", 1, CONFIRM_MS)])
    if not confirmed:
        raise NotReplicatedError


def _has_replica(store: Store, key: str) -> bool:
    """Return whether the server of a key has a replica that can confirm."""
    try:
        return bool(parse_state(store.connection.master_of(key).call("INFO")).replicas)
    except ResponseError:
        return False
