"""Open the store: what all functions of this package work on."""

from typing import Final

from companion.config import RedisSection
from companion.errors import ConfigError, UnavailableError
from companion.store.connection import WRITER, Connection, Patience, ResponseError, Unreachable, find_remedy
from companion.store.format import check_format
from companion.store.keys import Keys
from companion.store.redis_errors import AuthenticationError
from companion.store.series import Series, Streams, TimeSeries, detect
from companion.store.server_mode import check_mode
from companion.store.shards import choose_shards
from companion.times import DAY_MS, HOUR_MS

REFRESH_MS: Final = HOUR_MS
"""How often a key's time to live is set anew; keys live so much longer than the samples in them."""
ENGINES: Final[dict[str, type[Series]]] = {"timeseries": TimeSeries, "streams": Streams}


class Store:
    """Hold the connections to one Redis, the names of its keys and its series engine.

    The functions of this package take it first and block; any thread may call them. `open_store` makes one.
    """

    def __init__(self, connection: Connection, keys: Keys, engine: type[Series], retention_ms: int) -> None:
        self.connection = connection
        self.keys = keys
        self.retention_ms = retention_ms
        self.ttl_ms = retention_ms + REFRESH_MS
        self.series = engine(retention_ms, self.ttl_ms, keys)

    def close(self) -> None:
        self.connection.close()


def open_store(
    config: RedisSection, patience: Patience = WRITER, *, any_format: bool = False, any_shards: bool = False
) -> Store:
    """Connect to Redis and choose the series engine. `patience`: how long the store's calls wait for Redis.

    Raises UnavailableError when Redis does not answer, StoreFormatError when its data has another format (unless
    `any_format`), ShardingError when it is divided into other shards than the configuration says (unless `any_shards`),
    ConfigError when the server is not what the URL says, or lacks what the configuration asks for.
    """
    connection = Connection(config.url, patience)
    try:
        check_mode(connection)
        keys = Keys(config.prefix, choose_shards(connection, config.prefix, config.shards, any_shards=any_shards))
        engine = detect(connection)
        if not any_format:
            check_format(connection, keys)
    except (AuthenticationError, ResponseError) as error:
        raise UnavailableError(f"Redis at {connection.place} refuses us ({error})", find_remedy(error)) from None
    except Unreachable as error:
        text = f"no Redis answers at {connection.place} ({type(error).__name__})"
        raise UnavailableError(text, find_remedy(error)) from None
    if config.series == "timeseries" and engine is not TimeSeries:
        raise ConfigError(
            f"[redis] series = 'timeseries', but {connection.place} has no TS commands: "
            "use Redis 8 or Redis Stack, or series = 'streams'"
        )
    return Store(connection, keys, ENGINES.get(config.series, engine), config.retention_days * DAY_MS)
