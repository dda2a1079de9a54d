"""Receive events of OpenSIPS' event_datagram: one JSON object in each UDP datagram."""

import asyncio
import os
import socket
from pathlib import Path

from companion import log, metrics
from companion.bridge.transports import Receive, can_not_listen, deliver
from companion.config.address import Address
from companion.errors import ConfigError

MAX_DATAGRAM_BYTES = 65_535
DATAGRAMS_A_TURN = 256  # then other tasks run

_SO_RCVBUFFORCE = getattr(socket, "SO_RCVBUFFORCE", 33)  # Linux; Python names it from 3.14 on
_log = log.get(__name__)


class DatagramInput:
    """Listen on a UDP address and pass each datagram to `receive`; its replies are ignored.

    `name` is its option in [bridge], and its label in metrics.
    Once started, `address` has the bound port, and `granted_buffer_bytes` is the part of `buffer_bytes` that the kernel
    granted. Datagrams that do not fit while the companion is busy are lost; only the kernel counts them
    (`kernel_drops`).
    Raises ConfigError when the address is not a UDP one.
    """

    def __init__(self, address: Address, receive: Receive, buffer_bytes: int = 8 << 20, name: str = "datagram") -> None:
        if address.scheme != "udp":
            raise ConfigError(f"[bridge] {name} takes an address like udp:127.0.0.1:5066, not {address}")
        self.address = address
        self.granted_buffer_bytes = 0
        self._name = name
        self._receive = receive
        self._buffer_bytes = buffer_bytes
        self._episodes = log.Episodes(_log)
        self._received = metrics.RECEIVED.labels(name)
        self._socket: socket.socket | None = None

    async def start(self) -> None:
        """Start to listen.

        Raises UnavailableError when the address can not be bound.
        """
        loop = asyncio.get_running_loop()
        try:
            candidates = await loop.getaddrinfo(self.address.host, self.address.port, type=socket.SOCK_DGRAM)
            family, _, _, _, target = min(candidates, key=lambda one: one[0] != socket.AF_INET)  # OpenSIPS sends IPv4
            bound = _bind(family, target)
        except OSError as error:
            raise can_not_listen(self.address, error, self._name) from error
        self._socket = bound
        self.address = self.address._replace(port=bound.getsockname()[1])
        self.granted_buffer_bytes = _enlarge_buffer(bound, self._buffer_bytes)
        self._log_start()
        loop.add_reader(bound, self._drain, bound)

    def kernel_drops(self) -> int | None:
        """Return the datagrams lost since the start because the buffer was full, None where the kernel has no count."""
        if self._socket is None:
            return None
        table = "udp6" if self._socket.family == socket.AF_INET6 else "udp"
        return _drops(Path("/proc/net", table), os.fstat(self._socket.fileno()).st_ino)

    async def close(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    def _log_start(self) -> None:
        fields: dict[str, object] = {"requested": self._buffer_bytes, "granted": self.granted_buffer_bytes}
        if self.granted_buffer_bytes < self._buffer_bytes:
            fields["remedy"] = f"sysctl -w net.core.rmem_max={self._buffer_bytes}"
            _log.warning("listening, with a small receive buffer", address=str(self.address), **fields)
        else:
            _log.info("listening", address=str(self.address), **fields)

    def _drain(self, bound: socket.socket) -> None:
        """Take waiting datagrams; the event loop calls again while some are left."""
        count = 0
        try:
            while count < DATAGRAMS_A_TURN and self._socket is bound:
                data = bound.recv(MAX_DATAGRAM_BYTES + 1)
                count += 1
                self._take(data)
        except BlockingIOError:
            pass
        except OSError as error:
            self._episodes.warn("a datagram could not be read", error=str(error))
        self._received.inc(count)

    def _take(self, data: bytes) -> None:
        if len(data) > MAX_DATAGRAM_BYTES:  # the kernel cut it (MSG_TRUNC) to the size of recv, or would have
            metrics.INVALID.labels(self._name, "truncated").inc()
            self._episodes.warn("a datagram was too large and was ignored", limit=MAX_DATAGRAM_BYTES)
        else:
            deliver(self._receive, data, self._name, self._episodes)


def _bind(family: int, address: tuple[object, ...]) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_DGRAM)
    try:
        bound.setblocking(False)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound


def _enlarge_buffer(bound: socket.socket, requested: int) -> int:
    """Set the receive buffer and return its bytes: root gets all, others at most net.core.rmem_max."""
    try:
        bound.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, requested)
    except OSError:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, requested)
    # Linux doubles the size for its own bookkeeping and returns the double: socket(7).
    return bound.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2


def _drops(table: Path, inode: int) -> int | None:
    """Read the last column, `drops`, of the socket's line in /proc/net/udp: proc_net_udp(5)."""
    try:
        header, *lines = table.read_text().splitlines()
    except (OSError, ValueError):
        return None
    if not header.rstrip().endswith("drops"):
        return None
    rows = (fields for line in lines if (fields := line.split())[9] == str(inode))
    return next((int(fields[-1]) for fields in rows), None)
