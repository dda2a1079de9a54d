"""Send commands to Redis, alone or in one pipeline."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from hiredis import pack_command
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from companion.errors import ConfigError

__all__ = ["Command", "Connection", "NotNowError", "ResponseError", "Unreachable", "find_remedy", "is_not_now"]

Command = tuple[Any, ...]

Unreachable: Final = (RedisConnectionError, RedisTimeoutError, OSError)
_NOT_NOW: Final = ("MISCONF", "NOREPLICAS", "CLUSTERDOWN", "TRYAGAIN", "LOADING", "OOM", "READONLY")
_NO_RIGHT_IN_SCRIPT: Final = ("ACL failure in script", "The user executing the script can't")
"""How Redis 7 and Redis 6 say in a script that the user lacks a right."""
TIMEOUT_SECONDS: Final = 10.0


class NotNowError(ResponseError):
    """Report that the server may take the command later.

    It loads, is full, can not save, is a replica now, or an administrator has yet to give us the right.
    """


class _Packer:
    """Pack commands with hiredis alone: redis-py's packer looks at each argument in Python."""

    def pack(self, *arguments: Any) -> list[bytes]:
        name, *rest = arguments
        return [pack_command((*name.split(), *rest)) if " " in name else pack_command(arguments)]


class Connection:
    """Hold a pool of connections to one Redis. It blocks: where an event loop runs, call it from a thread."""

    def __init__(self, url: str) -> None:
        try:
            self.redis = Redis.from_url(
                url,
                decode_responses=True,
                encoding_errors="replace",
                socket_timeout=TIMEOUT_SECONDS,
                socket_connect_timeout=TIMEOUT_SECONDS,
                retry=Retry(NoBackoff(), 1),
                health_check_interval=30,
                command_packer=_Packer(),
            )
        except ValueError as error:
            raise ConfigError(f"[redis] url: {error}") from None
        self._plain = Redis(connection_pool=self.redis.connection_pool)
        self._plain.response_callbacks.clear()

    @property
    def place(self) -> str:
        """Return where Redis is, without the password that may be in its URL."""
        options = self.redis.get_connection_kwargs()
        return str(options.get("path") or f"{options.get('host')}:{options.get('port')}")

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Raise NotNowError for what the server refuses for the time being.

        A server that became a replica keeps its connections. They are given up: the next ones, through the same name or
        proxy, lead to the new master.
        """
        try:
            yield
        except ResponseError as error:
            if is_demoted(error):
                self.redis.connection_pool.disconnect(inuse_connections=False)
            if _is_not_now(error):
                raise NotNowError(str(error)) from error
            raise

    def call(self, *command: Any) -> Any:
        """Send one command and return its reply."""
        return self._answer(self.redis, command)

    def call_for_bytes(self, *command: Any) -> Any:
        """Send a command as `call` does, and return bytes in place of text."""
        with self.attempt():
            reply: Any = self.redis.execute_command(*command, NEVER_DECODE=True)  # type: ignore[no-untyped-call]
        return reply

    def raw(self, *command: Any) -> Any:
        """Return the reply as the server sent it: to make a dict of each of thousands of entries takes too long."""
        return self._answer(self._plain, command)

    def pipeline(
        self, commands: Iterable[Command], *, raise_on_error: bool = True, one_moment: bool = False
    ) -> list[Any]:
        """Send commands at once and return the replies in order, errors too where `raise_on_error` is False.

        With `one_moment` no other client's command comes between them.
        """
        pipeline = self.redis.pipeline(transaction=one_moment)
        for command in commands:
            pipeline.execute_command(*command)  # type: ignore[no-untyped-call]
        with self.attempt():
            replies = pipeline.execute(raise_on_error=raise_on_error) if len(pipeline) else []
            for reply in replies:
                if _is_not_now(reply):
                    raise reply
        return replies

    def close(self) -> None:
        self.redis.close()

    def _answer(self, client: Redis, command: Command) -> Any:
        with self.attempt():
            reply: Any = client.execute_command(*command)  # type: ignore[no-untyped-call]
        return reply


def find_remedy(error: Exception) -> str:
    """Return what to do about a Redis that can not be used."""
    text = str(error)
    if isinstance(error, NoPermissionError) or isinstance(error.__cause__, NoPermissionError):
        return "give the user the rights in docs/redis.md, section Rights"
    if "SSL" in text or "certificate" in text.lower():
        return "the TLS certificate of Redis is not trusted: add ?ssl_ca_certs=FILE to [redis] url"
    if isinstance(error, AuthenticationError) or "WRONGPASS" in text or "NOAUTH" in text:
        return "set the user name and the password in [redis] url"
    return "start it, or set [redis] url to where it is"


def is_demoted(error: Exception) -> bool:
    """Return whether the server says that it is a replica now."""
    return isinstance(error, ReadOnlyError) or str(error).startswith("READONLY")


def is_not_now(error: str) -> bool:
    """Return whether the server may take the command of this error later."""
    return error.startswith(_NOT_NOW) or any(text in error for text in _NO_RIGHT_IN_SCRIPT)


def _is_not_now(reply: Any) -> bool:
    if isinstance(reply, BusyLoadingError | NoPermissionError | OutOfMemoryError | ReadOnlyError):
        return True
    return isinstance(reply, ResponseError) and is_not_now(str(reply))
