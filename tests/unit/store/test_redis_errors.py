"""Each error of Redis has the remedy for its own cause."""

import pytest
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

from companion.store.redis_errors import NotNowError, explain, find_remedy, is_redis_error

REMEDIES: list[tuple[Exception, str]] = [
    (RedisConnectionError("Error 111 connecting to 127.0.0.1:6379. Connection refused."), "start it"),
    (RedisConnectionError("Error -2 connecting to redis.example:6379. Name or service not known."), "correct the host"),
    (RedisConnectionError("Error -3 connecting to r:6379. Temporary failure in name resolution."), "correct the host"),
    (RedisConnectionError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed certificate"), "not trusted"),
    (RedisConnectionError("[SSL: CERTIFICATE_VERIFY_FAILED] Hostname mismatch, certificate is not valid"), "the name"),
    (RedisConnectionError("[SSL: CERTIFICATE_VERIFY_FAILED] certificate has expired"), "has expired"),
    (RedisConnectionError("[SSL: WRONG_VERSION_NUMBER] wrong version number"), "no TLS"),
    (RedisConnectionError("[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] certificate required"), "ssl_certfile"),
    (RedisConnectionError("max number of clients reached"), "maxclients"),
    (RedisTimeoutError("Timeout reading from socket"), "hangs"),
    (RedisTimeoutError("Timeout connecting to server"), "hangs"),
    (AuthenticationError("invalid username-password pair or user is disabled."), "the password"),
    (AuthenticationError("Authentication required."), "the password"),
    (AuthenticationError("HELLO must be called with the client already authenticated"), "the password"),
    (ResponseError("WRONGPASS invalid username-password pair"), "the password"),
    (NoPermissionError("this user has no permissions to run the 'evalsha' command"), "section Rights"),
    (OutOfMemoryError("command not allowed when used memory > 'maxmemory'."), "maxmemory"),
    (ReadOnlyError("You can't write against a read only replica."), "to the master"),
    (BusyLoadingError("Redis is loading the dataset in memory"), "wait"),
    (ResponseError("MISCONF Redis is configured to save RDB snapshots, but it's unable to persist"), "the disk"),
    (ResponseError("NOREPLICAS Not enough good replicas to write."), "min-replicas"),
    (ResponseError("unknown command 'TS.ADD', with args beginning with: "), "6.2"),
    (ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value"), "prefix"),
    (ResponseError("DB index is out of range"), "database"),
]


@pytest.mark.parametrize(("error", "part"), REMEDIES, ids=lambda value: str(value)[:40])
def test_remedy(error: Exception, part: str) -> None:
    """An error names what to do about its cause, also after it became "not now"."""
    assert part in find_remedy(error)
    later = NotNowError(str(error))
    later.__cause__ = error
    if not isinstance(error, RedisTimeoutError):
        assert part in find_remedy(later)


def test_line() -> None:
    """A log line has the type, the text and the remedy, and a mistake of ours is no error of Redis."""
    error = RedisTimeoutError("Timeout reading from socket")
    assert {"error": "TimeoutError", "detail": str(error), "remedy": find_remedy(error)} == explain(error)
    assert [is_redis_error(one) for one in (error, ResponseError("x"), ValueError(), OSError())] == [
        True,
        True,
        False,
        False,
    ]
