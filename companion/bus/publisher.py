"""Publish messages on the bus (ZeroMQ XPUB), numbered and with heartbeats."""

import asyncio
import contextlib
import time
from collections.abc import Mapping
from typing import Any, Final

import msgpack
import msgspec
import zmq
from zmq.auth.thread import ThreadAuthenticator

from companion.bus.curve import Curve
from companion.bus.endpoint import is_ipv6
from companion.bus.envelope import HEARTBEAT, VERSION, _encode_envelope, _Envelope
from companion.bus.handshakes import Handshake, Handshakes
from companion.errors import InvalidEventError, UnavailableError

TOGETHER: Final = 16
"""The most events in one message: the queue of a slow subscriber is bounded in messages, not events."""
LINGER_SECONDS: Final = 5.0
"""How long a stop waits for subscribers to take what is queued for them."""


class Publisher:
    """Publish one node's events and never wait for a subscriber: a slow one loses messages, and can count them.

    `gather` collects events that are sent together by `flush`; `publish` sends at once.
    """

    def __init__(self, endpoint: str, node: str, *, high_water_mark: int, curve: Curve | None = None) -> None:
        self.node = node
        self.public_key = zmq.curve_public(curve.secret.encode()).decode() if curve else ""
        self.run = 0
        self.last_seqs: dict[str, int] = {}
        self._event = ""
        self._gathered: list[tuple[int, bytes]] = []
        self._counts: Mapping[str, Any] = {}
        self._topics: set[bytes] = set()
        self._packer = msgpack.Packer(unicode_errors="replace")
        self._context = zmq.Context()
        self._authenticator = _require_keys(self._context, curve.clients) if curve else None
        self._socket = self._context.socket(zmq.XPUB)
        self._handshakes = Handshakes(self._context, self._socket, demands_key=False)
        self._socket.setsockopt(zmq.LINGER, int(LINGER_SECONDS * 1000))
        self._socket.setsockopt(zmq.SNDHWM, high_water_mark)
        if curve:
            self._socket.curve_secretkey = curve.secret.encode()
            self._socket.curve_publickey = self.public_key.encode()
            self._socket.curve_server = True
        self._socket.setsockopt(zmq.IPV6, is_ipv6(endpoint))
        try:
            self._socket.bind(endpoint)
        except zmq.ZMQError as error:
            self.close()
            raise UnavailableError(
                f"the bus can not be opened at {endpoint}: {error}; change [bridge] publish"
            ) from None
        self.endpoint = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self.new_run()

    def new_run(self) -> None:
        """Begin again at seq 0, at the start and when times may run backwards."""
        self._end_run()
        self.run = max(time.time_ns() // 1000, self.run + 1)
        self.last_seqs = {}

    def publish(self, event: str, params: Mapping[str, Any], ts: int) -> None:
        """Send one event after the gathered ones.

        Raises InvalidEventError for parameters that msgpack can not carry.
        """
        self.gather(event, params, ts)
        self.flush()

    def gather(self, event: str, params: Mapping[str, Any], ts: int) -> None:
        """Add one event to the message that the next `flush` sends at the latest.

        Raises InvalidEventError for parameters that msgpack can not carry.
        """
        try:
            packed = self._packer.pack(params)
        except (ValueError, OverflowError, TypeError) as error:
            self._packer.reset()
            raise InvalidEventError("unpackable", str(error)) from None
        if event != self._event or len(self._gathered) >= TOGETHER:
            self.flush()
            self._event = event
        self._gathered.append((ts, packed))

    def flush(self) -> None:
        """Send the gathered events; their parameters are packed already and are inserted as they are."""
        if not self._gathered:
            return
        event, (first, *more) = self._event, self._gathered
        self._gathered = []
        seq = self.last_seqs.get(event, -1) + 1
        self.last_seqs[event] = seq + len(more)
        ts, params = first
        envelope = _Envelope(VERSION, self.node, self.run, seq, ts, msgspec.Raw(params))
        envelope.more = [(at, msgspec.Raw(packed)) for at, packed in more]
        self._socket.send(event.encode("ascii"), zmq.SNDMORE | zmq.NOBLOCK)
        self._socket.send(_encode_envelope(envelope), zmq.NOBLOCK)

    def heartbeat(self, ts: int, **counts: Any) -> None:
        """Send a heartbeat with the last seq of each event (`seqs`) and these counts."""
        self._counts = counts
        self._beat(ts)
        self.read_topics()  # requests that nobody reads would wait in memory

    def _beat(self, ts: int, **more: Any) -> None:
        self.flush()
        seqs = {event: seq for event, seq in self.last_seqs.items() if event != HEARTBEAT}
        self.publish(HEARTBEAT, {"seqs": seqs, **self._counts, **more}, ts)

    def _end_run(self) -> None:
        """Tell how far this run came, so that what never arrives can be counted."""
        self.flush()
        if self.last_seqs:
            self._beat(time.time_ns() // 1_000_000, end=True)

    def read_handshakes(self) -> list[Handshake]:
        """Return the handshakes with subscribers since the last call."""
        return self._handshakes.read()

    async def subscribed(self, timeout: float) -> bool:  # noqa: ASYNC109 - the caller waits for this alone
        """Wait until somebody subscribes to events; return False when nobody did within `timeout` seconds."""
        return await asyncio.to_thread(self._wait_for_subscriber, time.monotonic() + timeout)

    def _wait_for_subscriber(self, deadline: float) -> bool:
        while not self.read_topics() - {HEARTBEAT.encode()}:
            if self._socket.poll(max(0, round((deadline - time.monotonic()) * 1000))) == 0:
                return False
        return True

    def read_topics(self) -> set[bytes]:
        """Return what subscribers want: a consumer wants all (b""), and beside that heartbeats alone."""
        with contextlib.suppress(zmq.Again):
            while True:
                request = self._socket.recv(zmq.NOBLOCK)
                if request.startswith(b"\x01"):
                    self._topics.add(request[1:])
                elif request.startswith(b"\x00"):
                    self._topics.discard(request[1:])
        return self._topics

    def close(self) -> bool:
        """End the run; return False when subscribers did not take all that is queued within LINGER_SECONDS."""
        if self._socket.closed:
            return True
        closing_at = time.monotonic()
        self._end_run()
        self._handshakes.close()
        self._socket.close()
        if self._authenticator:
            self._authenticator.stop()
        self._context.term()
        return time.monotonic() - closing_at < LINGER_SECONDS


class _AllowedKeys:
    def __init__(self, clients: tuple[str, ...]) -> None:
        self._keys = {client.encode() for client in clients}

    def callback(self, domain: str, key: bytes) -> bool:  # noqa: ARG002 - pyzmq's signature
        return key in self._keys


def _require_keys(context: zmq.Context[zmq.Socket[bytes]], clients: tuple[str, ...]) -> ThreadAuthenticator:
    authenticator = ThreadAuthenticator(context)
    authenticator.start()
    authenticator.configure_curve_callback(domain="*", credentials_provider=_AllowedKeys(clients))
    return authenticator
