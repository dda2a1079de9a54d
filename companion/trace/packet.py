"""Hold the packets of a trace: SIP messages as OpenSIPS received or sent them, packed for the store. No I/O."""

import zlib
from collections.abc import Iterable
from typing import Final, Literal, NamedTuple

import msgspec

from companion.errors import InvalidPacketError
from companion.text import UNDECODABLE

Match = Literal["device", "aor"]
"""Whether a packet is surely of the device, or of its AOR, which other devices have too."""

COPY_US: Final = 100_000
"""Within this time the same packet is a copy, made by a second filter: SIP repeats a message after 500 ms at least."""
MAX_UNPACKED_BYTES: Final = 1 << 17
FORMAT: Final = b"\x01"

_DICTIONARY: Final = b"""
Authorization: Digest username="", realm="", nonce="", uri="sip:", algorithm=MD5, qop=auth, nc=00000001, response=***
WWW-Authenticate: Digest realm="", nonce="", qop="auth", algorithm=MD5, stale=trueAccept: application/sdp,
Session-Expires: 1800;refresher=uac Min-SE: 90 Reason: SIP;cause=200;text="Call completed elsewhere" Event: presence
Supported: path,gruu,outbound,timer,replaces,100rel,ice,norefersub Accept-Language: en, Date: GMT
a=group:BUNDLE 0 1 a=msid-semantic: WMS m=video 9 UDP/TLS/RTP/SAVPF 96 97 a=rtpmap:96 VP8/90000 a=ssrc:
o=- 0 2 IN IP4 127.0.0.1 s=- t=0 0 m=audio 9 UDP/TLS/RTP/SAVPF 111 63 9 0 8 13 110 126 c=IN IP4 0.0.0.0
a=rtcp:9 IN IP4 0.0.0.0 a=candidate: 1 udp 2122260223 192.168.1. typ host generation 0 network-id 1 network-cost 10
a=candidate: typ srflx raddr rport  typ relay tcptype active a=ice-ufrag: a=ice-pwd:*** a=ice-options:trickle
a=fingerprint:sha-256 a=setup:actpass a=mid:0 a=sendrecv a=rtcp-mux a=rtcp-rsize a=rtpmap:111 opus/48000/2
a=rtcp-fb:111 transport-cc a=fmtp:111 minptime=10;useinbandfec=1 a=rtpmap:8 PCMA/8000 a=rtpmap:0 PCMU/8000
a=rtpmap:126 telephone-event/8000 a=fmtp:101 0-16 a=ptime:20 a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:***
SIP/2.0 401 Unauthorized SIP/2.0 100 Giving it a try SIP/2.0 180 Ringing SIP/2.0 487 Request Terminated
REGISTER sip: SIP/2.0 INVITE sip: ACK sip: BYE sip: CANCEL sip: Via: SIP/2.0/UDP Via: SIP/2.0/WS
 .invalid;branch=z9hG4bK;rport=;received=127.0.0.1;alias Max-Forwards: 70 Record-Route:
 <sip:;transport=ws;lr;r2=on;ftag=>
Route: <sip: To: <sip:>;tag= From: <sip:>;tag= "" Call-ID: CSeq: 1 INVITE CSeq: 2 REGISTER
Contact: <sip:@.invalid;transport=ws;ob>;+sip.instance="<urn:uuid:>";reg-id=1;expires=600;q=1.0;pn-provider=;pn-prid=***
Expires: 600 Allow: INVITE,ACK,CANCEL,BYE,UPDATE,MESSAGE,OPTIONS,REFER,INFO,NOTIFY,SUBSCRIBE User-Agent: JsSIP 3.10
Server: OpenSIPS (3.6.8 (x86_64/linux)) Content-Type: application/sdp Content-Length: 0
""".replace(b"\n", b"\r\n")
"""What most messages have in common. A change of it needs a new FORMAT."""


class Packet(NamedTuple):
    """Hold one packet of a device's trace. `at_us` is epoch µs, addresses are `ip:port`, `node` saw it."""

    at_us: int
    protocol: str
    source: str
    target: str
    node: str
    match: Match
    sip: bytes


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Packet).decode


def pack(packet: Packet) -> bytes:
    """Pack a packet, compressed: one of a web phone's call takes 300 to 600 bytes."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15, zdict=_DICTIONARY)
    return FORMAT + compressor.compress(_encode(packet)) + compressor.flush()


def unpack(data: bytes) -> Packet:
    """Read a packet again.

    Raises InvalidPacketError (reason packed) for anything else.
    """
    decompressor = zlib.decompressobj(-15, zdict=_DICTIONARY)
    try:
        if data[:1] != FORMAT:
            raise InvalidPacketError("packed", f"format {data[:1].hex()}")
        return _decode(decompressor.decompress(data[1:], MAX_UNPACKED_BYTES))
    except (zlib.error, *UNDECODABLE) as error:
        raise InvalidPacketError("packed", str(error)) from None


def drop_copies(packets: Iterable[Packet]) -> list[Packet]:
    """Return packets in the order of their times, each once."""
    last_us: dict[tuple[str, str, bytes], int] = {}
    kept: list[Packet] = []
    for packet in sorted(packets, key=lambda packet: packet.at_us):
        key = packet.source, packet.target, packet.sip
        if packet.at_us - last_us.get(key, -COPY_US - 1) > COPY_US:
            kept.append(packet)
            last_us[key] = packet.at_us
    return kept
