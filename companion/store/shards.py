"""Choose into how many parts the keys are divided. The number is in Redis: with another one most keys are not there."""

from typing import Final

from companion.errors import ConfigError
from companion.store.connection import Command, Connection
from companion.store.keys import Keys

SINGLE: Final = 1
CLUSTER: Final = 64
"""The parts of a Cluster are spread over its servers, some for each; every batch has a script for each part."""


def choose_shards(connection: Connection, prefix: str, configured: int) -> int:
    """Return the number of shards: the stored one, else the configured one, else one that suits the server.

    Raises ConfigError when another one is configured than is stored.
    """
    chosen = configured or (CLUSTER if connection.is_cluster else SINGLE)
    stored = connection.call("GET", Keys(prefix, chosen).shard_count())
    if stored is None:
        return chosen
    if configured:
        _compare(configured, stored)
    return int(stored)


def check_shards(connection: Connection, keys: Keys) -> None:
    """Note our number of shards where none is noted. Raises ConfigError when another one is."""
    connection.call(*prepare_shards(keys))
    _compare(keys.shards, connection.call("GET", keys.shard_count()))


def prepare_shards(keys: Keys) -> Command:
    """Prepare to note the number of shards where none is noted: with each write, as Redis may lose its data."""
    return ("SET", keys.shard_count(), keys.shards, "NX")


def _compare(ours: int, stored: str) -> None:
    if str(ours) != stored:
        raise ConfigError(
            f"[redis] shards = {ours}, but the data in Redis is divided into {stored}: "
            "leave `shards` out, or choose another [redis] prefix"
        )
