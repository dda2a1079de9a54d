"""Connect to the Redis that Sentinels call the master now.

`redis+sentinel://USER:PASSWORD@HOST:PORT,HOST:PORT/NAME/DB?OPTIONS` names the Sentinels and their name for it. User,
password, DB and options are those of the Redis, as in a plain URL. `rediss+sentinel` speaks TLS with all of them. The
options `sentinel_username` and `sentinel_password` are for Sentinels that want a login.
"""

from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from redis import Redis
from redis.sentinel import Sentinel

from companion.store.urls import parse_addresses, parse_options

PORT: Final = 26379
_SUFFIX: Final = "+sentinel"
_OWN: Final = {"sentinel_username": "username", "sentinel_password": "password"}
"""Options for the Sentinels themselves, and what the client calls them."""


class SentinelUrl(NamedTuple):
    """Hold where the Sentinels are, how to log in there, the name of the master, and how to connect to it."""

    sentinels: list[tuple[str, int]]
    login: dict[str, str]
    name: str
    options: dict[str, Any]


def is_sentinel_url(url: str) -> bool:
    """Return whether a URL names Sentinels."""
    return urlsplit(url).scheme.endswith(_SUFFIX)


def parse_sentinel_url(url: str) -> SentinelUrl:
    """Read the URL of Sentinels. Raises ValueError for one that names none, or no master."""
    parts = urlsplit(url)
    login, _, hosts = parts.netloc.rpartition("@")
    name, _, database = parts.path.strip("/").partition("/")
    if not name:
        raise ValueError("name the master behind the Sentinels: redis+sentinel://HOST:PORT,HOST:PORT/NAME")
    options = dict(parse_qsl(parts.query))
    own = {_OWN[key]: options.pop(key) for key in list(options) if key in _OWN}
    scheme = parts.scheme.removesuffix(_SUFFIX)
    connecting = parse_options(scheme, login, database, options)
    if scheme == "rediss":
        connecting["ssl"] = True
    return SentinelUrl(parse_addresses(hosts, PORT, "a Sentinel"), own, name, connecting)


def make_master_client(url: str, **options: Any) -> Redis:
    """Return a client of the present master: each new connection goes to the one of that moment."""
    at = parse_sentinel_url(url)
    timeouts = {name: value for name, value in options.items() if name.startswith(("socket_", "retry"))}
    tls = {name: value for name, value in at.options.items() if name.startswith("ssl")}
    sentinel = Sentinel(  # type: ignore[no-untyped-call]
        at.sentinels, sentinel_kwargs={**timeouts, **tls, **at.login}, **{**at.options, **options}
    )
    client: Redis = sentinel.master_for(at.name)  # type: ignore[no-untyped-call]
    return client
