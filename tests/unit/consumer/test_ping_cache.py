"""A ping known by its bytes is read as decoding would read it, or not at all."""

from typing import Any

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from companion.consumer.ping_cache import Pings
from companion.errors import InvalidEventError
from companion.opensips.events import LATENCY, LOST_PING_US, MAX_LATENCY_US, ContactEvent, decode
from companion.usrloc.contact import Binding, Contact

PARAMS: dict[str, Any] = {
    "domain": "location",
    "aor": "alice",
    "uri": "sip:alice@192.0.2.1",
    "user_agent": "Desk Phone",
    "expires": 1_790_000_000,
    "cseq": 1,
    "attr": "",
    "latency": 40_000,
    "shtag": "",
}
latencies = st.integers(0, MAX_LATENCY_US) | st.just(LOST_PING_US)
texts = st.sampled_from(["", "x", "§latency", "latency", "\u00a7latency*", "§latency\u0000\u0001"]) | st.text(
    max_size=30
)


def packed(**params: Any) -> bytes:
    return bytes(msgpack.packb(PARAMS | params))


def event_of(params: bytes) -> ContactEvent:
    event = decode(LATENCY, params)
    assert isinstance(event, ContactEvent)
    return event


def contact_of(event: ContactEvent) -> Contact:
    binding = Binding("cluster", event.domain, event.aor, event.uri)
    return Contact(binding, "id", "device", "node", event.registration)


def knowing(*learned: bytes) -> Pings:
    pings = Pings()
    for params in learned:
        pings.learn(params, event_of(params), contact_of(event_of(params)))
    return pings


@given(latencies, latencies)
@example(127, 128)
@example(255, 256)
@example(65_535, 65_536)
def test_the_same_but_for_the_latency(first: int, then: int) -> None:
    """Once learned, a contact's ping is known whatever its latency, and the latency is what decoding says."""
    pings = knowing(packed(latency=first))
    found = pings.find(packed(latency=then))
    assert found
    known, latency_us = found
    assert (latency_us, known.registration) == (then, event_of(packed()).registration)


@given(texts, texts, latencies, st.binary(max_size=12), st.integers(0, 400))
@example("§latency*", "", 5, b"\xa7latency", 60)
@example("", "§latency", 5, b"*", 3)
def test_never_misread(user_agent: str, tag: str, then: int, patch: bytes, at: int) -> None:
    """Whatever the texts and whichever bytes are changed: what is known reads as decoding reads it."""
    try:
        learned = packed(user_agent=user_agent, shtag=tag)
        pings = knowing(learned)
    except InvalidEventError:
        return
    said = packed(user_agent=user_agent, shtag=tag, latency=then)
    for changed in (said, said[:at] + patch + said[at + len(patch) :], said[:at] + patch + said[at:]):
        found = pings.find(changed)
        if found:
            known, latency_us = found
            event = event_of(changed)
            assert (event.latency_us, event.registration) == (latency_us, known.registration)
            assert (event.aor, event.uri) == (known.contact.binding.aor, known.contact.binding.uri)


@pytest.mark.parametrize(
    "changes",
    [
        {"aor": "bob"},
        {"cseq": 2},
        {"expires": 1_790_000_060},
        {"user_agent": "Desk Phone 2"},
        {"shtag": "x"},
        {"latency": None},
        {"latency": ""},
        {"latency": -1},
        {"latency": 1.5},
        {"latency": "40000"},
        {"latency": True},
        {"latency": MAX_LATENCY_US + 1},
        {"latency": 1 << 40},
        {"latency": [1]},
    ],
)
def test_anything_else_is_not_known(changes: dict[str, Any]) -> None:
    """Another contact, another registration, another end, or no latency that may be: not known."""
    assert knowing(packed()).find(packed(**changes)) is None


@pytest.mark.parametrize(
    "params", [b"", b"\x80", packed()[:-1], packed().partition(b"latency")[0] + b"latency", b"\xa7latency\xce"]
)
def test_broken_bytes_are_not_known(params: bytes) -> None:
    """What is cut short is nothing that is known."""
    assert knowing(packed()).find(params) is None


def test_a_text_that_looks_like_it_is_not_learned() -> None:
    """A text that holds the bytes of the key hides the latency: such a ping is never known, and always decoded."""
    hostile = packed(shtag="§latency*")
    assert knowing(hostile).find(hostile) is None


def test_another_registration_is_not_learned() -> None:
    """A ping that says something else of the registration than the contact itself has is not its own."""
    pings = Pings()
    pings.learn(packed(), event_of(packed()), contact_of(event_of(packed(cseq=9))))
    assert pings.find(packed()) is None


def test_bounded() -> None:
    """The oldest half is forgotten; those that are pinged stay."""
    pings = Pings(known_max=20)
    for number in range(100):
        params = packed(aor=f"user{number}")
        pings.learn(params, event_of(params), contact_of(event_of(params)))
        assert pings.find(packed(aor="user0", latency=number)), "pinged all the time"
    known = [number for number in range(100) if pings.find(packed(aor=f"user{number}"))]
    assert known[0] == 0
    assert 99 in known
    assert len(known) <= 20


def test_forget() -> None:
    """Nothing is known of contacts that were let go."""
    pings = knowing(packed())
    pings.forget()
    assert pings.find(packed()) is None
