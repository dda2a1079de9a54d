"""Read what the Redis server says of itself."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from companion.store.connection import ResponseError
from companion.store.store import Store


class Memory(NamedTuple):
    """Hold the memory of a Redis server: used, and allowed (0 = not limited)."""

    used_bytes: int
    max_bytes: int


def read_server(store: Store) -> dict[str, Any]:
    """Return the fields of INFO."""
    fields: dict[str, Any] = store.connection.call("INFO")
    return fields


def read_memory(store: Store) -> Memory | None:
    """Return the memory of the server; None where an ACL denies INFO."""
    try:
        fields = store.connection.call("INFO", "memory")
    except ResponseError:
        return None
    return Memory(fields["used_memory"], fields["maxmemory"])


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
