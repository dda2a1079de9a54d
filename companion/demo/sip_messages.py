"""Write the SIP messages of a call of two web phones, as OpenSIPS mirrors them: both legs and a REGISTER. No I/O."""

from collections.abc import Iterator
from typing import Final

from companion.demo.calls import PastCall
from companion.opensips.hep import HepPacket
from companion.simulator.phone import SimulatedPhone

PROXY: Final = "127.0.0.1:8080"
DOMAIN: Final = "example.com"
SDP: Final = """v=0
o=- 4611731400430051336 2 IN IP4 127.0.0.1
s=-
t=0 0
m=audio 9 UDP/TLS/RTP/SAVPF 111 0 8
c=IN IP4 0.0.0.0
a=ice-ufrag:hTq3
a=ice-pwd:cE4dR1vX9sQw7uYb2nKf5mZa
a=fingerprint:sha-256 4A:AD:B9:B1:3F:82:18:3B:54:02:12:DF:3E:5D:49:6B:19:E5:7C:AB:3F:82:18:3B:54:02:12:DF:3E:5D:49:6B
a=setup:actpass
a=mid:0
a=sendrecv
a=rtpmap:111 opus/48000/2
a=rtpmap:0 PCMU/8000
a=rtpmap:8 PCMA/8000
"""


def write_messages(call: PastCall) -> Iterator[HepPacket]:
    """Return the messages in the order of their times: a REGISTER, a ping, then the call from ring to hang-up."""
    dialog = _Dialog(call)
    callee, caller, start = _address(call.phone), _address(call.other), call.media.started_at
    register, ping = _Register(call), _Ping(call)
    yield _packet(start - 50_000, callee, PROXY, register.request())
    yield _packet(start - 49_992, PROXY, callee, register.answer())
    yield _packet(start - 30_000, PROXY, callee, ping.request())
    yield _packet(start - 29_944, callee, PROXY, ping.answer())
    yield _packet(start - 6_000, caller, PROXY, dialog.request("INVITE", 1, SDP))
    yield _packet(start - 5_998, PROXY, caller, dialog.answer("100 Giving it a try", "INVITE", 1))
    yield _packet(start - 5_992, PROXY, callee, dialog.request("INVITE", 1, SDP, hops=1))
    yield _packet(start - 5_930, callee, PROXY, dialog.answer("100 Trying", "INVITE", 1, hops=1))
    yield _packet(start - 5_760, callee, PROXY, dialog.answer("180 Ringing", "INVITE", 1, hops=1))
    yield _packet(start - 5_757, PROXY, caller, dialog.answer("180 Ringing", "INVITE", 1))
    yield _packet(start - 320, callee, PROXY, dialog.answer("200 OK", "INVITE", 1, SDP, hops=1))
    yield _packet(start - 316, PROXY, caller, dialog.answer("200 OK", "INVITE", 1, SDP))
    yield _packet(start - 250, caller, PROXY, dialog.request("ACK", 1))
    yield _packet(start - 247, PROXY, callee, dialog.request("ACK", 1, hops=1))
    yield _packet(call.media.ends_at, caller, PROXY, dialog.request("BYE", 2))
    yield _packet(call.media.ends_at + 3, PROXY, callee, dialog.request("BYE", 2, hops=1))
    yield _packet(call.media.ends_at + 58, callee, PROXY, dialog.answer("200 OK", "BYE", 2, hops=1))
    yield _packet(call.media.ends_at + 61, PROXY, caller, dialog.answer("200 OK", "BYE", 2))


class _Dialog:
    """Write requests of the caller and answers of the callee; `hops` 1 is the leg behind OpenSIPS."""

    def __init__(self, call: PastCall) -> None:
        self._call = call
        self._caller = call.media.peer
        self._callee = f"sip:{call.phone.aor}@{DOMAIN}"

    def request(self, method: str, number: int, body: str = "", hops: int = 0) -> bytes:
        to = f"<{self._callee}>" if (method, number) == ("INVITE", 1) else f"<{self._callee}>;tag=callee"
        first = f"{method} {self._call.phone.uri.partition(';')[0]};transport=ws SIP/2.0"
        headers = [*self._headers(method, number, to, hops), "Max-Forwards: 70"]
        return _write(first, [*headers, f"User-Agent: {self._call.other.user_agent}"], body)

    def answer(self, status: str, method: str, number: int, body: str = "", hops: int = 0) -> bytes:
        to = f"<{self._callee}>;tag=callee"
        return _write(f"SIP/2.0 {status}", self._headers(method, number, to, hops), body)

    def _headers(self, method: str, number: int, to: str, hops: int) -> list[str]:
        branch = f"z9hG4bK{self._call.media.call_id[:8]}{method.lower()}{number}"
        vias = [f"Via: SIP/2.0/WS {PROXY};branch={branch}p"] if hops else []
        return [
            *vias,
            f"Via: SIP/2.0/WS {_address(self._call.other)};branch={branch};rport",
            f"From: <{self._caller}>;tag=caller",
            f"To: {to}",
            f"Call-ID: {self._call.media.call_id}",
            f"CSeq: {number} {method}",
        ]


class _Register:
    """Write a refresh of the callee's registration, and its answer."""

    def __init__(self, call: PastCall) -> None:
        self._phone = call.phone

    def request(self) -> bytes:
        contact = f'Contact: <{self._phone.uri}>;+sip.instance="<urn:uuid:{self._phone.instance}>";expires=600'
        agent = f"User-Agent: {self._phone.user_agent}"
        return _write(f"REGISTER sip:{DOMAIN} SIP/2.0", [*self._headers(), "Max-Forwards: 70", contact, agent])

    def answer(self) -> bytes:
        return _write("SIP/2.0 200 OK", [*self._headers(), f"Contact: <{self._phone.uri}>;expires=600"])

    def _headers(self) -> list[str]:
        phone, own = self._phone, f"<sip:{self._phone.aor}@{DOMAIN}>"
        return [
            f"Via: SIP/2.0/WS {_address(phone)};branch=z9hG4bKreg{phone.cseq};rport",
            f"From: {own};tag=register",
            f"To: {own}",
            f"Call-ID: {phone.callid}",
            f"CSeq: {phone.cseq} REGISTER",
        ]


class _Ping:
    """Write a ping of OpenSIPS, and its answer."""

    def __init__(self, call: PastCall) -> None:
        self._phone = call.phone

    def request(self) -> bytes:
        return _write(f"OPTIONS {self._phone.uri} SIP/2.0", [*self._headers(), "Max-Forwards: 70"])

    def answer(self) -> bytes:
        return _write("SIP/2.0 200 OK", self._headers())

    def _headers(self) -> list[str]:
        return [
            f"Via: SIP/2.0/WS {PROXY};branch=z9hG4bKping;rport",
            f"From: <sip:pinger@{DOMAIN}>;tag=ping",
            f"To: <sip:{self._phone.aor}@{DOMAIN}>",
            f"Call-ID: ping-{self._phone.instance}",
            "CSeq: 1 OPTIONS",
        ]


def _address(phone: SimulatedPhone) -> str:
    return f"{phone.address[0]}:{phone.address[1]}"


def _packet(at: int, source: str, target: str, sip: bytes) -> HepPacket:
    """Return a message at a time (epoch ms)."""
    return HepPacket(at * 1000, "ws", source, target, sip)


def _write(first: str, headers: list[str], body: str = "") -> bytes:
    content = body.replace("\n", "\r\n")
    kind = ["Content-Type: application/sdp"] if content else []
    lines = [first, *headers, *kind, f"Content-Length: {len(content)}", "", content]
    return "\r\n".join(lines).encode()
