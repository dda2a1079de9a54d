"""Which endpoints the bus can have, and that none shows its password."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from companion.bus.endpoint import find_fault, is_rabbitmq, show_endpoint


@pytest.mark.parametrize(
    "endpoint",
    [
        "tcp://127.0.0.1:5555",
        "ipc:///run/bus",
        "inproc://bus",
        "amqp://127.0.0.1",
        "amqps://u:p@rabbit.example:5671/voip?cafile=/etc/ca.pem",
        "amqp://[::1]:5672/%2F",
    ],
)
def test_good_endpoints(endpoint: str) -> None:
    """Endpoints of ZeroMQ and RabbitMQ have no fault."""
    assert find_fault(endpoint) == ""


@pytest.mark.parametrize(
    ("endpoint", "fault"),
    [
        ("http://127.0.0.1", "is not an endpoint of ZeroMQ"),
        ("127.0.0.1:5555", "is not an endpoint of ZeroMQ"),
        ("amqp:/127.0.0.1", "is not an endpoint of ZeroMQ"),
        ("amqp:///voip", "names no host"),
        ("amqps://u:p@/voip", "names no host"),
        ("amqp://rabbit:port/voip", "is no URL"),
        ("amqp://[::1/voip", "is no URL"),
        ("amqp://user:00#0@rabbit/voip", "is not percent-encoded"),
    ],
)
def test_bad_endpoints(endpoint: str, fault: str) -> None:
    """Each other endpoint has a fault that can be told."""
    assert fault in find_fault(endpoint)


@given(st.text(), st.sampled_from(["", "amqp://", "amqps://", "tcp://"]))
def test_any_text(text: str, scheme: str) -> None:
    """Any text is an endpoint or has a fault, and can be shown."""
    find_fault(scheme + text)
    show_endpoint(scheme + text)


@given(st.from_regex(r"[!-~]{4,30}", fullmatch=True), st.sampled_from(["amqp", "amqps"]))
def test_no_password_is_shown(password: str, scheme: str) -> None:
    """No part of a password is shown, whatever stands in it."""
    assert show_endpoint(f"{scheme}://user:{password}@host/voip") == f"{scheme}://user:***@host/voip"
    assert is_rabbitmq(f"{scheme}://user:{password}@host/voip")
