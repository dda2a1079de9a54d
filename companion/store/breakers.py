"""Keep the breakers of remediation, by group: a node, a cluster or a network."""

from collections.abc import Sequence
from typing import NamedTuple

from companion.store.store import Store


class BreakerState(NamedTuple):
    """Hold one breaker. Times are epoch ms, 0 = never.

    `opened_at` is 0 while it is closed. `newest` is the latest failure of the last mass event, `changed_at` when that
    was counted, `passed` up to which failure a mass event is over.
    """

    opened_at: int = 0
    newest: int = 0
    changed_at: int = 0
    passed: int = 0


def load_breakers(store: Store, groups: Sequence[str]) -> dict[str, BreakerState]:
    """Return the breakers of these groups."""
    replies = store.connection.pipeline(("HMGET", store.keys.breaker(group), *BreakerState._fields) for group in groups)
    return {
        group: BreakerState(*(int(value or 0) for value in reply)) for group, reply in zip(groups, replies, strict=True)
    }


def save_breaker(store: Store, group: str, state: BreakerState) -> None:
    """Store a breaker for as long as anything is kept; one that never opened needs no key."""
    fields = [part for pair in state._asdict().items() for part in pair]
    key = store.keys.breaker(group)
    if state == BreakerState():
        store.connection.call("DEL", key)
    else:
        store.connection.pipeline([("HSET", key, *fields), ("PEXPIRE", key, store.retention_ms)])


def load_open_breakers(store: Store, groups: Sequence[str]) -> dict[str, int]:
    """Return since when (epoch ms) the open ones of these breakers are open."""
    states = load_breakers(store, groups)
    return {group: state.opened_at for group, state in states.items() if state.opened_at}
