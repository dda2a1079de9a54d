"""Parse addresses of event transports: `udp:HOST:PORT` and `tcp:HOST:PORT`. No I/O."""

import ipaddress
import re
from typing import Literal, NamedTuple, cast

from companion.errors import ConfigError

Scheme = Literal["udp", "tcp"]

_ADDRESS = re.compile(r"(udp|tcp):(?:\[([^\[\]\s]+)\]|([^:\[\]\s]+)):([0-9]{1,5})", re.ASCII)


class Address(NamedTuple):
    """Hold an address to listen on; `host` is a name or an IP address without brackets, port 0 is any free one."""

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
