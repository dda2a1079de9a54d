"""Take mirrored SIP messages (HEP3), and publish them on the bus under their own topic."""

from collections.abc import Callable
from typing import Any, Final

from companion import log, metrics
from companion.bridge.datagram import DatagramInput
from companion.bridge.stream import StreamInput
from companion.config import BridgeSection
from companion.config.address import parse_address
from companion.errors import InvalidPacketError
from companion.opensips.hep import MAX_BYTES, PACKET, HepFramer, HepPacket, decode
from companion.times import MINUTE_MS

BYTES_PER_SECOND: Final = 4 << 20
"""The most that is published in a second: messages must not push events out of a subscriber's queue."""
BUFFER_BYTES: Final = 2 << 20

Publish = Callable[[str, dict[str, Any], int], None]
"""Publishes parameters under a topic; the time is epoch ms."""

logger = log.get(__name__)


class HepIntake:
    """Decode HEP packets, and publish a bounded number of them in each second."""

    def __init__(self, config: BridgeSection, publish: Publish, now_ms: Callable[[], int]) -> None:
        self._key = config.hep_key
        self._per_second = config.hep_per_second
        self._publish = publish
        self._now_ms = now_ms
        self._episodes = log.Episodes(logger)
        self._second = 0
        self._packets = self._bytes = 0
        self._published = metrics.PUBLISHED.labels(PACKET)

    def take(self, data: bytes) -> None:
        """Publish one packet; what is invalid or too much is counted."""
        now = self._now_ms()
        if not self._has_room(now, len(data)):
            metrics.DROPPED.labels("hep").inc()
            self._episodes.warn("too many SIP messages: some are dropped", limit=self._per_second)
            return
        try:
            packet = decode(data, self._key)
        except InvalidPacketError as error:
            metrics.INVALID.labels("hep", error.reason).inc()
            self._episodes.warn(f"a HEP packet was refused: {error.reason}", detail=error.detail)
            return
        self._publish(PACKET, _params(packet, now), now)
        self._published.inc()

    def _has_room(self, now: int, count: int) -> bool:
        if now // 1000 != self._second:
            self._second, self._packets, self._bytes = now // 1000, 0, 0
        self._packets += 1
        self._bytes += count
        return self._packets <= self._per_second and self._bytes <= BYTES_PER_SECOND


def _params(packet: HepPacket, now: int) -> dict[str, Any]:
    """Return a packet as it goes on the bus; a time far from ours is forged or of a wrong clock, and ours is taken."""
    fields = packet._asdict()
    if abs(packet.at_us // 1000 - now) > MINUTE_MS:
        fields["at_us"] = now * 1000
    return fields


def make_source(config: BridgeSection, intake: HepIntake) -> DatagramInput | StreamInput:
    """Return the input for `[bridge] hep`.

    Raises ConfigError for an invalid address.
    """
    address = parse_address(config.hep)
    if address.scheme == "udp":
        return DatagramInput(address, intake.take, BUFFER_BYTES, "hep")
    return StreamInput(address, intake.take, max_bytes=MAX_BYTES, name="hep", make_framer=HepFramer)
