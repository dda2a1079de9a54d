"""Tell the errors of Redis apart, and what to do about each. No I/O."""

import re
from typing import Any, Final

from redis.exceptions import (
    AskError,
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    MovedError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

__all__ = [
    "AskError",
    "AuthenticationError",
    "ClusterDownError",
    "MovedError",
    "NotNowError",
    "RedisConnectionError",
    "RedisError",
    "RedisTimeoutError",
    "ResponseError",
    "TryAgainError",
    "Unreachable",
    "explain",
    "find_remedy",
    "is_demoted",
    "is_not_now",
    "is_redis_error",
]

Unreachable: Final = (RedisConnectionError, RedisTimeoutError, OSError)
_NOT_NOW_TYPES: Final = (
    *(BusyLoadingError, NoPermissionError, OutOfMemoryError, ReadOnlyError),
    *(ClusterDownError, AskError, MovedError, TryAgainError),
)
"""redis-py leaves the first word out of the texts of these."""
_NOT_NOW: Final = ("MISCONF", "NOREPLICAS", "CLUSTERDOWN", "TRYAGAIN", "LOADING", "OOM", "READONLY")
_NO_RIGHT_IN_SCRIPT: Final = ("ACL failure in script", "The user executing the script can't")
"""How Redis 7 and Redis 6 say in a script that the user lacks a right."""

RIGHTS: Final = "give the user the rights in docs/redis.md, section Rights"
LOGIN: Final = "set the user name and the password in [redis] url"
FULL: Final = "raise maxmemory of Redis, or lower [redis] retention_days"
REPLICA: Final = "it is a replica: set [redis] url to the master"
DISK: Final = "Redis can not save its data: look at the disk and the log of its machine"
HANGS: Final = "Redis or the network hangs: try `redis-cli --latency`, and look at its machine"
ENDS: Final = "it ends the connection: it may want rediss:// in [redis] url, or ssl_certfile and ssl_keyfile of yours"
START: Final = "start it, or set [redis] url to where it is"

_REMEDIES: Final = (
    (r"no permissions|NOPERM|ACL failure|user executing the script", RIGHTS),
    (r"WRONG_VERSION_NUMBER|record layer failure", "no TLS is spoken at that port: correct [redis] url"),
    (r"Hostname mismatch|IP address mismatch", "use the name in the TLS certificate of Redis in [redis] url"),
    (r"certificate.has.expired", "the TLS certificate of Redis has expired: renew it"),
    (r"certificate.required|handshake failure", "add ssl_certfile and ssl_keyfile of yours to [redis] url"),
    (r"certificate|\bSSL\b", "the TLS certificate of Redis is not trusted: add ?ssl_ca_certs=FILE to [redis] url"),
    (r"WRONGPASS|NOAUTH|Authentication required|without any password|invalid username-password", LOGIN),
    (r"^OOM|used memory", FULL),
    (r"READONLY|read.only replica", REPLICA),
    (r"MISCONF|unable to persist", DISK),
    (r"LOADING|loading the dataset", "wait: Redis loads its data after a start"),
    (r"NOREPLICAS", "Redis waits for its replicas: see min-replicas-to-write"),
    (r"CLUSTERDOWN|TRYAGAIN|MOVED|CROSSSLOT|hash slot|not covered|cluster is down", "look at `redis-cli cluster info`"),
    (r"No master found", "look at the Sentinels, and at their certificates if they speak TLS; correct [redis] url"),
    (r"max number of clients", "raise maxclients of Redis"),
    (r"unknown command|unknown subcommand", "use Redis 6.2 or newer, and rename none of its commands"),
    (r"WRONGTYPE", "another program writes the same keys: choose another [redis] prefix"),
    (r"DB index", "choose a database that the server has, at the end of [redis] url"),
    (r"Protocol Error|Invalid response", "what listens there is no Redis, or wants TLS: correct [redis] url"),
    (r"Name or service not known|name resolution|nodename|No address associated", "correct the host in [redis] url"),
    (r"Timeout|timed out|did not answer", HANGS),
    (r"reset by peer|closed by server|broken pipe|EOF occurred", ENDS),
)  # fmt: skip
"""The first that fits the text of an error tells what to do."""


class NotNowError(ResponseError):
    """Report that the server may take the command later.

    It loads, is full, can not save, is a replica now, or an administrator has yet to give us the right.
    """


def find_remedy(error: Exception) -> str:
    """Return what to do about a Redis that can not be used."""
    causes = (error, *(cause for cause in (error.__cause__,) if cause))
    if any(isinstance(cause, NoPermissionError) for cause in causes):
        return RIGHTS
    if any(isinstance(cause, AuthenticationError) for cause in causes):
        return LOGIN
    if isinstance(error, RedisTimeoutError | TimeoutError):
        return HANGS
    text = str(error)
    return next((remedy for pattern, remedy in _REMEDIES if re.search(pattern, text, re.IGNORECASE)), START)


def explain(error: Exception) -> dict[str, str]:
    """Return the fields of a log line about an error of Redis: its type, its text, and what to do."""
    return {"error": type(error).__name__, "detail": str(error)[:200], "remedy": find_remedy(error)}


def is_redis_error(error: BaseException) -> bool:
    """Return whether an error is one of Redis or of the way to it, and no mistake of ours."""
    return isinstance(error, RedisError)


def is_demoted(error: Exception) -> bool:
    """Return whether the server says that it is a replica now."""
    return isinstance(error, ReadOnlyError) or str(error).startswith("READONLY")


def is_not_now(reply: Any) -> bool:
    """Return whether a reply is an error that may be over later."""
    if isinstance(reply, _NOT_NOW_TYPES):
        return True
    if not isinstance(reply, ResponseError):
        return False
    text = str(reply)
    return text.startswith(_NOT_NOW) or any(words in text for words in _NO_RIGHT_IN_SCRIPT)
