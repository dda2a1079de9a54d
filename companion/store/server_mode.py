"""Refuse servers that would take our commands for something else: a Redis Cluster, or a Sentinel."""

from typing import Final

from companion.errors import ConfigError
from companion.store.connection import Connection, ResponseError

_REFUSED: Final = {
    "cluster": "a server of a Redis Cluster: use redis+cluster://HOST:PORT,HOST:PORT",
    "sentinel": "a Sentinel, which holds no data: use redis+sentinel://HOST:PORT,HOST:PORT/NAME",
}
_NO_CLUSTER: Final = ("cluster support disabled", "unknown command")
"""What a plain server or a Sentinel answers to those who ask for the map of a Cluster."""


def check_mode(connection: Connection) -> None:
    """Raise ConfigError if the server is not what the URL says. Where an ACL denies INFO, nobody knows."""
    try:
        mode = connection.call("INFO", "server").get("redis_mode", "")
    except ResponseError as error:
        if connection.is_cluster and any(words in str(error) for words in _NO_CLUSTER):
            text = f"{connection.place} is no Redis Cluster: use redis://HOST:PORT/0 for a single server"
            raise ConfigError(f"[redis] url: {text}") from None
        return
    if mode in _REFUSED and not connection.is_cluster:
        raise ConfigError(f"[redis] url: {connection.place} is {_REFUSED[mode]}")
