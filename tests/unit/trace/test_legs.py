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


def test_a_reply_follows_its_request() -> None:
    """OpenSIPS may tell of a fast reply before it tells of the request; what is further apart stays as it is."""
    bye = packet(5, EDGE, PHONE, sip("BYE sip:k3@x.invalid", cseq="2 BYE"))
    early = packet(4, PHONE, EDGE, sip("200 OK", cseq="2 BYE"))
    much_earlier = packet(5, PHONE, EDGE, sip("200 OK", cseq="2 BYE"))
    late = packet(900, EDGE, PHONE, sip("BYE sip:k3@x.invalid", cseq="2 BYE"))
    assert arrange_packets([early, bye]) == [bye, early]
    assert arrange_packets([much_earlier, late]) == [much_earlier, late]


def test_an_ack_follows_the_reply() -> None:
    """A 200 with a later time than its ACK, and than what followed, is shown before them."""
    ok = packet(9, EDGE, FAR, sip("200 OK", cseq="1 INVITE"))
    again = packet(7, FAR, EDGE, sip("INVITE sip:k3@x.invalid", cseq="2 INVITE"))
    assert arrange_packets([INVITE[0], ack(3, FAR, EDGE), again, ok]) == [INVITE[0], ok, ack(3, FAR, EDGE), again]


def test_requests_of_a_call_are_in_order() -> None:
    """An ACK whose time is later than that of the next request on its way is shown before it."""
    again = packet(7, EDGE, PHONE, sip("INVITE sip:k3@x.invalid", cseq="2 INVITE"))
    late = packet(9, EDGE, PHONE, sip("ACK sip:k3@x.invalid", cseq="1 ACK"))
    assert arrange_packets([again, late]) == [late, again]
