"""SIP messages are summarised as phones write them, and anything else is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from companion.errors import InvalidPacketError
from companion.trace.message import parse
from tests.unit.trace.messages import sip


def test_request() -> None:
    """Of a request the trace knows method, R-URI, dialog, transaction and whom it is from and to."""
    message = parse(sip("INVITE sip:k3j@x.invalid", cseq="7 INVITE", to="Bob <sip:bob@EXAMPLE.com>;tag=z"))
    assert (message.method, message.uri, message.cseq) == ("INVITE", "sip:k3j@x.invalid", (7, "INVITE"))
    assert (message.from_uri.user, message.to_uri.user, message.to_uri.host) == ("dave", "bob", "example.com")  # type: ignore[union-attr]
    assert (message.from_tag, message.to_tag, message.in_dialog, message.branch) == ("a", "z", True, "z9hG4bK7")


def test_reply() -> None:
    """Of a reply the trace knows code, reason, and the method that it belongs to."""
    message = parse(sip("486 Busy Here", cseq="1 INVITE"))
    assert (message.code, message.reason, message.kind, message.label) == (486, "Busy Here", "INVITE", "486 Busy Here")


def test_as_phones_write_it() -> None:
    """Compact names, folded lines, bare line feeds, a missing reason and bytes that are not UTF-8 are read."""
    raw = b"SIP/2.0 200\nf: <sip:dave@h>\n ;tag=1\nt: sip:bob@h;tag=2\ni: x\nCSEQ:  5   BYE\nSubject: \xff\n\n"
    message = parse(raw)
    assert (
        message.code,
        message.call_id,
        message.kind,
        message.from_tag,
        message.to_tag,
    ) == (200, "x", "BYE", "1", "2")
    assert message.to_uri
    assert message.to_uri.user == "bob"


@pytest.mark.parametrize(
    "raw",
    [b"", b"\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"SIP/2.0 99 X\r\n\r\n", b"{}", b"INVITE sip:a@b", b"\x00" * 40],
)
def test_no_sip(raw: bytes) -> None:
    """What is no SIP message is refused."""
    with pytest.raises(InvalidPacketError, match="not_sip"):
        parse(raw)


@given(st.binary(max_size=300) | st.text(max_size=200).map(lambda text: b"BYE sip:a@b SIP/2.0\r\n" + text.encode()))
def test_survives_anything(raw: bytes) -> None:
    """Any bytes are a message or are refused; no header is so odd that reading it fails."""
    try:
        message = parse(raw)
    except InvalidPacketError:
        return
    assert message.label
    assert [message.call_id, message.cseq, message.from_uri, message.to_uri, message.branch, message.is_stale_challenge]
