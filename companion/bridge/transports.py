"""How events come in from OpenSIPS: addresses, and what a transport does with the bytes of one JSON object."""

import errno
import ipaddress
import re
from collections.abc import Callable
from typing import Literal, NamedTuple, cast

from companion import log, metrics
from companion.errors import ConfigError, UnavailableError

Scheme = Literal["udp", "tcp"]

Receive = Callable[[bytes], bytes | None]
"""Takes the bytes of ONE JSON object, in the event loop. Returns a reply for the sender (only a stream carries
one: a request with an id, OpenSIPS event_stream in reliable_mode) or None."""

_ADDRESS = re.compile(r"(udp|tcp):(?:\[([^\[\]\s]+)\]|([^:\[\]\s]+)):([0-9]{1,5})", re.ASCII)


class Address(NamedTuple):
    """Where to listen. `host` is a name or an IP address, without brackets; port 0 is any free one."""

    scheme: Scheme
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}:{host}:{self.port}"


def parse_address(text: str) -> Address:
    """Read an address as OpenSIPS writes its event sockets: `udp:127.0.0.1:5066`, `tcp:[::1]:5067`.

    Raises ConfigError.
    """
    match = _ADDRESS.fullmatch(text)
    if match is None:
        raise ConfigError(f"not an address: {text!r} (write udp:127.0.0.1:5066 or tcp:[::1]:5067)")
    scheme, ipv6, host, port = match.groups()
    if ipv6 is not None and not _is_ipv6(ipv6):
        raise ConfigError(f"not an IPv6 address: {ipv6!r} in {text!r}")
    if int(port) > 65535:
        raise ConfigError(f"not a port: {port} in {text!r} (0 to 65535)")
    return Address(cast("Scheme", scheme), ipv6 or host, int(port))


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def deliver(receive: Receive, data: bytes, where: str, episodes: log.Episodes) -> bytes | None:
    """Call `receive`. An exception in it costs this one object, is counted, and logged with its traceback."""
    try:
        return receive(data)
    except Exception:  # noqa: BLE001 - whatever it is, the transport goes on
        metrics.INVALID.labels(where, "error").inc()
        episodes.warn("an event could not be handled", where=where, exc_info=True)
        return None


def can_not_listen(address: Address, error: OSError) -> UnavailableError:
    """The error for a failed bind or look-up, with what to do about it."""
    setting = "datagram" if address.scheme == "udp" else "stream"
    remedy = f"change [bridge] {setting}, and the address OpenSIPS sends its events to"
    if error.errno == errno.EADDRINUSE:
        remedy = f"end the program that listens there, or {remedy}"
    return UnavailableError(f"can not listen on {address}: {error.strerror or error}; {remedy}")
