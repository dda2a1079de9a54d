"""Decode the events of bus messages, or recognise pings by their bytes. No I/O."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from companion import log, metrics
from companion.bus.envelope import HEARTBEAT, Heartbeat, Message, decode_heartbeat
from companion.consumer.ping_cache import CachedPing, PingCache
from companion.errors import InvalidEnvelopeError, InvalidEventError
from companion.opensips import events
from companion.opensips.events import LATENCY, Event

RecognisedPing = tuple[CachedPing, int]
"""A ping recognised by its bytes, and its latency in µs."""
DecodedEvent = RecognisedPing | Event | Heartbeat | None
"""None stands for a refused event."""

logger = log.get(__name__)


class DecodedMessage(NamedTuple):
    """Hold a message and its decoded events, in the same order, and why some of them were refused."""

    message: Message
    events: list[DecodedEvent]
    refusals: Sequence[InvalidEventError] = ()


class Decoder:
    """Decode messages; events that are refused are counted and logged."""

    def __init__(self, ping_caches: Mapping[str, PingCache]) -> None:
        self._ping_caches = ping_caches
        self._episodes = log.Episodes(logger)
        self._refusals: list[InvalidEventError] = []

    def decode(self, message: Message) -> DecodedMessage:
        name = message.name
        if name == LATENCY:
            find = self._ping_caches[message.node].find
            pings = [find(bytes(params)) or self._decode(name, params) for _, params in message.events]
            return DecodedMessage(message, pings, self._take_refusals())
        decoded: list[DecodedEvent] = [self._decode(name, params) for _, params in message.events]
        return DecodedMessage(message, decoded, self._take_refusals())

    def _take_refusals(self) -> Sequence[InvalidEventError]:
        if not self._refusals:
            return ()
        refusals, self._refusals = self._refusals, []
        return refusals

    def _decode(self, name: str, params: msgspec.Raw) -> Event | Heartbeat | None:
        try:
            return decode_heartbeat(params) if name == HEARTBEAT else events.decode(name, params)
        except InvalidEnvelopeError as error:
            metrics.INVALID.labels("bus", error.reason).inc()
            self._episodes.warn("a heartbeat was refused", detail=error.detail[:200])
        except InvalidEventError as error:
            metrics.INVALID.labels("consumer", error.reason).inc()
            if name not in events.EVENT_NAMES:  # an event of the operator's own, which event_zeromq carries, too
                self._episodes.warn("an event is not one of OpenSIPS' that are used here", name=name[:64])
                return None
            self._episodes.warn(
                f"an event was refused: {error.reason}", name=name[:64], aor=error.aor, detail=error.detail
            )
            self._refusals.append(error)
        return None
