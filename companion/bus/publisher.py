"""Publish messages on the bus (ZeroMQ XPUB), numbered and with heartbeats."""

import asyncio
import contextlib
import time
from typing import Any

import zmq
from zmq.auth.thread import ThreadAuthenticator

from companion.bus.curve import Curve
from companion.bus.endpoint import is_ipv6
from companion.bus.envelope import HEARTBEAT
from companion.bus.handshakes import Handshake, Handshakes
from companion.bus.numbered import LINGER_SECONDS, NumberedPublisher
from companion.errors import UnavailableError


class Publisher(NumberedPublisher):
    """Publish over ZeroMQ; a slow subscriber loses messages, and can count them."""

    def __init__(self, endpoint: str, node: str, *, high_water_mark: int, curve: Curve | None = None) -> None:
        super().__init__(node)
        self.public_key = zmq.curve_public(curve.secret.encode()).decode() if curve else ""
        self._topics: set[bytes] = set()
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

    def start(self) -> None:
        """Leave this out: ZeroMQ has threads of its own."""

    def _send(self, event: str, body: bytes, count: int) -> None:  # noqa: ARG002 - ZeroMQ drops without a word
        self._socket.send(event.encode("ascii"), zmq.SNDMORE | zmq.NOBLOCK)
        self._socket.send(body, zmq.NOBLOCK)

    def heartbeat(self, ts: int, **counts: Any) -> None:
        super().heartbeat(ts, **counts)
        self.read_topics()  # requests that nobody reads would wait in memory

    def read_handshakes(self) -> list[Handshake]:
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

    async def finish(self) -> bool:
        return await asyncio.to_thread(self.close)

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
