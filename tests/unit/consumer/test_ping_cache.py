"""Check that a ping recognised by its bytes is read as decoding reads it, or not recognised at all."""

from typing import Any

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from companion.consumer.ping_cache import PingCache
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


def cache_of(*original: bytes) -> PingCache:
    cache = PingCache()
    for params in original:
        cache.add(params, event_of(params), contact_of(event_of(params)))
    return cache


@given(latencies, latencies)
@example(127, 128)
@example(255, 256)
@example(65_535, 65_536)
def test_the_same_but_for_the_latency(first: int, then: int) -> None:
    """A cached ping is recognised with any latency, and the latency is the one that decoding reads."""
    cache = cache_of(packed(latency=first))
    match = cache.find(packed(latency=then))
    assert match
    ping, latency_us = match
    assert (latency_us, ping.registration) == (then, event_of(packed()).registration)


@given(texts, texts, latencies, st.binary(max_size=12), st.integers(0, 400))
@example("§latency*", "", 5, b"\xa7latency", 60)
@example("", "§latency", 5, b"*", 3)
def test_never_misread(user_agent: str, tag: str, then: int, patch: bytes, at: int) -> None:
    """Whatever the texts and whichever bytes are changed: a recognised ping is read as decoding reads it."""
    try:
        original = packed(user_agent=user_agent, shtag=tag)
        cache = cache_of(original)
    except InvalidEventError:
        return
    repeated = packed(user_agent=user_agent, shtag=tag, latency=then)
    for changed in (
        repeated,
        repeated[:at] + patch + repeated[at + len(patch) :],
        repeated[:at] + patch + repeated[at:],
    ):
        match = cache.find(changed)
        if match:
            ping, latency_us = match
            event = event_of(changed)
            assert (event.latency_us, event.registration) == (latency_us, ping.registration)
            assert (event.aor, event.uri) == (ping.contact.binding.aor, ping.contact.binding.uri)


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
def test_other_pings_are_not_recognised(changes: dict[str, Any]) -> None:
    """Another contact, another registration, other bytes at the end or an impossible latency: not recognised."""
    assert cache_of(packed()).find(packed(**changes)) is None


@pytest.mark.parametrize(
    "params", [b"", b"\x80", packed()[:-1], packed().partition(b"latency")[0] + b"latency", b"\xa7latency\xce"]
)
def test_broken_bytes_are_not_recognised(params: bytes) -> None:
    """Bytes that are cut short are not recognised."""
    assert cache_of(packed()).find(params) is None


def test_a_text_with_the_key_is_not_cached() -> None:
    """A text that holds the bytes of the key hides the latency: such a ping is never cached, and always decoded."""
    hostile = packed(shtag="§latency*")
    assert cache_of(hostile).find(hostile) is None


def test_another_registration_is_not_cached() -> None:
    """A ping whose registration differs from the contact's is not cached."""
    cache = PingCache()
    cache.add(packed(), event_of(packed()), contact_of(event_of(packed(cseq=9))))
    assert cache.find(packed()) is None


def test_bounded() -> None:
    """The oldest half is dropped; pings that come again stay."""
    cache = PingCache(max_pings=20)
    for number in range(100):
        params = packed(aor=f"user{number}")
        cache.add(params, event_of(params), contact_of(event_of(params)))
        assert cache.find(packed(aor="user0", latency=number)), "pinged all the time"
    cached = [number for number in range(100) if cache.find(packed(aor=f"user{number}"))]
    assert cached[0] == 0
    assert 99 in cached
    assert len(cached) <= 20


def test_forget() -> None:
    """A forgotten contact's ping is not recognised, in either generation, and nothing refers to the contact."""
    cache = PingCache(max_pings=4)
    contacts = {}
    for number in range(3):
        params = packed(aor=f"user{number}")
        contacts[number] = contact_of(event_of(params))
        cache.add(params, event_of(params), contacts[number])
    assert cache._older, "the generations have changed"
    cache.forget([contacts[0], contacts[2], contact_of(event_of(packed()))])
    assert [number for number in range(3) if cache.find(packed(aor=f"user{number}"))] == [1]
    assert not {contacts[0], contacts[2]} & cache._heads.keys()


def test_one_ping_of_a_contact() -> None:
    """A contact that registers again has its newer ping in the cache alone."""
    cache = PingCache()
    contact = contact_of(event_of(packed()))
    cache.add(packed(), event_of(packed()), contact)
    contact.registration = event_of(packed(cseq=2)).registration
    cache.add(packed(cseq=2), event_of(packed(cseq=2)), contact)
    assert (cache.find(packed()), len(cache._current)) == (None, 1)
    assert cache.find(packed(cseq=2))
