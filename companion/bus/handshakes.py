"""Read from ZeroMQ's socket monitor why connections of the bus fail."""

from typing import Any, Final, Literal, NamedTuple

import zmq
from zmq.utils.monitor import parse_monitor_message

Why = Literal["client_key", "server_key", "encryption", "broken"]

_FAILED: Final = (
    zmq.EVENT_HANDSHAKE_FAILED_AUTH,
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL,
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL,
)
_EVENTS: Final = sum(_FAILED) + zmq.EVENT_HANDSHAKE_SUCCEEDED + zmq.EVENT_CONNECTED


class Handshake(NamedTuple):
    """Hold what came of a handshake: why it failed, None when it did not. `is_final`: ZeroMQ does not try again."""

    endpoint: str
    why: Why | None
    is_final: bool = False


class Handshakes:
    """Monitor the handshakes of one socket. Call it from the thread of the socket.

    The monitor's queue has no bound of its own, because ZeroMQ's thread would wait at one: read it every few seconds.
    """

    def __init__(self, context: "zmq.Context[Any]", socket: "zmq.Socket[Any]", *, demands_key: bool) -> None:
        self._socket = socket
        self._demands_key = demands_key
        address = f"inproc://handshakes-{id(self)}"
        socket.monitor(address, _EVENTS)
        self._monitor = context.socket(zmq.PAIR)
        self._monitor.setsockopt(zmq.LINGER, 0)
        self._monitor.setsockopt(zmq.RCVHWM, 0)
        self._monitor.connect(address)
        self.connected: set[str] = set()
        """Endpoints that a TCP connection was made to or from."""

    def read(self) -> list[Handshake]:
        """Return the handshakes that ended since the last call, none after `close`."""
        handshakes = []
        while not self._monitor.closed and self._monitor.poll(0):
            event = parse_monitor_message(self._monitor.recv_multipart())
            endpoint = event["endpoint"].decode("utf-8", "replace")
            if event["event"] == zmq.EVENT_CONNECTED:
                self.connected.add(endpoint)
            elif event["event"] in _FAILED:
                handshakes.append(self._failed(endpoint, event["event"], event["value"]))
            elif event["event"] == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                handshakes.append(Handshake(endpoint, None))
        return handshakes

    def _failed(self, endpoint: str, event: int, value: int) -> Handshake:
        is_final = event != zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
        return Handshake(endpoint, find_why(event, value, demands_key=self._demands_key), is_final)

    def close(self) -> None:
        self._socket.disable_monitor()
        self._monitor.close()


def find_why(event: int, value: int, *, demands_key: bool) -> Why:
    """Return why a handshake failed, by the monitor's event and its value.

    `demands_key`: this side is a subscriber that encrypts for one key of its publisher. A publisher with another key
    can not read what it sends, and ends the connection without a word.
    """
    if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
        return "client_key"
    if event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
        return "server_key" if demands_key else "broken"
    reasons: dict[int, Why] = {
        zmq.PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC: "server_key",
        zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH: "encryption",
    }
    return reasons.get(value, "broken")
