"""Receive events of OpenSIPS' event_stream: JSON objects back to back on TCP connections."""

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from companion import log, metrics
from companion.bridge.framer import Framer
from companion.bridge.transports import Receive, can_not_listen, deliver
from companion.config.address import Address
from companion.errors import ConfigError
from companion.opensips.hep import HepFramer

READ_BYTES = 1 << 16
OBJECTS_A_TURN = 256  # then other tasks run
REPLY_SECONDS = 10.0  # a peer that takes its replies no faster is closed
QUIET_SECONDS = 60.0  # a connection that was silent for so long gives way to a new one
_TURNS_TO_ACCEPT = 5  # of the loop, from accept(2) to the end of an aborted connection

AnyFramer = Framer | HepFramer
_log = log.get(__name__)


class StreamInput:
    """Listen on a TCP address, pass each JSON object of each connection to `receive`, and write back its replies.

    `name` is its option in [bridge] and its label in metrics; `make_framer` makes what splits a stream into objects.
    `max_bytes` bounds one object. A connection that brings no object within `first_object_seconds` is closed: OpenSIPS
    connects when it has an event. If `max_connections` are open, one that has brought none or is quiet gives way to a
    new one; if there is none, the new one is refused. Once started, `address` has the bound port.
    Raises ConfigError when the address is not a TCP one.
    """

    def __init__(  # noqa: PLR0913 - options of one kind
        self,
        address: Address,
        receive: Receive,
        *,
        max_bytes: int = 1 << 20,
        first_object_seconds: float = 30.0,
        max_connections: int = 64,
        name: str = "stream",
        make_framer: Callable[[int], AnyFramer] = Framer,
    ) -> None:
        if address.scheme != "tcp":
            raise ConfigError(f"[bridge] {name} takes an address like tcp:127.0.0.1:5066, not {address}")
        self.address = address
        self._name = name
        self._make_framer = make_framer
        self._receive = receive
        self._max_bytes = max_bytes
        self._first_object_seconds = first_object_seconds
        self._max_connections = max_connections
        self._episodes = log.Episodes(_log)
        self._server: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[None], _Connection] = {}
        self.breaks = 0
        """How many connections that brought objects, whole or not, ended while we listened.

        Events may be lost until OpenSIPS connects again."""

    async def start(self) -> None:
        """Start to listen.

        Raises UnavailableError when the address can not be bound.
        """
        host, port = self.address.host, self.address.port
        try:
            self._server = await asyncio.start_server(self._accept, host, port, limit=READ_BYTES)
        except OSError as error:
            raise can_not_listen(self.address, error, self._name) from error
        self.address = self.address._replace(port=self._server.sockets[0].getsockname()[1])
        _log.info("listening", address=str(self.address))

    async def close(self) -> None:
        """Close all connections."""
        if self._server is None:
            return
        server, self._server = self._server, None
        await _stop_accepting(server)
        server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._server is None:  # accepted while we were closing
            writer.transport.abort()
        elif len(self._connections) >= self._max_connections and not self._make_room():
            self._warn_full("a connection was refused: too many are open", _peer(writer))
            writer.transport.abort()
        else:
            # a peer that vanished must not occupy a connection for ever
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            framer = self._make_framer(self._max_bytes)
            connection = _Connection(reader, writer, framer, _Target(self._receive, self._name, self._episodes))
            task = asyncio.get_running_loop().create_task(connection.run(self._first_object_seconds))
            self._connections[task] = connection
            task.add_done_callback(partial(self._end, connection))

    def _make_room(self) -> bool:
        """Close the connection that has brought no object for the longest time; return whether there is one."""
        task, connection = min(self._connections.items(), key=lambda entry: entry[1].rank)
        if not connection.may_give_way:
            return False
        self._warn_full("a silent connection gave way to a new one: too many are open", connection.peer)
        del self._connections[task]
        task.cancel()
        return True

    def _warn_full(self, problem: str, peer: str) -> None:
        metrics.DROPPED.labels(f"{self._name}_connections").inc()
        remedy = f"let nothing but OpenSIPS reach [bridge] {self._name}"
        self._episodes.warn(problem, peer=peer, limit=self._max_connections, remedy=remedy)

    @property
    def is_down(self) -> bool:
        """Return whether a connection ended and none that brings objects came since."""
        return self.breaks > 0 and not any(connection.has_brought for connection in self._connections.values())

    def _end(self, connection: "_Connection", task: asyncio.Task[None]) -> None:
        self._connections.pop(task, None)
        self.breaks += self._server is not None and connection.is_source


async def _stop_accepting(server: asyncio.Server) -> None:
    """Accept connections that are under way before closing: asyncio would leave them open and unhandled."""
    for listening in server.sockets:
        asyncio.get_running_loop().remove_reader(listening.fileno())
    for _ in range(_TURNS_TO_ACCEPT):
        await asyncio.sleep(0)


class _PeerError(Exception):
    """Report that the peer breaks the protocol; the text is one of a few."""


class _Target(NamedTuple):
    """Hold where the objects of a connection go, and under which name its faults are counted and logged."""

    receive: Receive
    name: str
    episodes: log.Episodes


class _Connection:
    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        framer: AnyFramer,
        target: _Target,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._framer = framer
        self._receive, self._name, self._episodes = target
        self.peer = _peer(writer)
        self.has_brought = False
        """Whether an object came."""
        self._active_at = time.monotonic()
        self._received = metrics.RECEIVED.labels(self._name)

    @property
    def rank(self) -> tuple[bool, float]:
        """Return what orders connections: those that brought nothing first, then by the time of the last object."""
        return self.has_brought, self._active_at

    @property
    def is_source(self) -> bool:
        """Return whether an object came or began: nothing is lost with the end of others."""
        return self.has_brought or self._framer.pending_bytes > 0

    @property
    def may_give_way(self) -> bool:
        return not self.has_brought or time.monotonic() - self._active_at >= QUIET_SECONDS

    async def run(self, first_object_seconds: float) -> None:
        metrics.CONNECTIONS.inc()
        try:
            await self._read(self._active_at + first_object_seconds)
            await self._finish()
        except _PeerError as error:
            self._episodes.warn(str(error), peer=self.peer)
        except OSError as error:
            self._episodes.warn("connection lost", peer=self.peer, error=str(error))
        finally:
            if self._framer.pending_bytes:
                self._refused("incomplete")
            await self._end()
            metrics.CONNECTIONS.dec()

    async def _read(self, first_object_by: float) -> None:
        while data := await self._next_bytes(first_object_by):
            objects = self._frame(data)
            for first in range(0, max(len(objects), 1), OBJECTS_A_TURN):
                self._take(objects[first : first + OBJECTS_A_TURN])
                await self._give_way()

    async def _next_bytes(self, first_object_by: float) -> bytes:
        if self.has_brought:
            return await self._reader.read(READ_BYTES)
        try:
            async with asyncio.timeout(first_object_by - time.monotonic()):
                return await self._reader.read(READ_BYTES)
        except TimeoutError:
            metrics.INVALID.labels(self._name, "silent").inc()
            raise _PeerError("a connection that brought no event was closed") from None

    def _take(self, objects: list[bytes]) -> None:
        if objects:
            self.has_brought, self._active_at = True, time.monotonic()
        self._received.inc(len(objects))
        for one in objects:
            reply = deliver(self._receive, one, self._name, self._episodes)
            if reply is not None and not self._writer.is_closing():
                self._writer.write(reply)

    async def _give_way(self) -> None:
        """Let other tasks run, which a read with more input does not, and wait until the peer takes its replies."""
        await asyncio.sleep(0)
        if not self._writer.transport.get_write_buffer_size():
            return
        try:
            async with asyncio.timeout(REPLY_SECONDS):
                await self._writer.drain()
        except TimeoutError:
            raise _PeerError("connection closed: it does not read its replies") from None

    def _frame(self, data: bytes) -> list[bytes]:
        """Split the next bytes into objects and count invalid input."""
        framer = self._framer
        before = framer.truncated, framer.oversized, framer.garbage_bytes
        objects = framer.feed(data)
        if before != (framer.truncated, framer.oversized, framer.garbage_bytes):
            self._refused("truncated", framer.truncated - before[0])
            self._refused("oversized", framer.oversized - before[1])
            if before[:2] == (framer.truncated, framer.oversized):  # else it is the rest of those
                self._refused("garbage")
        return objects

    async def _finish(self) -> None:
        """Send the last replies to a peer that has sent everything."""
        self._writer.close()
        async with asyncio.timeout(REPLY_SECONDS):
            await self._writer.wait_closed()

    async def _end(self) -> None:
        self._writer.transport.abort()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    def _refused(self, reason: str, count: int = 1) -> None:
        if count:
            metrics.INVALID.labels(self._name, reason).inc(count)
            self._episodes.warn(f"invalid input on a stream: {reason}", peer=self.peer)


def _peer(writer: asyncio.StreamWriter) -> str:
    name = writer.get_extra_info("peername")
    return str(Address("tcp", *name[:2])) if name else "gone"
