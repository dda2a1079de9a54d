"""Sockets of several processes at one address."""

import contextlib
import socket

import pytest

from companion.config import MetricsSection
from companion.errors import UnavailableError
from companion.http.listeners import open_listeners
from companion.simulator.redis import find_free_port

CLIENTS = 60


def close(processes: list[list[socket.socket]]) -> None:
    for sockets in processes:
        for one in sockets:
            one.close()


def count_waiting(listener: socket.socket) -> int:
    listener.setblocking(False)
    count = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            listener.accept()[0].close()
            count += 1
    return count


def test_connections_are_spread() -> None:
    """Each process gets its part of the connections, and none is lost before a process accepts."""
    at = MetricsSection(listen=f"127.0.0.1:{find_free_port()}")
    processes = open_listeners(at, "api", 3)
    clients = [socket.create_connection((at.host, at.port)) for _ in range(CLIENTS)]
    counts = [count_waiting(listener) for (listener,) in processes]
    assert sum(counts) == CLIENTS
    assert min(counts) > 0
    for client in clients:
        client.close()
    close(processes)


def test_an_address_that_is_taken() -> None:
    """A second companion is refused with the key of the configuration, as with a single process."""
    at = MetricsSection(listen=f"127.0.0.1:{find_free_port()}")
    processes = open_listeners(at, "api", 2)
    with pytest.raises(UnavailableError, match=rf"can not listen on {at.listen}; see \[api\] listen"):
        open_listeners(at, "api", 2)
    close(processes)


def test_a_name_with_several_addresses() -> None:
    """Each process listens at all addresses of a name, as a single process does."""
    at = MetricsSection(listen=f"localhost:{find_free_port()}")
    addresses = {info[4][0] for info in socket.getaddrinfo("localhost", at.port, type=socket.SOCK_STREAM)}
    processes = open_listeners(at, "api", 2)
    assert [{one.getsockname()[0] for one in sockets} for sockets in processes] == [addresses, addresses]
    close(processes)
