"""Listen at one address for several processes."""

import socket
from typing import Any, Final

from companion.config import ListenSection
from companion.errors import UnavailableError

BACKLOG: Final = 128
"""How many connections the kernel may accept for us: what we do not manage to take soon is better told so."""


def open_listeners(at: ListenSection, table: str, number: int) -> list[list[socket.socket]]:
    """Open sockets for so many processes at one address, of a name with several addresses one for each.

    The kernel spreads new connections over the processes. One socket that all accept from would give many connections
    to the process that wakes up first, and a kept-alive connection stays where it is.

    Raises UnavailableError that names `table` of the configuration when the address can not be had.
    """
    try:
        infos = socket.getaddrinfo(at.host, at.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        addresses = dict.fromkeys((family, address) for family, _, _, _, address in infos)
        of_addresses = [_open_at(socket.AddressFamily(family), address, number) for family, address in addresses]
    except OSError:
        raise UnavailableError(f"can not listen on {at.listen}; see [{table}] listen") from None
    return [list(of_process) for of_process in zip(*of_addresses, strict=True)]


def _open_at(family: socket.AddressFamily, address: Any, number: int) -> list[socket.socket]:
    """Open the first socket for itself alone, so that a second companion is refused; then let the others join."""
    first = _bind(family, address)
    first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sockets = [first, *(_bind(family, first.getsockname(), joins=True) for _ in range(number - 1))]
    for one in sockets:
        one.listen(BACKLOG)
    return sockets


def _bind(family: socket.AddressFamily, address: Any, *, joins: bool = False) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if joins:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound
