"""Number events and put them into envelopes, for a bus of any kind."""

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Final

import msgpack
import msgspec

from companion.bus.envelope import HEARTBEAT, VERSION, _encode_envelope, _Envelope
from companion.bus.handshakes import Handshake
from companion.errors import InvalidEventError

TOGETHER: Final = 16
"""The most events in one message: the queue of a slow subscriber is bounded in messages, not events."""
LINGER_SECONDS: Final = 5.0
"""How long a stop waits until the bus has accepted what is queued for it."""


class NumberedPublisher(ABC):
    """Publish one node's events on a bus, numbered and with heartbeats, and never wait for a subscriber.

    `gather` collects events that are sent together by `flush`; `publish` sends at once.
    """

    gather_seconds = 0.0
    """How long an event may wait for others, so that they share a message."""
    public_key = ""
    """The CURVE key of this publisher, "" for none."""
    endpoint: str
    """Where subscribers find this publisher, fit for a log."""

    def __init__(self, node: str) -> None:
        self.node = node
        self.run = 0
        self.last_seqs: dict[str, int] = {}
        self._event = ""
        self._gathered: list[tuple[int, bytes]] = []
        self._counts: Mapping[str, Any] = {}
        self._packer = msgpack.Packer(unicode_errors="replace")

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
        self._send(event, _encode_envelope(envelope), 1 + len(more))

    def heartbeat(self, ts: int, **counts: Any) -> None:
        """Send a heartbeat with the last seq of each event (`seqs`) and these counts."""
        self._counts = counts
        self._beat(ts)

    def _beat(self, ts: int, **more: Any) -> None:
        self.flush()
        seqs = {event: seq for event, seq in self.last_seqs.items() if event != HEARTBEAT}
        self.publish(HEARTBEAT, {"seqs": seqs, **self._counts, **more}, ts)

    def _end_run(self) -> None:
        """Tell how far this run came, so that what never arrives can be counted."""
        self.flush()
        if self.last_seqs:
            self._beat(time.time_ns() // 1_000_000, end=True)

    @abstractmethod
    def _send(self, event: str, body: bytes, count: int) -> None:
        """Send a message of so many events, or lose it: nothing waits here."""

    @abstractmethod
    def start(self) -> None:
        """Begin what needs a running event loop."""

    def read_handshakes(self) -> list[Handshake]:
        """Return the handshakes with subscribers since the last call."""
        return []

    @abstractmethod
    async def subscribed(self, timeout: float) -> bool:  # noqa: ASYNC109 - the caller waits for this alone
        """Wait until events are not lost any more; return False when they still are after `timeout` seconds."""

    @abstractmethod
    async def finish(self) -> bool:
        """End the run and close; return False when the bus did not accept all within LINGER_SECONDS."""
