"""Write a trace as text, and as a pcap file for Wireshark. No I/O."""

import ipaddress
import struct
from collections.abc import Iterable
from typing import Final

from companion.text import printable
from companion.times import iso
from companion.trace.message import decode_text
from companion.trace.packet import Packet

_PCAP_HEAD: Final = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262_144, 101)  # 101: raw IP
_MAX_PAYLOAD: Final = 65_507
"""The most that one UDP datagram over IPv4 holds."""
_TEXT_LINE: Final = "-" * 72


def write_text(packets: Iterable[Packet]) -> str:
    """Return all messages as text, each under a line with time, protocol, source and target."""
    return "".join(map(_write_message, packets))


def _write_message(packet: Packet) -> str:
    head = f"{format_time(packet.at_us)} {packet.protocol} {packet.source} -> {packet.target} at {packet.node}"
    return f"{_TEXT_LINE}\n{head}\n{_TEXT_LINE}\n{show_text(packet.sip)}\n\n"


def show_text(sip: bytes) -> str:
    """Return a message for people: line by line, without characters that a terminal would act on."""
    lines = decode_text(sip).replace("\r\n", "\n").split("\n")
    return "\n".join(printable(line) for line in lines).rstrip("\n")


def format_time(at_us: int) -> str:
    """Write epoch µs as ISO 8601 in UTC with ms."""
    return iso(at_us // 1000) or ""


def write_pcap(packets: Iterable[Packet]) -> bytes:
    """Return a pcap file with each message as one UDP datagram between its real addresses.

    TCP, TLS and WebSocket messages have none of these around them in a trace: as UDP, Wireshark shows all alike.
    """
    return _PCAP_HEAD + b"".join(map(_write_record, packets))


def _write_record(packet: Packet) -> bytes:
    frame = _make_ip(packet)
    seconds, microseconds = divmod(packet.at_us, 1_000_000)
    return struct.pack("<IIII", seconds & 0xFFFFFFFF, microseconds, len(frame), len(frame)) + frame


def _make_ip(packet: Packet) -> bytes:
    source, source_port = _split(packet.source)
    target, target_port = _split(packet.target)
    if source.version != target.version:
        source, target = _as_ipv6(source), _as_ipv6(target)
    payload = packet.sip[: _MAX_PAYLOAD - 40]
    length = 8 + len(payload)
    pseudo = source.packed + target.packed
    pseudo += struct.pack("!BBH", 0, 17, length) if source.version == 4 else struct.pack("!IHBB", length, 0, 0, 17)
    udp_head = struct.pack("!HHH", source_port, target_port, length)
    udp = udp_head + struct.pack("!H", _checksum(pseudo + udp_head + b"\0\0" + payload) or 0xFFFF) + payload
    if source.version == 6:
        return struct.pack("!IHBB", 6 << 28, length, 17, 64) + source.packed + target.packed + udp
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, 0, 0, 64, 17, 0) + source.packed + target.packed
    return head[:10] + struct.pack("!H", _checksum(head)) + head[12:] + udp


Ip = ipaddress.IPv4Address | ipaddress.IPv6Address


def _split(address: str) -> tuple[Ip, int]:
    host, _, port = address.rpartition(":")
    return ipaddress.ip_address(host.strip("[]")), int(port)


def _as_ipv6(address: Ip) -> Ip:
    return ipaddress.IPv6Address(f"::ffff:{address}") if address.version == 4 else address


def _checksum(data: bytes) -> int:
    """Return the checksum of IP and UDP: the complement of the sum of all 16-bit words."""
    words: tuple[int, ...] = struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2))
    total: int = sum(words)
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
