"""Check the format of the data in Redis: another one is refused.

Format 1, the first, has no number stored. docs/redis.md says what changed with each format.
"""

from typing import Final

from companion.errors import StoreFormatError
from companion.store.connection import Connection
from companion.store.keys import Keys

FORMAT: Final = 2
_FIRST: Final = 1


def load_format(connection: Connection, keys: Keys) -> int | None:
    """Return the format of the stored data, None where there is none. Raises StoreFormatError if it is no number."""
    lists = [keys.nodes(), *map(keys.devices, range(keys.shards))]
    text, *exist = connection.pipeline([("GET", keys.format()), *(("EXISTS", key) for key in lists)])
    if text is None:
        return _FIRST if any(exist) else None
    try:
        return int(text)
    except ValueError:
        raise StoreFormatError(text, FORMAT, is_older=False) from None


def check_format(connection: Connection, keys: Keys) -> None:
    """Raise StoreFormatError if data is stored that this version can not read."""
    stored = load_format(connection, keys)
    if stored not in (None, FORMAT):
        raise StoreFormatError(str(stored), FORMAT, is_older=stored is not None and stored < FORMAT)


def save_format(connection: Connection, keys: Keys) -> None:
    """Note that the data has the format of this version."""
    connection.call("SET", keys.format(), FORMAT)
