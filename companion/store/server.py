"""Read what the Redis server says of itself."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from companion.store.connection import ResponseError
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
    """Return the state of the server; None where an ACL denies INFO."""
    try:
        return parse_state(read_server(store))
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


def read_server(store: Store) -> dict[str, Any]:
    """Return the fields of INFO."""
    fields: dict[str, Any] = store.connection.call("INFO")
    return fields


def read_time(store: Store) -> float:
    """Return the server's clock, in seconds since the epoch."""
    seconds, microseconds = store.connection.call("TIME")
    return float(seconds + microseconds / 1e6)


def read_settings(store: Store, names: Iterable[str]) -> dict[str, str] | None:
    """Return those of these settings that the server has; None where it denies CONFIG GET."""
    try:
        replies: list[dict[str, str]] = store.connection.pipeline(("CONFIG GET", name) for name in names)
    except ResponseError:
        return None
    return {name: value for reply in replies for name, value in reply.items()}
