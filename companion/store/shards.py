"""Choose into how many parts the keys are divided. The number is in Redis: with another one most keys are not there."""

import re
from typing import Final, NamedTuple

from companion.errors import ShardingError
from companion.store.connection import Command, Connection
from companion.store.keys import Keys
from companion.text import times

SINGLE: Final = 1
CLUSTER: Final = 64
"""The parts of a Cluster are spread over its servers, some for each; every batch has a script for each part."""
_REMEDY: Final = "stop all companions, then run `companion store reshard`"


class Sharding(NamedTuple):
    """Hold the number of shards, and the one before, while data is moved from that (None where all is moved)."""

    number: int
    before: int | None = None

    @property
    def tags(self) -> int:
        """Return the number that all hash tags are below."""
        return max(self.number, self.before or 0)

    def check(self, ours: int) -> None:
        """Raise ShardingError unless all data is divided into this number of shards."""
        if self.before is not None:
            detail = f"only a part of the data in Redis is moved from {times(self.before, 'shard')} to {self.number}"
            raise ShardingError(detail, f"{_REMEDY} again")
        if self.number != ours:
            detail = f"[redis] shards = {ours}, but the data in Redis is divided into {self.number}"
            raise ShardingError(detail, f"leave `shards` out, or {_REMEDY}")


def choose_shards(connection: Connection, prefix: str, configured: int, *, any_shards: bool = False) -> int:
    """Return the number of shards: the configured one, else the stored one, else one that suits the server.

    Raises ShardingError when the data is divided otherwise (unless `any_shards`).
    """
    stored = load_sharding(connection, Keys(prefix, SINGLE))
    if stored is None:
        return configured or (CLUSTER if connection.is_cluster else SINGLE)
    chosen = configured or stored.number
    if not any_shards:
        stored.check(chosen)
    return chosen


def claim_shards(connection: Connection, keys: Keys) -> None:
    """Note our number of shards where none is noted. Raises ShardingError when the data is divided otherwise."""
    connection.call(*prepare_shards(keys))
    check_shards(connection, keys)


def check_shards(connection: Connection, keys: Keys) -> None:
    """Raise ShardingError if data is stored that is not divided into our number of shards."""
    if stored := load_sharding(connection, keys):
        stored.check(keys.shards)


def prepare_shards(keys: Keys) -> Command:
    """Prepare to note the number of shards where none is noted: with each write, as Redis may lose its data."""
    return ("SET", keys.shard_count(), keys.shards, "NX")


def load_sharding(connection: Connection, keys: Keys) -> Sharding | None:
    """Return how the stored data is divided, None where there is none. Raises ShardingError for a text of others."""
    text = connection.call("GET", keys.shard_count())
    if text is None:
        return None
    match = re.fullmatch(r"(?:(\d{1,4})>)?(\d{1,4})", text)
    if not match or not int(match[2]):
        raise ShardingError(f"{keys.shard_count()} in Redis is no number of shards", "choose another [redis] prefix")
    return Sharding(int(match[2]), int(match[1]) if match[1] else None)


def save_sharding(connection: Connection, keys: Keys, sharding: Sharding) -> None:
    """Note how the data is divided."""
    number, before = sharding
    connection.call("SET", keys.shard_count(), number if before is None else f"{before}>{number}")
