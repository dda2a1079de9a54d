"""Put the packets of a trace in order, and correct the targets of forwarded ACKs. No I/O.

OpenSIPS takes the time of a message after it was sent, and several processes do so at once: a fast reply may have an
earlier time than its request. A reply never comes before its request.

OpenSIPS 4.0.1 reports an ACK that it forwards over WebSocket or TCP as sent back to where it came from. A proxy never
does that, so such a target is wrong: the ACK follows the INVITE, or goes to the address in its R-URI.
"""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from companion.errors import InvalidPacketError, InvalidUriError
from companion.sip import parse_uri
from companion.trace.message import SipMessage, parse
from companion.trace.packet import Packet, drop_copies

Dialog = tuple[str, int]
"""Call-ID and CSeq number."""


SKEW_US: Final = 200_000
"""By how much a time may be too late."""
_Traced = tuple[Packet, SipMessage | None]


class _Way(NamedTuple):
    source: str
    target: str


def arrange_packets(packets: Iterable[Packet]) -> list[Packet]:
    """Return packets in the order of their times, each once, with the right targets."""
    once = drop_copies(packets)
    traced = _order([(packet, _parse(packet)) for packet in once])
    return _correct([packet for packet, _ in traced], [message for _, message in traced])


def _order(traced: Sequence[_Traced]) -> list[_Traced]:
    """Return packets by their times, but a reply behind its request, and an ACK behind the reply that it confirms."""
    times: dict[tuple[Dialog, str, _Way], int] = {}
    for packet, message in traced:
        if message:
            kind = message.method or f"reply to {message.kind}"
            times.setdefault(
                ((message.call_id, message.cseq[0]), kind, _Way(packet.source, packet.target)), packet.at_us
            )

    def rank(one: _Traced) -> tuple[int, int]:
        packet, message = one
        cause = _cause(message) if message else ""
        if message and cause:
            dialog, way = (message.call_id, message.cseq[0]), _Way(packet.target, packet.source)
            cause_us = times.get((dialog, cause, way), 0)
            if packet.at_us < cause_us <= packet.at_us + SKEW_US:
                return cause_us, 2 if message.method else 1
        return packet.at_us, 0

    return sorted(traced, key=rank)


def _cause(message: SipMessage) -> str:
    """Return what must have gone the other way before: the request of a reply, the reply that an ACK confirms."""
    if message.method:
        return "reply to INVITE" if message.method == "ACK" else ""
    return message.kind


def _correct(packets: Sequence[Packet], messages: Sequence[SipMessage | None]) -> list[Packet]:
    invites: dict[Dialog, list[_Way]] = {}
    acks: dict[Dialog, set[_Way]] = {}
    addresses = {end for packet in packets for end in (packet.source, packet.target)}
    corrected: list[Packet] = []
    for packet, message in zip(packets, messages, strict=True):
        if message and message.method in ("INVITE", "ACK"):
            dialog, way = (message.call_id, message.cseq[0]), _Way(packet.source, packet.target)
            if message.method == "INVITE":
                invites.setdefault(dialog, []).append(way)
            elif _Way(way.target, way.source) in acks.setdefault(dialog, set()):
                target = _find_target(way, message, invites.get(dialog, ()), addresses)
                packet = packet._replace(target=target)  # noqa: PLW2901 - the same packet
            if message.method == "ACK":
                acks[dialog].add(_Way(packet.source, packet.target))
        corrected.append(packet)
    return corrected


def _find_target(way: _Way, message: SipMessage, invites: Iterable[_Way], addresses: set[str]) -> str:
    """Return where an ACK went that seems to return to its sender; unchanged where nothing tells."""
    for invite in invites:
        if invite.source == way.source and invite.target != way.target:
            return invite.target
    try:
        uri = parse_uri(message.uri)
    except InvalidUriError:
        return way.target
    address = f"{uri.host}:{uri.port}"
    return address if address in addresses else way.target


def _parse(packet: Packet) -> SipMessage | None:
    try:
        return parse(packet.sip)
    except InvalidPacketError:
        return None
