"""The one way to Redis: commands as tuples, alone or in one pipeline."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from hiredis import pack_command
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, OutOfMemoryError, ReadOnlyError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from companion.errors import ConfigError

__all__ = ["Command", "Connection", "NotNowError", "ResponseError", "Unreachable", "telling_not_now"]

Command = tuple[Any, ...]

Unreachable: Final = (RedisConnectionError, RedisTimeoutError, OSError)
_NOT_NOW: Final = ("MISCONF", "NOREPLICAS", "CLUSTERDOWN", "TRYAGAIN", "LOADING", "OOM", "READONLY")
TIMEOUT_SECONDS: Final = 10.0


class NotNowError(ResponseError):
    """The server would take the same command later: it loads, it is full, it can not save, it is a replica now."""


@contextmanager
def telling_not_now() -> Iterator[None]:
    """Raise NotNowError for what the server only refuses for the time being."""
    try:
        yield
    except ResponseError as error:
        if _is_not_now(error):
            raise NotNowError(str(error)) from error
        raise


class _Packer:
    """hiredis and nothing else: redis-py's own way around it looks at each argument in Python."""

    def pack(self, *arguments: Any) -> list[bytes]:
        name, *rest = arguments
        return [pack_command((*name.split(), *rest)) if " " in name else pack_command(arguments)]


class Connection:
    """A pool of connections to one Redis. Blocking: call it from a thread where an event loop runs."""

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

    def call(self, *command: Any) -> Any:
        return _answer(self.redis, command)

    def call_for_bytes(self, *command: Any) -> Any:
        """As `call`, with bytes in place of every text: for what is none."""
        with telling_not_now():
            reply: Any = self.redis.execute_command(*command, NEVER_DECODE=True)  # type: ignore[no-untyped-call]
        return reply

    def raw(self, *command: Any) -> Any:
        """The reply as the server sent it: a dict for each of thousands of entries takes longer than reading them."""
        return _answer(self._plain, command)

    def pipeline(
        self, commands: Iterable[Command], *, raise_on_error: bool = True, one_moment: bool = False
    ) -> list[Any]:
        """Send all at once and give the replies in order; with `raise_on_error` False errors are replies too.

        With `one_moment` nobody else's command comes between them.
        """
        pipeline = self.redis.pipeline(transaction=one_moment)
        for command in commands:
            pipeline.execute_command(*command)  # type: ignore[no-untyped-call]
        with telling_not_now():
            replies = pipeline.execute(raise_on_error=raise_on_error) if len(pipeline) else []
        for reply in replies:
            if _is_not_now(reply):
                raise NotNowError(str(reply))
        return replies

    def close(self) -> None:
        self.redis.close()


def _answer(client: Redis, command: Command) -> Any:
    with telling_not_now():
        reply: Any = client.execute_command(*command)  # type: ignore[no-untyped-call]
    return reply


def _is_not_now(reply: Any) -> bool:
    if isinstance(reply, BusyLoadingError | OutOfMemoryError | ReadOnlyError):
        return True
    return isinstance(reply, ResponseError) and str(reply).startswith(_NOT_NOW)
