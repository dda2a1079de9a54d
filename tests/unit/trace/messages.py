"""SIP messages and packets for tests, made from a few words."""

import base64
import json
import socket
import struct
from pathlib import Path

from companion.opensips import hep
from companion.opensips.hep import HepPacket
from companion.trace.packet import Match, Packet

CAPTURE = Path(__file__).parents[2] / "captures" / "hep-3.6.8.jsonl"
PHONE, EDGE, FAR = "192.0.2.7:40000", "198.51.100.1:8080", "203.0.113.9:5060"


def capture() -> list[bytes]:
    """Return the HEP packets that a real OpenSIPS sent."""
    return [base64.b64decode(json.loads(line)["b64"]) for line in CAPTURE.read_text().splitlines()]


def sip(
    start: str,
    *,
    cseq: str = "",
    call_id: str = "c1",
    from_: str = "<sip:dave@example.com>;tag=a",
    to: str = "<sip:bob@example.com>",
    more: str = "",
    body: str = "",
) -> bytes:
    """Return a message; a start line of a code begins a reply, and `cseq` is such as `1 INVITE`."""
    method = start.split(" ", maxsplit=1)[0]
    line = f"SIP/2.0 {start}" if start[0].isdigit() else f"{start} SIP/2.0"
    fields = [
        line,
        f"Via: SIP/2.0/WS x.invalid;branch=z9hG4bK{(cseq or '1').split(' ', maxsplit=1)[0]}",
        f"From: {from_}",
        f"To: {to}",
    ]
    fields += [f"Call-ID: {call_id}", f"CSeq: {cseq or f'1 {method}'}"]
    fields += more.splitlines()
    return "\r\n".join([*fields, f"Content-Length: {len(body)}", "", body]).encode()


def packet(
    at_ms: int, source: str, target: str, message: bytes, *, node: str = "edge", match: Match = "device"
) -> Packet:
    return Packet(at_ms * 1000, "ws", source, target, node, match, message)


def mirrored(at_ms: int, source: str, target: str, message: bytes) -> HepPacket:
    return HepPacket(at_ms * 1000, "ws", source, target, message)


def captured_packets() -> list[Packet]:
    packets = map(hep.decode, capture())
    return [Packet(one.at_us, one.protocol, one.source, one.target, "edge", "device", one.sip) for one in packets]


def encode_hep(one: HepPacket, key: bytes = b"") -> bytes:
    """Return a packet as OpenSIPS sends it."""
    (source, source_port), (target, target_port) = (end.rsplit(":", 1) for end in (one.source, one.target))
    seconds, microseconds = divmod(one.at_us, 1_000_000)
    chunks = [(2, b"\x32"), (3, socket.inet_aton(source)), (4, socket.inet_aton(target))]
    chunks += [(7, int(source_port).to_bytes(2)), (8, int(target_port).to_bytes(2)), (11, b"\x01")]
    chunks += [(9, seconds.to_bytes(4)), (10, microseconds.to_bytes(4)), (15, one.sip)]
    chunks += [(14, key)] if key else []
    body = b"".join(struct.pack("!HHH", 0, kind, 6 + len(value)) + value for kind, value in chunks)
    return b"HEP3" + struct.pack("!H", 6 + len(body)) + body
