"""Read and compare OpenSIPS' listening sockets. No I/O."""

import re
from functools import lru_cache
from ipaddress import ip_address
from typing import Final, NamedTuple

_SOCKET: Final = re.compile(
    r"(?P<proto>[a-z_]+):(?:\[(?P<v6>[^\[\]]+)\]|(?P<host>[^:\[\]]+)):(?P<port>\d{1,5})", re.IGNORECASE
)
_WILDCARDS: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared, not bound


class ListeningSocket(NamedTuple):
    """Hold a socket such as `ws:192.0.2.1:8080`; an IPv6 host is in its short form, without brackets."""

    proto: str
    host: str
    port: int

    @property
    def is_wildcard(self) -> bool:
        """Return whether it listens on every address of its machine."""
        return self.host in _WILDCARDS

    def accepts(self, proto: str, host: str, port: int) -> bool:
        """Return whether a connection to this destination came in on it."""
        if (proto.lower(), port) != (self.proto, self.port):
            return False
        destination = normalise_host(host)
        return self.is_wildcard or destination in _WILDCARDS or destination == self.host


@lru_cache(maxsize=1024)
def parse_socket(text: str) -> ListeningSocket | None:
    """Read the `socket` of an event or of MI, None for anything else.

    >>> parse_socket("ws:[2001:db8:0:0:0:0:0:1]:8080")
    ListeningSocket(proto='ws', host='2001:db8::1', port=8080)
    """
    match = _SOCKET.fullmatch(text)
    if not match:
        return None
    return ListeningSocket(match["proto"].lower(), normalise_host(match["v6"] or match["host"]), int(match["port"]))


def normalise_host(host: str) -> str:
    """Return an IP address in its one short form, any other host in lower case."""
    bare = host.strip("[]").lower()
    try:
        return str(ip_address(bare))
    except ValueError:
        return bare
