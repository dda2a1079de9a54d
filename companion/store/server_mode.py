"""Refuse servers that would take our commands for something else: a Redis Cluster, or a Sentinel."""

from typing import Final

from companion.errors import ConfigError
from companion.store.connection import Connection, ResponseError

_REFUSED: Final = {
    "cluster": "a Redis Cluster, which would refuse most keys: use a single server, with replicas if you like",
    "sentinel": "a Sentinel, which holds no data: use redis+sentinel://HOST:PORT,HOST:PORT/NAME",
}


def check_mode(connection: Connection) -> None:
    """Raise ConfigError if the server is no plain Redis. Where an ACL denies INFO, nobody knows."""
    try:
        mode = connection.call("INFO", "server").get("redis_mode", "")
    except ResponseError:
        return
    if mode in _REFUSED:
        raise ConfigError(f"[redis] url: {connection.place} is {_REFUSED[mode]}")
