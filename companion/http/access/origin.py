"""Find out where a request comes from, as far as its ASGI scope tells. No I/O.

Any open page can make a browser send us requests, and a proxy sends those of strangers: a connection from loopback
alone is no reason to trust.
"""

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from ipaddress import IPv6Address, ip_address
from typing import Final

from starlette.types import Scope

_HOST: Final = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_-]+(?:\.[a-z0-9_-]+)*)\.?(?::([0-9]{1,5}))?")
_DEFAULT_PORTS: Final = {"http": "80", "https": "443"}
_PROXY_HEADERS: Final = frozenset(
    (b"forwarded", b"via", b"x-real-ip", b"x-client-ip", b"x-cluster-client-ip", b"true-client-ip", b"cf-connecting-ip")
)


def header(scope: Scope, name: bytes) -> str:
    """Return a header's value; "" when it is missing or, as none that we read may be, there twice."""
    values = [value for key, value in scope["headers"] if key == name]
    return values[0].decode("latin-1") if len(values) == 1 else ""


def host(scope: Scope) -> str:
    """Return the name or address in the Host header, lower case and without the port; "" when it is invalid."""
    match = _HOST.fullmatch(header(scope, b"host").lower())
    return match[1].strip("[]") if match else ""


def is_loopback(name: str) -> bool:
    """Return whether a host name, or a peer's address, is this machine's own."""
    try:
        address = ip_address(name)
    except ValueError:
        return name == "localhost"
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped.is_loopback
    return address.is_loopback


def peer(scope: Scope) -> str:
    """Return the address of the client, as trusted proxies give it; "" when it is no address."""
    try:
        return str(ip_address((scope.get("client") or ("",))[0]))
    except ValueError:
        return ""


def subscriber_network(address: str) -> str:
    """Return an address, of IPv6 its /64: one subscriber has all addresses in it. "" when it is no address.

    >>> subscriber_network("192.0.2.7"), subscriber_network("2001:db8::7"), subscriber_network("::ffff:192.0.2.7")
    ('192.0.2.7', '2001:db8::', '192.0.2.7')
    """
    try:
        parsed = ip_address(address)
    except ValueError:
        return ""
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    return str(parsed.ipv4_mapped or IPv6Address(int(parsed) >> 64 << 64))


def is_served(name: str, patterns: Iterable[str]) -> bool:
    """Return whether a host name is ours. A page under another name that leads here could read us (DNS rebinding)."""
    return is_loopback(name) or any(fnmatchcase(name, pattern.lower().strip("[]")) for pattern in patterns if name)


def is_local(scope: Scope) -> bool:
    """Return whether a request comes from this machine directly, not through a proxy.

    Proxies name themselves or the client in a header, or use a public name of ours, or speak HTTP/1.0, as nginx does
    by default.
    """
    return is_loopback(peer(scope)) and is_loopback(host(scope)) and not _is_proxied(scope)


def _is_proxied(scope: Scope) -> bool:
    has_header = any(name in _PROXY_HEADERS or name.startswith(b"x-forwarded") for name, _ in scope["headers"])
    return has_header or scope.get("http_version") == "1.0"


def is_same_origin(scope: Scope) -> bool | None:
    """Return whether one of our own pages sent the request; None when nothing tells, as with programs."""
    site = header(scope, b"sec-fetch-site")
    if site:
        return site == "same-origin"
    if any(name == b"origin" for name, _ in scope["headers"]):
        origin = header(scope, b"origin").lower()
        scheme, _, place = origin.partition("://")
        return (
            scheme in _DEFAULT_PORTS and _place(scheme, place) == _place(scheme, header(scope, b"host").lower()) != ""
        )
    return None


def _place(scheme: str, host_and_port: str) -> str:
    """Return HOST:PORT, "" for an invalid one. A proxy may have changed our scheme, so the page's counts for both."""
    match = _HOST.fullmatch(host_and_port)
    return f"{match[1]}:{match[2] or _DEFAULT_PORTS[scheme]}" if match else ""
