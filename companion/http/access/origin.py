"""Where a request comes from, as far as its ASGI scope tells. No I/O.

A browser can be made to ask us by any page it has open, and a proxy asks in the name of strangers: being asked from
loopback alone is no reason to trust.
"""

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from ipaddress import IPv6Address, ip_address
from typing import Final

from starlette.types import Scope

_HOST: Final = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_-]+(?:\.[a-z0-9_-]+)*)\.?(?::([0-9]{1,5}))?")
_DEFAULT_PORTS: Final = {"http": "80", "https": "443"}
_PROXIES_SAY: Final = frozenset(
    (b"forwarded", b"via", b"x-real-ip", b"x-client-ip", b"x-cluster-client-ip", b"true-client-ip", b"cf-connecting-ip")
)


def header(scope: Scope, name: bytes) -> str:
    """A header's value, "" when it is not there or, as none that we read may be, there twice."""
    values = [value for key, value in scope["headers"] if key == name]
    return values[0].decode("latin-1") if len(values) == 1 else ""


def host(scope: Scope) -> str:
    """The name or address in the Host header, lower case and without the port; "" when it is no such thing."""
    found = _HOST.fullmatch(header(scope, b"host").lower())
    return found[1].strip("[]") if found else ""


def is_loopback(name: str) -> bool:
    """Whether a host name, or a peer's address, is this machine's own."""
    try:
        address = ip_address(name)
    except ValueError:
        return name == "localhost"
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped.is_loopback
    return address.is_loopback


def peer(scope: Scope) -> str:
    """The address that asks, behind a proxy we believe that of its client; "" for what is none, and may be any text."""
    try:
        return str(ip_address((scope.get("client") or ("",))[0]))
    except ValueError:
        return ""


def is_served(name: str, patterns: Iterable[str]) -> bool:
    """Whether we go by that name. Otherwise a page whose name was made to lead here could read us (DNS rebinding)."""
    return is_loopback(name) or any(fnmatchcase(name, pattern.lower().strip("[]")) for pattern in patterns if name)


def is_local(scope: Scope) -> bool:
    """Whether somebody on this machine asks us directly.

    Not through a proxy: those name themselves or the client in a header, or call us by a public name, or, as nginx does
    unless told otherwise, speak HTTP/1.0.
    """
    return is_loopback(peer(scope)) and is_loopback(host(scope)) and not _is_proxied(scope)


def _is_proxied(scope: Scope) -> bool:
    said = any(name in _PROXIES_SAY or name.startswith(b"x-forwarded") for name, _ in scope["headers"])
    return said or scope.get("http_version") == "1.0"


def is_same_origin(scope: Scope) -> bool | None:
    """Whether one of our own pages asks; None when nothing tells, as with programs, which are no browsers."""
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
    """HOST:PORT, "" for what is none. Both sides are taken with the page's scheme: ours a proxy may have changed."""
    found = _HOST.fullmatch(host_and_port)
    return f"{found[1]}:{found[2] or _DEFAULT_PORTS[scheme]}" if found else ""
