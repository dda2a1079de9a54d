"""What is decoded of a message."""

import msgpack
import msgspec

from companion.bus.envelope import Message
from companion.consumer.decoder import Decoder
from companion.metrics import INVALID


def decode(name: str, **params: str) -> tuple[list[object], list[str]]:
    """Return the events that came of one, and why it was refused."""
    message = Message(name, "n", 1, 0, [(1, msgspec.Raw(msgpack.packb(params)))])
    decoded = Decoder({}).decode(message)
    return list(decoded.events), [refusal.reason for refusal in decoded.refusals]


def test_an_event_of_ones_own() -> None:
    """An event that the companion does not use is counted, but no phone is missing because of it."""
    counter = INVALID.labels("consumer", "unknown_event")
    before = counter._value.get()
    assert decode("E_SLOW_PHONE", aor="alice") == ([None], [])
    assert counter._value.get() == before + 1


def test_a_broken_event() -> None:
    """An event of OpenSIPS that can not be taken is refused."""
    assert decode("E_UL_CONTACT_INSERT", aor="alice") == ([None], ["missing"])
