"""Correct the targets of forwarded ACKs, and put the packets of a trace in order. No I/O.

OpenSIPS 4.0.1 reports an ACK that it forwards over WebSocket or TCP as sent back to where it came from. A proxy never
does that, so such a target is wrong: the ACK follows the INVITE, or goes to the address in its R-URI.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from companion.errors import InvalidPacketError, InvalidUriError
from companion.sip import parse_uri
from companion.trace.message import SipMessage, parse
from companion.trace.packet import Packet, drop_copies

Dialog = tuple[str, int]
"""Call-ID and CSeq number."""


class _Way(NamedTuple):
    source: str
    target: str


def arrange_packets(packets: Iterable[Packet]) -> list[Packet]:
    """Return packets in the order of their times, each once, with the right targets."""
    ordered = drop_copies(packets)
    messages = [_parse(packet) for packet in ordered]
    if not any(message and message.method == "ACK" for message in messages):
        return ordered
    return _correct(ordered, messages)


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
