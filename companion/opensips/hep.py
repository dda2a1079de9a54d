"""Decode HEP3, in which OpenSIPS' tracer mirrors SIP messages. No I/O.

A packet is `HEP3`, its length, then chunks: vendor, type and length of 16 bits each, and a value. Chunks of vendors and
types that are not used here are skipped.
"""

import ipaddress
import struct
from collections.abc import Iterator
from hmac import compare_digest
from typing import Final, NamedTuple

from companion.errors import InvalidPacketError

PACKET: Final = "SIP_PACKET"
"""The topic of mirrored SIP messages on the bus."""
MAX_BYTES: Final = 65_535
MAGIC: Final = b"HEP3"
HEAD_BYTES: Final = 6
_CHUNK: Final = struct.Struct("!HHH")
_SIP: Final = b"\x01"
_PROTOCOL, _SOURCE_IPV4, _TARGET_IPV4, _SOURCE_IPV6, _TARGET_IPV6 = 2, 3, 4, 5, 6
_SOURCE_PORT, _TARGET_PORT, _SECONDS, _MICROSECONDS, _TYPE, _KEY, _PAYLOAD = 7, 8, 9, 10, 11, 14, 15
_SIZES: Final = {
    _PROTOCOL: 1,
    _SOURCE_IPV4: 4,
    _TARGET_IPV4: 4,
    _SOURCE_IPV6: 16,
    _TARGET_IPV6: 16,
    _SOURCE_PORT: 2,
    _TARGET_PORT: 2,
    _SECONDS: 4,
    _MICROSECONDS: 4,
    _TYPE: 1,
}
_PROTOCOLS: Final = {6: "tcp", 17: "udp", 22: "tls", 50: "ws", 132: "sctp"}
"""OpenSIPS writes 22 for TLS and 50 for WebSocket, with and without TLS."""


class HepPacket(NamedTuple):
    """Hold one mirrored SIP message. `at_us` is epoch µs by OpenSIPS' clock; addresses are `ip:port`."""

    at_us: int
    protocol: str
    source: str
    target: str
    sip: bytes


def decode(data: bytes, key: str = "") -> HepPacket:
    """Read one HEP3 packet with a SIP message; with a `key` the packet must carry it.

    Raises InvalidPacketError (reason version, length, chunk, address, key, not_sip).
    """
    _check_head(data)
    chunks = dict(_read_chunks(data))
    if key and not compare_digest(chunks.get(_KEY, b""), key.encode()):
        raise InvalidPacketError("key")
    if chunks.get(_TYPE) != _SIP or not chunks.get(_PAYLOAD):
        raise InvalidPacketError("not_sip")
    protocol = _number(chunks, _PROTOCOL)
    return HepPacket(
        _number(chunks, _SECONDS) * 1_000_000 + min(_number(chunks, _MICROSECONDS), 999_999),
        _PROTOCOLS.get(protocol, f"ip-{protocol}"),
        _address(chunks, _SOURCE_IPV4, _SOURCE_IPV6, _SOURCE_PORT),
        _address(chunks, _TARGET_IPV4, _TARGET_IPV6, _TARGET_PORT),
        chunks[_PAYLOAD],
    )


def _check_head(data: bytes) -> None:
    if data[:4] != MAGIC:
        # HEP1 and HEP2 begin with their version and the length of their head
        raise InvalidPacketError("version", f"begins with {data[:4].hex()}")
    if len(data) < HEAD_BYTES or len(data) != int.from_bytes(data[4:6]):
        raise InvalidPacketError("length", f"{len(data)} bytes")


def _read_chunks(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type and value of each known chunk; the last one of a type counts."""
    position = HEAD_BYTES
    while position < len(data):
        if position + _CHUNK.size > len(data):
            raise InvalidPacketError("chunk", "cut short")
        vendor, kind, length = _CHUNK.unpack_from(data, position)
        if length < _CHUNK.size or position + length > len(data):
            raise InvalidPacketError("chunk", f"length {length} of type {kind}")
        value = data[position + _CHUNK.size : position + length]
        position += length
        if vendor == 0:
            if len(value) != _SIZES.get(kind, len(value)):
                raise InvalidPacketError("chunk", f"{len(value)} bytes of type {kind}")
            yield kind, value


def _number(chunks: dict[int, bytes], kind: int) -> int:
    return int.from_bytes(chunks.get(kind, b""))


def _address(chunks: dict[int, bytes], ipv4: int, ipv6: int, port: int) -> str:
    packed = chunks.get(ipv4) or chunks.get(ipv6)
    if packed is None:
        raise InvalidPacketError("address")
    host = ipaddress.ip_address(packed)
    number = _number(chunks, port)
    return f"{host}:{number}" if host.version == 4 else f"[{host}]:{number}"


class HepFramer:
    """Split a TCP stream into HEP3 packets by their lengths.

    Bytes that are no packet are dropped up to the next `HEP3`. `garbage_bytes` counts them; a packet is at most 64 kB.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self.garbage_bytes = 0
        self.truncated = 0
        self.oversized = 0
        self._max_bytes = max_bytes
        self._buffer = bytearray()

    @property
    def pending_bytes(self) -> int:
        return len(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        """Return the packets that end in these bytes."""
        self._buffer += data
        packets: list[bytes] = []
        position = 0
        while True:
            start = self._buffer.find(MAGIC, position)
            if start < 0:
                break
            self.garbage_bytes += start - position
            position = start
            length = int.from_bytes(self._buffer[start + 4 : start + HEAD_BYTES])
            if len(self._buffer) - start < max(length, HEAD_BYTES):
                break
            packets.append(bytes(self._buffer[start : start + max(length, HEAD_BYTES)]))
            position = start + max(length, HEAD_BYTES)
        self._drop_until(position)
        return packets

    def _drop_until(self, position: int) -> None:
        """Drop what was read, and what can not be the start of a packet."""
        del self._buffer[:position]
        if not self._buffer.startswith(MAGIC):
            kept = next((n for n in range(3, 0, -1) if self._buffer.endswith(MAGIC[:n])), 0)
            self.garbage_bytes += len(self._buffer) - kept
            del self._buffer[: len(self._buffer) - kept]
