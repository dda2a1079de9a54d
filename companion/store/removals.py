"""Remember removals for a while, to recognise those whose phone comes back at once."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from companion.store.store import Store

MAX_REMOVALS: Final = 10_000
HOUR_MS: Final = 3_600_000


def append_removal(store: Store, at: int, removal: Mapping[str, Any]) -> None:
    """Remember a removal by its time (epoch ms)."""
    key = store.keys.removals()
    store.connection.pipeline(
        [
            ("ZADD", key, at, json.dumps(removal, sort_keys=True)),
            ("ZREMRANGEBYRANK", key, 0, -MAX_REMOVALS - 1),
            ("PEXPIRE", key, HOUR_MS),
        ]
    )


def load_removals(store: Store) -> list[tuple[int, dict[str, Any]]]:
    """Return the removals that are still watched, oldest first, with their times (epoch ms)."""
    rows = store.connection.call("ZRANGE", store.keys.removals(), 0, -1, "WITHSCORES")
    pairs = rows if not rows or isinstance(rows[0], list | tuple) else list(zip(rows[::2], rows[1::2], strict=True))
    return [(int(float(score)), json.loads(member)) for member, score in pairs]


def load_removed_contacts(store: Store, since: int) -> set[str]:
    """Return the ids of contacts that were removed since a time (epoch ms)."""
    members = store.connection.call("ZRANGE", store.keys.removals(), since, "+inf", "BYSCORE")
    return {json.loads(member)["contact"] for member in members}


def forget_removals(store: Store, removals: Sequence[Mapping[str, Any]]) -> None:
    """Stop watching these removals."""
    if removals:
        members = [json.dumps(removal, sort_keys=True) for removal in removals]
        store.connection.call("ZREM", store.keys.removals(), *members)


def append_suspect(store: Store, at: int, contact: str) -> None:
    """Count a suspect removal."""
    key = store.keys.suspects()
    store.connection.pipeline([("ZADD", key, at, f"{at} {contact}"), ("PEXPIRE", key, HOUR_MS)])


def count_suspects(store: Store, now: int) -> int:
    """Return the number of suspect removals of the last hour."""
    return int(store.connection.call("ZCOUNT", store.keys.suspects(), now - HOUR_MS, "+inf"))
