"""Remember the removals of the last hour, to recognise those whose phone comes back at once."""

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
            ("ZREMRANGEBYSCORE", key, "-inf", at - HOUR_MS),
            ("PEXPIRE", key, HOUR_MS),
        ]
    )


def load_removals(store: Store, since: int) -> list[tuple[int, dict[str, Any]]]:
    """Return the removals since a time, oldest first, with their times (epoch ms)."""
    rows = store.connection.call("ZRANGE", store.keys.removals(), since, "+inf", "BYSCORE", "WITHSCORES")
    pairs = rows if not rows or isinstance(rows[0], list | tuple) else list(zip(rows[::2], rows[1::2], strict=True))
    return [(int(float(score)), json.loads(member)) for member, score in pairs]


def load_removed_contacts(store: Store, since: int) -> set[str]:
    """Return the ids of contacts that were removed since a time (epoch ms)."""
    members = store.connection.call("ZRANGE", store.keys.removals(), since, "+inf", "BYSCORE")
    return {json.loads(member)["contact"] for member in members}


def forget_removals(store: Store, removals: Sequence[Mapping[str, Any]]) -> None:
    """Forget these removals: they were not made, or are suspects now."""
    if removals:
        members = [json.dumps(removal, sort_keys=True) for removal in removals]
        store.connection.call("ZREM", store.keys.removals(), *members)


def count_removals(store: Store, now: int) -> int:
    """Return the number of removals of the last hour, without suspects. At most MAX_REMOVALS are counted."""
    return int(store.connection.call("ZCOUNT", store.keys.removals(), now - HOUR_MS, "+inf"))


def append_suspect(store: Store, at: int, cluster: str, aor: str) -> None:
    """Note a suspect removal. An AOR counts once: one user may have many contacts."""
    key = store.keys.suspects()
    store.connection.pipeline([("ZADD", key, at, f"{cluster} {aor}"), ("PEXPIRE", key, HOUR_MS)])


def count_suspects(store: Store, now: int) -> int:
    """Return the number of AORs with a suspect removal in the last hour."""
    return int(store.connection.call("ZCOUNT", store.keys.suspects(), now - HOUR_MS, "+inf"))
