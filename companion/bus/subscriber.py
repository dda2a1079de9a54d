"""Subscribe to the buses of several bridges (ZeroMQ SUB)."""

import asyncio
import contextlib
from typing import Final

import zmq

from companion import metrics
from companion.bus.curve import Curve
from companion.bus.endpoint import is_ipv6
from companion.bus.envelope import HEARTBEAT, Frames
from companion.bus.handshakes import Handshakes
from companion.bus.refusals import EXPLANATIONS, Refusals

MAX_MESSAGE_BYTES: Final = 32 << 20
"""ZeroMQ ends the connection of who sends more: sixteen events of a megabyte each are the most that a bridge sends."""
DRAIN: Final = 128
"""Messages taken from a socket before the event loop gets its turn again."""

HEARTBEATS: Final = 1000
"""Heartbeats that wait while we are busy: one in two seconds of each bridge."""

_NOTHING: Final = zmq.Frame(b"")


class Subscriber:
    """Read the bus from any number of publishers; beyond `high_water_mark` waiting messages ZeroMQ drops them."""

    keeps_messages = False

    def __init__(self, endpoints: tuple[str, ...], *, high_water_mark: int, curve: Curve | None = None) -> None:
        self._context = zmq.Context()
        self._socket = _make_socket(self._context, b"", high_water_mark, curve)
        self._heartbeats = _make_socket(self._context, HEARTBEAT.encode(), HEARTBEATS, curve)
        self._handshakes = Handshakes(self._context, self._socket, demands_key=curve is not None)
        self._refusals = Refusals()
        for endpoint in endpoints:
            self._connect(endpoint)

    async def receive(self, timeout: float) -> list[Frames]:  # noqa: ASYNC109 - the caller waits for this alone
        """Return up to DRAIN messages, after waiting up to `timeout` seconds for the first one."""
        messages = self._drain()
        if messages:
            await asyncio.sleep(0)  # other tasks must run during a flood too
            return messages
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        # The descriptor is edge-triggered: it fires for messages that came after the drain that got none.
        descriptor = int(self._socket.getsockopt(zmq.FD))
        loop.add_reader(descriptor, ready.set)
        try:
            messages = self._drain()
            if not messages:
                async with asyncio.timeout(timeout):
                    await ready.wait()
        except TimeoutError:
            return []
        finally:
            loop.remove_reader(descriptor)
        return messages or self._drain()

    def heartbeats(self) -> list[Frames]:
        """Return the heartbeats that came since the last call, on a way of their own.

        The same come among the events, in order with them. But there they are lost like events when the queue of a slow
        subscriber is full, and the last one of a run says how many events were.
        """
        return _drain(self._heartbeats)

    def _drain(self) -> list[Frames]:
        return _drain(self._socket)

    def refusals(self) -> dict[str, tuple[str, str]]:
        """Count failed handshakes, and return by endpoint why it refuses us now, and what to do.

        ZeroMQ does not connect again where we were refused. We do: the other side may have been mended.
        """
        handshakes = self._handshakes.read()
        for handshake in handshakes:
            if handshake.why:
                metrics.HANDSHAKES_FAILED.labels("consumer", handshake.why).inc()
        self._refusals.take(handshakes)
        for endpoint in self._refusals.given_up():
            for socket in (self._socket, self._heartbeats):
                with contextlib.suppress(zmq.ZMQError):
                    socket.disconnect(endpoint)
            self._connect(endpoint)
        return {endpoint: EXPLANATIONS[why] for endpoint, why in self._refusals.current().items()}

    def _connect(self, endpoint: str) -> None:
        for socket in (self._socket, self._heartbeats):
            socket.setsockopt(zmq.IPV6, is_ipv6(endpoint))
            socket.connect(endpoint)

    def mark(self, position: int) -> None:
        """Leave this out: ZeroMQ forgets a message that we have."""

    async def acknowledge(self, position: int) -> None:
        """Leave this out: ZeroMQ forgets a message that we have."""

    def give_back(self, node: str) -> None:
        """Leave this out: every consumer has all messages."""

    async def finish(self) -> None:
        self.close()

    def close(self) -> None:
        self._handshakes.close()
        self._socket.close()
        self._heartbeats.close()
        self._context.term()


def _make_socket(
    context: zmq.Context[zmq.Socket[bytes]], topic: bytes, high_water_mark: int, curve: Curve | None
) -> zmq.Socket[bytes]:
    """Make a socket that subscribes to a topic; the topic b"" is all."""
    socket = context.socket(zmq.SUB)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.RCVHWM, high_water_mark)
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, 2000)
    socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
    socket.setsockopt(zmq.TCP_KEEPALIVE_IDLE, 30)
    if curve:
        socket.curve_secretkey = curve.secret.encode()
        socket.curve_publickey = zmq.curve_public(curve.secret.encode())
        socket.curve_serverkey = curve.server.encode()
    socket.subscribe(topic)
    return socket


def _drain(socket: zmq.Socket[bytes]) -> list[Frames]:
    messages: list[Frames] = []
    with contextlib.suppress(zmq.Again):
        for _ in range(DRAIN):
            messages.append(_next(socket))  # noqa: PERF401 - what came before zmq.Again must be kept
    return messages


def _next(socket: zmq.Socket[bytes]) -> Frames:
    """Return one message, read frame by frame because recv_multipart costs twice as much."""
    receive = socket.recv
    first = receive(zmq.NOBLOCK, copy=False)
    if not first.more:
        return first.bytes, b""
    second = receive(zmq.NOBLOCK, copy=False)
    more = second.more
    while more:  # not ours: our messages have two frames
        more = receive(zmq.NOBLOCK, copy=False).more
        second = _NOTHING
    return first.bytes, second.buffer
