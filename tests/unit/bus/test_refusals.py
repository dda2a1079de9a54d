"""Why a bus refuses us, from the events of ZeroMQ's monitor."""

import pytest
import zmq

from companion.bus.handshakes import Handshake, Why, find_why
from companion.bus.refusals import AFTER_FAILURES, EXPLANATIONS, Refusals

HERE = "tcp://127.0.0.1:5555"


@pytest.mark.parametrize(
    ("event", "value", "demands_key", "why"),
    [
        (zmq.EVENT_HANDSHAKE_FAILED_AUTH, 400, True, "client_key"),
        (zmq.EVENT_HANDSHAKE_FAILED_AUTH, 400, False, "client_key"),
        (zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL, 32, True, "server_key"),
        (zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL, 32, False, "broken"),
        (zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL, zmq.PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC, False, "server_key"),
        (zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL, zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH, False, "encryption"),
        (zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL, zmq.PROTOCOL_ERROR_ZMTP_MALFORMED_COMMAND_HELLO, False, "broken"),
    ],
)
def test_why(event: int, value: int, demands_key: bool, why: Why) -> None:  # noqa: FBT001 - a column of the table
    """Each failure of a handshake has its reason."""
    assert find_why(event, value, demands_key=demands_key) == why


def test_a_bridge_that_restarts_is_no_refusal() -> None:
    """A connection that ends in the handshake once or twice refuses nothing; again and again it does."""
    refusals = Refusals()
    for _ in range(AFTER_FAILURES):
        assert refusals.current() == {}
        refusals.take([Handshake(HERE, "server_key")])
    assert refusals.current() == {HERE: "server_key"}
    refusals.take([Handshake(HERE, None)])
    assert refusals.current() == {}


def test_a_final_refusal_counts_at_once() -> None:
    """What ZeroMQ does not try again is a refusal at once, and its reason outlasts vaguer ones."""
    refusals = Refusals()
    refusals.take([Handshake(HERE, "broken"), Handshake(HERE, "encryption", is_final=True), Handshake(HERE, "broken")])
    assert refusals.current() == {HERE: "encryption"}
    assert refusals.given_up() == [HERE]


def test_every_reason_is_explained() -> None:
    """Each reason has a text and a remedy of its own."""
    assert len({*EXPLANATIONS.values()}) == len(EXPLANATIONS) == 4
