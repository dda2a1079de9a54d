"""Put the packets of a trace in order, and correct the targets of forwarded ACKs. No I/O.

OpenSIPS takes the time of a message after it was sent, and several processes do so at once: a fast reply may have an
earlier time than its request. Such a request belongs before the reply.

OpenSIPS 4.0.1 reports an ACK that it forwards over WebSocket or TCP as sent back to where it came from. A proxy never
does that, so such a target is wrong: the ACK follows the INVITE, or goes to the address in its R-URI.
"""

from bisect import bisect_left
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
MAX_LATER: Final = 50
"""Requests of one call on one way within SKEW_US that are compared; only a flood has more."""
_Traced = tuple[Packet, SipMessage | None]


class _Way(NamedTuple):
    source: str
    target: str


_Key = tuple[str, int, str, _Way]


def arrange_packets(packets: Iterable[Packet]) -> list[Packet]:
    """Return packets in the order of their times, each once, with the right targets."""
    once = drop_copies(packets)
    traced = _order([(packet, _parse(packet)) for packet in once])
    return _correct([packet for packet, _ in traced], [message for _, message in traced])


def _order(traced: Sequence[_Traced]) -> list[_Traced]:
    """Return packets by their times, but a message before what it brought about and before later requests."""
    effects: dict[_Key, list[int]] = {}
    requests: dict[tuple[str, _Way], list[tuple[int, int]]] = {}  # times, which are in order, and CSeq numbers
    for packet, message in traced:
        if message:
            way = _Way(packet.source, packet.target)
            effects.setdefault((*_thread(message, _kind(message)), way), []).append(packet.at_us)
            if message.method:
                requests.setdefault((message.call_id, way), []).append((packet.at_us, message.cseq[0]))

    def rank(one: _Traced) -> tuple[int, int]:
        packet, message = one
        if not message:
            return packet.at_us, 1
        effect, way = _effect(message), _Way(packet.source, packet.target)
        times = effects.get((*_thread(message, effect), _Way(way.target, way.source)), []) if effect else []
        first = bisect_left(times, packet.at_us - SKEW_US)
        earlier = times[first : first + 1]
        if message.method:
            sent = requests[message.call_id, way]
            first = bisect_left(sent, (packet.at_us - SKEW_US, 0))
            last = bisect_left(sent, (packet.at_us, 0), first)
            within = sent[first : min(last, first + MAX_LATER)]
            earlier += [at_us for at_us, number in within if number > message.cseq[0]][:1]
        earlier = [at_us for at_us in earlier if at_us < packet.at_us]
        return (min(earlier), 0) if earlier else (packet.at_us, 1)

    return sorted(traced, key=rank)


def _thread(message: SipMessage, effect: str) -> tuple[str, int, str]:
    """Return what a message and its effect have in common: the branch, or of an ACK the dialog."""
    name = message.call_id if effect == "ACK" else message.branch
    return name, message.cseq[0], effect


def _kind(message: SipMessage) -> str:
    return message.method or f"reply to {message.kind}"


def _effect(message: SipMessage) -> str:
    """Return what comes back the other way: the reply to a request, the ACK of a final reply to an INVITE."""
    if message.method:
        return "" if message.method == "ACK" else f"reply to {message.method}"
    return "ACK" if message.code >= 200 and message.kind == "INVITE" else ""


def _correct(packets: Sequence[Packet], messages: Sequence[SipMessage | None]) -> list[Packet]:
    invites: dict[Dialog, dict[str, dict[str, None]]] = {}  # targets by source, in order
    acks: dict[Dialog, set[_Way]] = {}
    addresses = {end for packet in packets for end in (packet.source, packet.target)}
    corrected: list[Packet] = []
    for packet, message in zip(packets, messages, strict=True):
        if message and message.method in ("INVITE", "ACK"):
            dialog, way = (message.call_id, message.cseq[0]), _Way(packet.source, packet.target)
            if message.method == "INVITE":
                invites.setdefault(dialog, {}).setdefault(way.source, {})[way.target] = None
            elif _Way(way.target, way.source) in acks.setdefault(dialog, set()):
                targets = invites.get(dialog, {}).get(way.source, ())
                target = _find_target(way, message, targets, addresses)
                packet = packet._replace(target=target)  # noqa: PLW2901 - the same packet
            if message.method == "ACK":
                acks[dialog].add(_Way(packet.source, packet.target))
        corrected.append(packet)
    return corrected


def _find_target(way: _Way, message: SipMessage, targets: Iterable[str], addresses: set[str]) -> str:
    """Return where an ACK went that seems to return to its sender; unchanged where nothing tells.

    `targets` are those of the INVITEs of its source.
    """
    other = next((target for target in targets if target != way.target), None)
    if other:
        return other
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
