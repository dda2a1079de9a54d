"""An ACK that OpenSIPS reports as sent back to its sender is shown where it went."""

from companion.trace.legs import arrange_packets
from companion.trace.packet import Packet
from tests.unit.trace.messages import EDGE, FAR, PHONE, packet, sip

INVITE = [
    packet(0, FAR, EDGE, sip("INVITE sip:k3@x.invalid")),
    packet(1, EDGE, PHONE, sip("INVITE sip:k3@x.invalid")),
    packet(2, PHONE, EDGE, sip("200 OK", cseq="1 INVITE")),
]


def ack(at_ms: int, source: str, target: str, more: str = "", uri: str = "sip:k3@x.invalid") -> Packet:
    return packet(at_ms, source, target, sip(f"ACK {uri}", cseq="1 ACK", more=more))


def test_it_follows_its_invite() -> None:
    """The forwarded ACK went where the INVITE went; a copy and another ACK stay as they are."""
    packets = [*INVITE, ack(3, FAR, EDGE), ack(4, EDGE, FAR, "Via: SIP/2.0/WS edge")]
    assert [(one.source, one.target) for one in arrange_packets(packets)[3:]] == [(FAR, EDGE), (EDGE, PHONE)]
    right = [*INVITE, ack(3, FAR, EDGE), ack(4, EDGE, PHONE)]
    assert arrange_packets(right) == right


def test_without_an_invite() -> None:
    """Where the recording began later, the address in the R-URI tells, if the trace knows it; else nothing changes."""
    uri = f"sip:k3@{PHONE};transport=ws"
    bye = packet(9, EDGE, PHONE, sip(f"BYE {uri}"))
    packets = [ack(3, FAR, EDGE, uri=uri), ack(4, EDGE, FAR, "Via: SIP/2.0/WS edge", uri=uri), bye]
    assert arrange_packets(packets)[1].target == PHONE
    unclear = [ack(3, FAR, EDGE), ack(4, EDGE, FAR, "Via: SIP/2.0/WS edge")]
    assert arrange_packets(unclear) == unclear
