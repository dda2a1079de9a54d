"""Put the packets of a trace in transactions: a request on one leg, its repetitions, and its replies. No I/O."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from companion.errors import InvalidPacketError
from companion.trace.message import SipMessage, parse
from companion.trace.packet import Packet


class TracedMessage(NamedTuple):
    """Hold a packet with its summary, and its number in the trace."""

    number: int
    packet: Packet
    message: SipMessage


@dataclass(slots=True)
class Transaction:
    """Hold one request between two addresses, the later copies that were sent of it, and the replies.

    `is_acknowledged` tells whether an ACK went the same way as the INVITE.
    """

    request: TracedMessage
    repeats: list[TracedMessage] = field(default_factory=list)
    replies: list[TracedMessage] = field(default_factory=list)
    is_acknowledged: bool = False

    @property
    def method(self) -> str:
        return self.request.message.method

    @property
    def call_id(self) -> str:
        return self.request.message.call_id

    @property
    def final(self) -> TracedMessage | None:
        """Return the first final reply, None while there is none."""
        return next((reply for reply in self.replies if reply.message.code >= 200), None)

    @property
    def code(self) -> int:
        """Return the code of the final reply, 0 while there is none."""
        return self.final.message.code if self.final else 0


Key = tuple[str, str, str, int, str]


def read_messages(packets: Iterable[Packet]) -> list[TracedMessage]:
    """Parse the packets of a trace; one that is no SIP is left out."""
    messages: list[TracedMessage] = []
    for packet in packets:
        try:
            message = parse(packet.sip)
        except InvalidPacketError:
            continue
        messages.append(TracedMessage(len(messages), packet, message))
    return messages


def find_repeats(messages: Iterable[TracedMessage]) -> set[int]:
    """Return the numbers of messages that were sent before, word for word, on the same way."""
    first: set[tuple[str, str, bytes]] = set()
    repeats: set[int] = set()
    for traced in messages:
        key = traced.packet.source, traced.packet.target, traced.packet.sip
        if key in first:
            repeats.add(traced.number)
        first.add(key)
    return repeats


def find_transactions(messages: Sequence[TracedMessage]) -> list[Transaction]:
    """Return the transactions in the order of their requests; an ACK marks the one of its INVITE."""
    transactions: dict[Key, Transaction] = {}
    for traced in messages:
        message, packet = traced.message, traced.packet
        number, kind = message.cseq
        forward = (message.call_id, packet.source, packet.target, number)
        if message.method == "ACK":
            invite = transactions.get((*forward, "INVITE"))
            if invite:
                invite.is_acknowledged = True
        elif message.method:
            key = (*forward, kind)
            if key in transactions:
                transactions[key].repeats.append(traced)
            else:
                transactions[key] = Transaction(traced)
        else:
            answered = transactions.get((message.call_id, packet.target, packet.source, number, kind))
            if answered:
                answered.replies.append(traced)
    return list(transactions.values())
