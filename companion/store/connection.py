"""Send commands to Redis, alone or in one pipeline."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain
from typing import Any, Final, NamedTuple

from hiredis import pack_command
from redis import Redis
from redis.backoff import NoBackoff
from redis.client import Pipeline
from redis.exceptions import ResponseError
from redis.retry import Retry

from companion.errors import ConfigError
from companion.store.cluster import Cluster, ClusterPipeline, Master, is_cluster_url, parse_cluster_url
from companion.store.redis_errors import (
    NotNowError,
    RedisConnectionError,
    RedisTimeoutError,
    Unreachable,
    find_remedy,
    is_demoted,
    is_not_now,
)
from companion.store.sentinel import is_sentinel_url, make_master_client, parse_sentinel_url
from companion.store.slots import Command

__all__ = ["Command", "Connection", "Master", "NotNowError", "Patience", "ResponseError", "Unreachable", "find_remedy"]


class Patience(NamedTuple):
    """Hold how long to wait for Redis: for a connection, and for a reply.

    After a reply that did not come in time, calls fail at once for `pause_seconds`: those who queue behind it need not
    wait as long again.
    """

    connect_seconds: float
    reply_seconds: float
    pause_seconds: float = 0.0


WRITER: Final = Patience(10.0, 10.0)
"""Who writes events can wait: they are kept meanwhile."""
READER: Final = Patience(1.0, 1.5, 1.0)
"""A person, a probe or Prometheus can not: an answer or a refusal comes within three seconds."""


class _Packer:
    """Pack commands with hiredis alone: redis-py's packer looks at each argument in Python."""

    def pack(self, *arguments: Any) -> list[bytes]:
        name, *rest = arguments
        return [pack_command((*name.split(), *rest)) if " " in name else pack_command(arguments)]


class Connection:
    """Hold connections to one Redis: a server, the master behind Sentinels, or the servers of a Cluster.

    It blocks: where an event loop runs, call it from a thread.
    """

    def __init__(self, url: str, patience: Patience = WRITER) -> None:
        self._patience = patience
        self._url = url
        self._hung_until = 0.0
        options = {
            "decode_responses": True,
            "encoding_errors": "replace",
            "socket_timeout": patience.reply_seconds,
            "socket_connect_timeout": patience.connect_seconds,
            "health_check_interval": 30,
            "command_packer": _Packer(),
        }
        self.is_cluster = is_cluster_url(url)
        self.redis: Any
        """The client of redis-py, or a Cluster, which has the same few methods."""
        try:
            if self.is_cluster:
                self.redis = Cluster(parse_cluster_url(url), _retried(patience), **options)
            else:
                make = make_master_client if is_sentinel_url(url) else Redis.from_url
                self.redis = make(url, retry=Retry(NoBackoff(), 1, _retried(patience)), **options)
        except ValueError as error:
            raise ConfigError(f"[redis] url: {error}") from None
        self._plain_pipeline = self._make_plain_pipeline()

    @property
    def place(self) -> str:
        """Return where Redis is, without the password that may be in its URL."""
        if self.is_cluster:
            return f"the Cluster of {_join(parse_cluster_url(self._url).servers)}"
        if is_sentinel_url(self._url):
            at = parse_sentinel_url(self._url)
            return f"{at.name} of the Sentinels {_join(at.sentinels)}"
        options = self.redis.get_connection_kwargs()
        return str(options.get("path") or f"{options.get('host')}:{options.get('port')}")

    @property
    def map_changes(self) -> int:
        """Return a number that grows when another server of a Cluster may have become the master of a slot."""
        return int(self.redis.map_changes) if self.is_cluster else 0

    def masters(self) -> "Sequence[Connection | Master]":
        """Return each server that holds a part of the data, for commands about the server itself."""
        with self.attempt():
            return self.redis.masters() if self.is_cluster else [self]

    def master_of(self, key: str) -> "Connection | Master":
        """Return the server that holds a key."""
        with self.attempt():
            return self.redis.master_of(key) if self.is_cluster else self

    def steps(self, parts: Sequence[Sequence[Command]]) -> Iterable[Sequence[Command]]:
        """Return what to send one after the other so that no command is carried out before those of earlier parts.

        One server carries out a pipeline in its order. The servers of a Cluster do not wait for each other.
        """
        return parts if self.is_cluster else [list(chain.from_iterable(parts))]

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Raise NotNowError for what the server refuses for the time being.

        Raise RedisTimeoutError at once while a pause lasts. A server that became a replica keeps its connections. They
        are given up: the next ones, through the same name or proxy, lead to the new master.
        """
        if time.monotonic() < self._hung_until:
            raise RedisTimeoutError("Redis did not answer in time a moment ago")
        try:
            yield
        except RedisTimeoutError:
            self._hung_until = time.monotonic() + self._patience.pause_seconds
            raise
        except ResponseError as error:
            if is_demoted(error) and not self.is_cluster:
                self.redis.connection_pool.disconnect(inuse_connections=False)
            if is_not_now(error):
                raise NotNowError(str(error)) from error
            raise

    def call(self, *command: Any) -> Any:
        """Send one command and return its reply."""
        with self.attempt():
            reply: Any = self.redis.execute_command(*command)
        return reply

    def call_for_bytes(self, *command: Any) -> Any:
        """Send a command as `call` does, and return bytes in place of text."""
        with self.attempt():
            reply: Any = self.redis.execute_command(*command, NEVER_DECODE=True)
        return reply

    def pipeline(
        self, commands: Iterable[Command], *, raise_on_error: bool = True, one_moment: bool = False
    ) -> list[Any]:
        """Send commands at once and return the replies in order, errors too where `raise_on_error` is False.

        With `one_moment` no other client's command comes between them. On a Cluster they must be of one slot then;
        otherwise their order holds only within each slot.
        """
        return self._execute(self.redis.pipeline(transaction=one_moment), commands, raise_on_error=raise_on_error)

    def read(self, commands: Iterable[Command]) -> list[Any]:
        """Send commands at once and return the replies as the server sent them, errors too.

        To make a dict of each of thousands of entries takes too long.
        """
        return self._execute(self._plain_pipeline(), commands, raise_on_error=False)

    def read_bytes(self, commands: Iterable[Command]) -> list[Any]:
        """Send commands at once and return the replies in order, bytes in place of text, errors too."""
        pipeline = self.redis.pipeline(transaction=False)
        return self._execute(pipeline, commands, raise_on_error=False, NEVER_DECODE=True)

    def close(self) -> None:
        self.redis.close()

    def _make_plain_pipeline(self) -> Callable[[], Pipeline | ClusterPipeline]:
        if self.is_cluster:
            return partial(self.redis.pipeline, transaction=False, is_plain=True)
        plain = Redis(connection_pool=self.redis.connection_pool)
        plain.response_callbacks.clear()
        return partial(plain.pipeline, transaction=False)

    def _execute(
        self,
        pipeline: Pipeline | ClusterPipeline,
        commands: Iterable[Command],
        *,
        raise_on_error: bool,
        **options: Any,
    ) -> list[Any]:
        for command in commands:
            pipeline.execute_command(*command, **options)
        with self.attempt():
            replies = pipeline.execute(raise_on_error=raise_on_error) if len(pipeline) else []
            for reply in replies:
                if is_not_now(reply):
                    raise reply
        return replies


def _retried(patience: Patience) -> tuple[type[Exception], ...]:
    """Return the errors after which a call is tried once more: a connection may have died since its last use.

    Who has no patience does not wait for a second timeout.
    """
    return (RedisConnectionError,) if patience.pause_seconds else (RedisConnectionError, RedisTimeoutError)


def _join(addresses: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{host}:{port}" for host, port in addresses)
