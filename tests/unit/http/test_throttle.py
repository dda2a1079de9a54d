"""The throttle: guessing is slow, one address locks out nobody else, and memory is bounded."""

from hypothesis import given
from hypothesis import strategies as st

from companion.http.access import throttle
from companion.http.access.throttle import (
    ADDRESS_BURST,
    ADDRESS_SECONDS,
    ALL_BURST,
    ALL_SECONDS,
    MAX_ADDRESSES,
    Throttle,
)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def fail(tried: Throttle, address: str, times: int) -> None:
    for _ in range(times):
        tried.failed(address)


def test_one_address() -> None:
    """After five failures an address waits for each further one, and another address does not."""
    clock = Clock()
    tried = Throttle(clock)
    fail(tried, "192.0.2.1", ADDRESS_BURST - 1)
    assert tried.wait("192.0.2.1") == 0
    tried.failed("192.0.2.1")
    assert (tried.wait("192.0.2.1"), tried.wait("192.0.2.2")) == (ADDRESS_SECONDS, 0)
    clock.now += ADDRESS_SECONDS
    assert tried.wait("192.0.2.1") == 0
    tried.failed("192.0.2.1")
    assert tried.wait("192.0.2.1") == ADDRESS_SECONDS


def test_all_addresses() -> None:
    """Many addresses that guess together get one try each instead of five, for as long as all fail too often."""
    clock = Clock()
    tried = Throttle(clock)
    for n in range(ALL_BURST):
        assert tried.wait(f"192.0.2.{n}") == 0
        tried.failed(f"192.0.2.{n}")
    assert tried.wait("192.0.2.0") == ADDRESS_SECONDS
    clock.now += ALL_SECONDS
    assert tried.wait("192.0.2.0") == 0


def test_nobody_is_locked_out_by_others() -> None:
    """However many addresses fail, one that did not may try, and the bucket of all fills again afterwards."""
    clock = Clock()
    tried = Throttle(clock)
    for n in range(50 * ALL_BURST):
        tried.failed(f"10.0.{n >> 8}.{n & 255}")
    assert tried.wait("198.51.100.1") == 0
    tried.failed("198.51.100.1")
    assert tried.wait("198.51.100.1") == ADDRESS_SECONDS
    clock.now += ALL_SECONDS
    assert tried.wait("198.51.100.1") == 0


def test_addresses_of_one_subscriber() -> None:
    """All addresses of an IPv6 /64 are one; an IPv4 address is one of its own."""
    tried = Throttle(Clock())
    for n in range(ADDRESS_BURST):
        tried.failed(f"2001:db8::{n:x}")
    assert tried.wait("2001:db8::ffff") == ADDRESS_SECONDS
    assert tried.wait("2001:db8:0:1::1") == 0


def test_memory_is_bounded() -> None:
    """However many addresses fail, only so many are remembered, and those that could try again anyway go first."""
    clock = Clock()
    tried = Throttle(clock)
    for n in range(MAX_ADDRESSES):
        tried.failed(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}")
    assert len(tried._buckets) == MAX_ADDRESSES
    tried.failed("192.0.2.1")
    assert len(tried._buckets) == MAX_ADDRESSES
    clock.now += ADDRESS_SECONDS * ADDRESS_BURST
    tried.failed("192.0.2.2")
    assert len(tried._buckets) == 1


@given(st.lists(st.tuples(st.text(max_size=40), st.floats(-10, 1000)), max_size=50))
def test_any_address_and_clock(tries: list[tuple[str, float]]) -> None:
    """Any address, and a clock that is set back, leave a wait that ends."""
    clock = Clock()
    tried = Throttle(clock)
    for address, seconds in tries:
        clock.now += seconds
        tried.failed(address)
        assert 0 <= tried.wait(address) <= len(tries) * max(ADDRESS_SECONDS, throttle.ALL_SECONDS)
