"""Publish OpenSIPS' events on the bus: each JSON-RPC notification becomes one stamped event."""

import asyncio
import contextlib
import json
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import msgspec

from companion import log, metrics
from companion.bridge.datagram import DatagramInput
from companion.bridge.hep import HepIntake, make_source
from companion.bridge.stamps import Stamps
from companion.bridge.stream import StreamInput
from companion.bus.curve import Curve
from companion.bus.endpoint import is_rabbitmq
from companion.bus.envelope import HEARTBEAT_SECONDS
from companion.bus.handshakes import Why
from companion.bus.numbered import LINGER_SECONDS, NumberedPublisher
from companion.bus.publisher import Publisher
from companion.bus.rabbitmq_publisher import RabbitPublisher
from companion.config import BridgeSection
from companion.config.address import parse_address
from companion.errors import InvalidEventError
from companion.opensips import events
from companion.steady_clock import SteadyClock
from companion.text import UNDECODABLE

SUBSCRIBER_WAIT_SECONDS: Final = 5.0

SUBSCRIBER_FAULTS: Final[dict[Why, tuple[str, str]]] = {
    "client_key": (
        "a subscriber was refused: its CURVE key is unknown",
        "add its public key to [bridge] curve_clients, if it is a consumer of yours",
    ),
    "server_key": (
        "a subscriber was refused: it expects another CURVE key of ours",
        "set [consumer] curve_server_key there to our public key",
    ),
    "encryption": (
        "a subscriber was refused: only one side of the bus uses CURVE",
        "set curve_secret_key in [bridge] and curve_server_key in [consumer], or neither",
    ),
}
"""What the bridge says of failed handshakes. Others are those of port scanners: they are only counted."""

_decode = msgspec.json.Decoder().decode

Schedule = Callable[[Callable[[], None]], object]
"""Calls a function soon: in the next turn of the event loop, or when events have gathered."""

logger = log.get(__name__)


class Bridge:
    """Receive one node's events over datagrams and streams, and publish them."""

    def __init__(self, config: BridgeSection, *, wait_for_subscriber: bool = False) -> None:
        self._config = config
        self._wait_for_subscriber = wait_for_subscriber
        self._stopping = asyncio.Event()
        self._clock = SteadyClock()
        self._stamps = Stamps(self._clock.now)
        self._episodes = log.Episodes(logger)
        self.publisher = _make_publisher(config)
        self.datagram = (
            DatagramInput(parse_address(config.datagram), self.receive, config.receive_buffer_bytes)
            if config.datagram
            else None
        )
        self.stream = StreamInput(parse_address(config.stream), self.receive) if config.stream else None
        self.hep = make_source(config, HepIntake(config, self._gather, self._clock.now)) if config.hep else None
        sources = (self.datagram, self.stream, self.hep)
        self._sources: list[DatagramInput | StreamInput] = [source for source in sources if source]
        self._published = {event: metrics.PUBLISHED.labels(event) for event in events.EVENT_NAMES}
        self._soon: Schedule = lambda flush: flush()
        self._gathering = False
        self._kernel_drops = self._hep_drops = 0
        self._invalid = 0
        self._received = 0
        self._last_event_at = 0

    async def run(self) -> None:
        """Serve until stopped; inputs open last, when a subscriber is there."""
        self._soon = self._make_schedule()
        self.publisher.start()
        try:
            if self._wait_for_subscriber and not await self.publisher.subscribed(SUBSCRIBER_WAIT_SECONDS):
                logger.warning("no subscriber on the bus yet: events are lost until a consumer connects")
            for source in self._sources:
                await source.start()
            logger.info("bridging", node=self._config.node, bus=self.publisher.endpoint)
            while not self._stopping.is_set():
                self._beat()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), HEARTBEAT_SECONDS)
        finally:
            await self._close()

    def _make_schedule(self) -> Schedule:
        loop, seconds = asyncio.get_running_loop(), self.publisher.gather_seconds
        return partial(loop.call_later, seconds) if seconds else loop.call_soon

    def stop(self) -> None:
        self._stopping.set()

    async def _close(self) -> None:
        for source in self._sources:
            await source.close()
        self._send_heartbeat()
        if not await self.publisher.finish():
            logger.warning(
                "the bus was too slow at the end: the consumer counts what it misses", waited_s=LINGER_SECONDS
            )

    def receive(self, payload: bytes) -> bytes | None:
        """Publish one JSON object from the wire and return the reply when it is a request with an id."""
        self._received += 1
        request: Any = None
        try:
            request = self._read(payload)
            self._publish(request)
        except InvalidEventError as error:
            self._invalid += 1
            metrics.INVALID.labels("bridge", error.reason).inc()
            self._episodes.warn(f"an event was refused: {error.reason}", detail=error.detail)
            return _reply(request, {"error": {"code": -32600, "message": error.reason}})
        return _reply(request, {"result": "OK"})

    def _read(self, payload: bytes) -> Any:
        try:
            return _decode(payload)
        except UNDECODABLE as error:
            text = payload.decode("utf-8", "replace")
            if text.encode() == payload:
                raise InvalidEventError("json", str(error)[:200]) from None
        metrics.INVALID.labels("bridge", "utf8").inc()
        self._episodes.warn("an event is not UTF-8; its invalid bytes became U+FFFD")
        try:
            return _decode(text)
        except UNDECODABLE as error:
            raise InvalidEventError("json", str(error)[:200]) from None

    def _publish(self, request: Any) -> None:
        if not isinstance(request, dict):
            raise InvalidEventError("not_an_object", type(request).__name__)
        event, params = request.get("method"), request.get("params")
        if not isinstance(event, str) or not isinstance(params, dict):
            raise InvalidEventError("not_an_event")
        published = self._published.get(event)
        if published is None:
            raise InvalidEventError("unknown_event", repr(event[:64]))
        aor = params.get("aor")
        ts = self._stamps.next(aor if isinstance(aor, str) else None)
        self._gather(event, params, ts)
        self._last_event_at = ts
        published.inc()

    def _gather(self, event: str, params: dict[str, Any], ts: int) -> None:
        """Publish with what else is read in this turn of the event loop."""
        self.publisher.gather(event, params, ts)
        if not self._gathering:
            self._gathering = True
            self._soon(self._flush)

    def _flush(self) -> None:
        """Send the events that were read in one turn of the event loop."""
        self._gathering = False
        self.publisher.flush()

    def _beat(self) -> None:
        step_ms = self._clock.follow()
        if step_ms:
            logger.warning("the clock was set", by_ms=step_ms)
        if step_ms < 0:
            self._stamps.forget()
            self.publisher.new_run()
        self._count_kernel_drops()
        self._count_refused_subscribers()
        self._send_heartbeat()

    def _send_heartbeat(self) -> None:
        self.publisher.heartbeat(
            self._clock.now(),
            last_event_at=self._last_event_at,
            received=self._received,
            invalid=self._invalid,
            kernel_drops=self._kernel_drops,
            stream_breaks=self.stream.breaks if self.stream else 0,
            stream_down=bool(self.stream and self.stream.is_down),
        )

    def _count_refused_subscribers(self) -> None:
        for handshake in self.publisher.read_handshakes():
            if handshake.why is None:
                continue
            metrics.HANDSHAKES_FAILED.labels("bridge", handshake.why).inc()
            if handshake.why in SUBSCRIBER_FAULTS:
                problem, remedy = SUBSCRIBER_FAULTS[handshake.why]
                self._episodes.warn(problem, remedy=remedy, our_public_key=self.publisher.public_key)

    def _count_kernel_drops(self) -> None:
        drops = (self.datagram.kernel_drops() if self.datagram else None) or 0
        if drops > self._kernel_drops:
            metrics.DROPPED.labels("kernel_udp").inc(drops - self._kernel_drops)
            self._episodes.warn(
                "the kernel dropped datagrams: raise net.core.rmem_max and [bridge] receive_buffer_bytes",
                drops=drops - self._kernel_drops,
            )
        self._kernel_drops = max(drops, self._kernel_drops)
        hep_drops = (self.hep.kernel_drops() if isinstance(self.hep, DatagramInput) else None) or 0
        metrics.DROPPED.labels("kernel_hep").inc(max(0, hep_drops - self._hep_drops))
        self._hep_drops = max(hep_drops, self._hep_drops)


def _make_publisher(config: BridgeSection) -> NumberedPublisher:
    if is_rabbitmq(config.publish):
        return RabbitPublisher(config.publish, config.node, high_water_mark=config.high_water_mark)
    curve = Curve(config.curve_secret_key, config.curve_clients) if config.curve_secret_key else None
    return Publisher(config.publish, config.node, high_water_mark=config.high_water_mark, curve=curve)


def _reply(request: Any, outcome: dict[str, Any]) -> bytes | None:
    """Return the reply to a request with an id, which event_stream in reliable_mode waits for."""
    request_id = request.get("id") if isinstance(request, dict) else None
    if not isinstance(request_id, int | str):
        return None
    return json.dumps({"jsonrpc": "2.0", **outcome, "id": request_id}).encode()
