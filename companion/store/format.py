"""Check the format of the data in Redis: another one is refused.

Format 1, the first, has no number stored until it is migrated. docs/redis.md says what changed with each format.
"""

from typing import Final

from companion.errors import StoreFormatError
from companion.store.connection import Command, Connection
from companion.store.keys import Keys

FORMAT: Final = 2
_FIRST: Final = 1
SAMPLE: Final = 20
"""Devices of a shard that tell the format of data without a number."""


def load_format(connection: Connection, keys: Keys) -> int | None:
    """Return the format of the stored data, None where there is none or its number was lost.

    Raises StoreFormatError if it is no number.
    """
    text = connection.call("GET", keys.format())
    if text is None:
        return _FIRST if _has_first_format(connection, keys) else None
    try:
        return int(text)
    except ValueError:
        raise StoreFormatError(text, FORMAT, is_older=False) from None


def _has_first_format(connection: Connection, keys: Keys) -> bool:
    """Return whether devices are stored as format 1 had them: a Redis that evicts keys may have lost the number."""
    lists = connection.pipeline(("ZRANGE", keys.devices(shard), 0, SAMPLE) for shard in range(keys.shards))
    return "hash" in connection.pipeline(("TYPE", keys.device(device)) for ids in lists for device in ids)


def check_format(connection: Connection, keys: Keys) -> None:
    """Raise StoreFormatError if data is stored that this version can not read."""
    stored = load_format(connection, keys)
    if stored not in (None, FORMAT):
        raise StoreFormatError(str(stored), FORMAT, is_older=stored is not None and stored < FORMAT)


def prepare_format(keys: Keys) -> Command:
    """Prepare to note the format of this version where none is noted: with each write, as Redis may lose its data."""
    return ("SET", keys.format(), FORMAT, "NX")


def save_format(connection: Connection, keys: Keys, number: int = FORMAT) -> None:
    """Note the format of the data, by default the one of this version."""
    connection.call("SET", keys.format(), number)
