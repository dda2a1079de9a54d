"""Send event texts: a datagram for each, or one TCP connection with nothing between them."""

import asyncio
import socket
from collections import deque
from contextlib import suppress
from typing import Any, NamedTuple, Protocol

from companion.errors import UnavailableError, UsageError

# so many datagrams at once leave room in a reader's default socket buffer (212,992 bytes), emptied in the rest
BURST = 32
REST_SECONDS = 0.002
SEND_BUFFER = 4 << 20
# the queue between event_stream's workers and its sender holds as many
PIPE_EVENTS = 8192
RECONNECT_SECONDS = 0.1


class Destination(NamedTuple):
    """Hold an event socket as subscribe_event() takes it: "udp:127.0.0.1:5066" or "tcp:127.0.0.1:5067"."""

    proto: str
    host: str
    port: int


def parse_destination(text: str) -> Destination:
    """Read an event socket; UsageError for anything but udp:host:port and tcp:host:port."""
    proto, _, address = text.partition(":")
    host, _, port = address.rpartition(":")
    if proto not in {"udp", "tcp"} or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise UsageError(f"{text!r} is no event socket: write udp:HOST:PORT or tcp:HOST:PORT")
    return Destination(proto, host.strip("[]"), int(port))


def is_event_socket(text: str) -> bool:
    """Return whether events can be sent there: it is well written, and its host has an address."""
    try:
        _resolve(parse_destination(text))
    except (UsageError, UnavailableError):
        return False
    return True


class Sink(Protocol):
    """Take texts without waiting. What can not be delivered is counted in `dropped`."""

    sent: int
    dropped: int

    def send(self, text: bytes) -> None: ...
    async def flush(self) -> None: ...
    async def close(self) -> None: ...


def open_sink(text: str) -> Sink:
    """Open the sink for an event socket; needs a running loop."""
    where = parse_destination(text)
    return DatagramSink(where) if where.proto == "udp" else StreamSink(where)


class DatagramSink:
    """Send one object a datagram, in bursts that a reader in the same process can keep up with."""

    def __init__(self, where: Destination) -> None:
        self.sent = self.dropped = 0
        self._address, self._socket = open_udp_socket(where)
        self._queue: deque[bytes] = deque()
        self._filled = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._task = asyncio.create_task(self._run())

    def send(self, text: bytes) -> None:
        self._queue.append(text)
        self._filled.set()
        self._idle.clear()

    async def flush(self) -> None:
        await self._idle.wait()

    async def close(self) -> None:
        await _cancel(self._task)
        self._socket.close()

    async def _run(self) -> None:
        while True:
            await self._filled.wait()
            for _ in range(min(BURST, len(self._queue))):
                self._send_one(self._queue.popleft())
            if not self._queue:
                self._filled.clear()
                self._idle.set()
            await asyncio.sleep(REST_SECONDS)

    def _send_one(self, text: bytes) -> None:
        try:
            self._socket.sendto(text, self._address)
            self.sent += 1
        except OSError:  # no route, or longer than a datagram: OpenSIPS only logs it
            self.dropped += 1


class StreamSink:
    """Send objects back to back on one connection, made anew when it breaks. What comes meanwhile is dropped."""

    def __init__(self, where: Destination) -> None:
        self.sent = self.dropped = 0
        self._where = where
        self._queue: deque[bytes] = deque()
        self._filled = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._task = asyncio.create_task(self._run())

    def send(self, text: bytes) -> None:
        if len(self._queue) >= PIPE_EVENTS:
            self.dropped += 1
            return
        self._queue.append(text)
        self._filled.set()
        self._idle.clear()

    async def flush(self) -> None:
        await self._idle.wait()

    async def close(self) -> None:
        await _cancel(self._task)

    async def _run(self) -> None:
        while True:
            await self._filled.wait()
            with suppress(OSError):
                await self._serve_connection()
            self._drop_all()
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _serve_connection(self) -> None:
        reader, writer = await asyncio.open_connection(self._where.host, self._where.port)
        hang_up = asyncio.create_task(reader.read())
        hang_up.add_done_callback(lambda _: self._filled.set())
        try:
            while not hang_up.done():
                await self._write(writer)
                await self._filled.wait()
        finally:
            await _cancel(hang_up)
            await close_writer(writer)

    async def _write(self, writer: asyncio.StreamWriter) -> None:
        while self._queue:
            texts = list(self._queue)
            writer.write(b"".join(texts))
            await writer.drain()
            for _ in texts:
                self._queue.popleft()
            self.sent += len(texts)
        self._filled.clear()
        self._idle.set()

    def _drop_all(self) -> None:
        self.dropped += len(self._queue)
        self._queue.clear()
        self._filled.clear()
        self._idle.set()


def open_udp_socket(where: Destination) -> tuple[Any, socket.socket]:
    """Return the address and a UDP socket to send there. Raises UnavailableError when there is no such host.

    It is not connected: a connected one loses a datagram for each ICMP error, and OpenSIPS' is not either.
    """
    family, address = _resolve(where)
    sender = socket.socket(family, socket.SOCK_DGRAM)
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    return address, sender


def _resolve(where: Destination) -> tuple[int, Any]:
    """Return address family and address, IPv4 first: event_datagram speaks nothing else."""
    try:
        addresses = socket.getaddrinfo(where.host, where.port, type=socket.SOCK_DGRAM)
    except OSError as error:
        raise UnavailableError(f"can not resolve {where.host}: {error}") from error
    family, _, _, _, address = min(addresses, key=lambda one: one[0] != socket.AF_INET)
    return family, address


async def close_writer(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


async def _cancel(task: "asyncio.Task[object]") -> None:
    task.cancel()
    with suppress(asyncio.CancelledError, OSError):
        await task
