"""Listening sockets: read and compared as OpenSIPS writes them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from companion.opensips.sockets import parse_socket


@pytest.mark.parametrize(
    ("listening", "destination", "accepts"),
    [
        ("ws:192.0.2.1:8080", "ws:192.0.2.1:8080", True),
        ("ws:192.0.2.1:8080", "ws:192.0.2.1:8081", False),
        ("ws:192.0.2.1:8080", "ws:192.0.2.2:8080", False),
        ("ws:192.0.2.1:8080", "wss:192.0.2.1:8080", False),
        ("ws:0.0.0.0:8080", "ws:192.0.2.1:8080", True),
        ("ws:0.0.0.0:8080", "ws:0.0.0.0:8080", True),
        ("ws:0.0.0.0:8080", "ws:0.0.0.0:8081", False),
        ("ws:[2001:db8:0:0:0:0:0:1]:8080", "ws:[2001:DB8::1]:8080", True),
        ("ws:[2001:db8:0:0:0:0:0:1]:8080", "ws:[2001:db8::2]:8080", False),
        ("WS:sip.example.com:8080", "ws:SIP.example.com:8080", True),
    ],
)
def test_accepts(listening: str, destination: str, accepts: bool) -> None:  # noqa: FBT001
    """A connection came in on a socket when protocol, port and address fit; a wildcard fits every address."""
    near = parse_socket(destination)
    socket = parse_socket(listening)
    assert near is not None
    assert socket is not None
    assert accepts == socket.accepts(*near)


@given(st.text())
def test_any_text(text: str) -> None:
    """Any text is a socket or None."""
    socket = parse_socket(text)
    assert socket is None or socket.port <= 99_999
