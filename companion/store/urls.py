"""Read the parts that the URLs of Sentinels and of a Cluster have in common. No I/O."""

from typing import Any
from urllib.parse import urlencode, urlsplit

from redis.connection import parse_url


def parse_addresses(hosts: str, port: int, whose: str) -> list[tuple[str, int]]:
    """Read `HOST:PORT,HOST:PORT`, where an IPv6 address is in brackets and `port` is the default.

    Raises ValueError that says `whose` address is missing.
    """
    return [_parse_address(host, port, whose) for host in hosts.split(",")]


def parse_options(scheme: str, login: str, database: str, query: dict[str, str]) -> dict[str, Any]:
    """Return how to connect to a server of the URL without its address: user, password, database, TLS, options."""
    plain = f"{scheme}://{login}@unused/{database}?{urlencode(query)}"
    options: dict[str, Any] = dict(parse_url(plain))  # type: ignore[no-untyped-call]
    for name in ("host", "port", "connection_class"):
        options.pop(name, None)
    return options


def _parse_address(text: str, port: int, whose: str) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    if not parts.hostname:
        raise ValueError(f"{text!r} is no HOST:PORT of {whose}")
    return parts.hostname, parts.port or port
