"""Read what the Redis server says of itself."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from companion.store.connection import Connection, Master, ResponseError
from companion.store.store import Store


class ServerState(NamedTuple):
    """Hold what INFO tells of a server that may not keep or take our data.

    `run_id` is another one after each start, and on another server. `evicted_keys` counts from that start.
    """

    run_id: str = ""
    evicted_keys: int = 0
    used_bytes: int = 0
    max_bytes: int = 0
    policy: str = ""
    is_replica: bool = False
    can_save: bool = True
    replicas: int = 0

    @property
    def is_full(self) -> bool:
        return self.policy == "noeviction" and 0 < self.max_bytes <= self.used_bytes


def read_state(store: Store) -> ServerState | None:
    """Return the state of the server, or of all masters as one; None where an ACL denies INFO."""
    try:
        return merge_states(list(map(parse_state, read_servers(store))))
    except ResponseError:
        return None


def parse_state(info: Mapping[str, Any]) -> ServerState:
    """Return the state in the fields of INFO; managed servers leave some out."""
    return ServerState(
        run_id=str(info.get("run_id", "")),
        evicted_keys=int(info.get("evicted_keys", 0)),
        used_bytes=int(info.get("used_memory", 0)),
        max_bytes=int(info.get("maxmemory", 0)),
        policy=str(info.get("maxmemory_policy", "")),
        is_replica=info.get("role") == "slave",
        can_save=info.get("rdb_last_bgsave_status") != "err" and info.get("aof_last_write_status") != "err",
        replicas=int(info.get("connected_slaves", 0)),
    )


def merge_states(states: Sequence[ServerState]) -> ServerState:
    """Return the states of several masters as one: the memory is that of the fullest, for it refuses writes first."""
    fullest = max(states, key=lambda state: (state.is_full, state.used_bytes / (state.max_bytes or math.inf)))
    return fullest._replace(
        run_id=" ".join(sorted(state.run_id for state in states)),
        evicted_keys=sum(state.evicted_keys for state in states),
        is_replica=any(state.is_replica for state in states),
        can_save=all(state.can_save for state in states),
        replicas=min(state.replicas for state in states),
    )


def read_servers(store: Store) -> list[dict[str, Any]]:
    """Return the fields of INFO of each server that holds data."""
    return [server.call("INFO") for server in store.connection.masters()]


def read_time(server: Connection | Master) -> float:
    """Return a server's clock, in seconds since the epoch."""
    seconds, microseconds = server.call("TIME")
    return float(seconds + microseconds / 1e6)


def read_settings(store: Store, names: Iterable[str]) -> list[dict[str, str]] | None:
    """Return those of these settings that each server has; None where it denies CONFIG GET."""
    names = list(names)
    try:
        return [_read_settings(server, names) for server in store.connection.masters()]
    except ResponseError:
        return None


def _read_settings(server: Connection | Master, names: Iterable[str]) -> dict[str, str]:
    settings: dict[str, str] = {}
    for name in names:
        settings.update(server.call("CONFIG GET", name))
    return settings
