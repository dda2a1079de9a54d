"""A contact's status is a function of its record and the clock, and so is whether it is a ghost."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from companion.opensips.events import Registration
from companion.usrloc.contact import (
    STATUSES,
    Binding,
    Clock,
    Contact,
    Status,
    best,
    contact_id,
    is_dead,
    next_change,
    status,
)
from companion.usrloc.ghosts import is_ghost

NOW = 1_795_452_109_605
INTERVAL_MS = 5_000
CLOCK = Clock(NOW, INTERVAL_MS, 3)
NEVER = Registration("", "", "", "", 0, 0, "", 0, "")


def contact(expires_at: int = 0, received: Any = "", path: Any = "", **fields: Any) -> Contact:
    binding = Binding("c", "location", "alice", "sip:alice@192.0.2.1")
    registration = NEVER._replace(expires_at=expires_at, received=received, path=path)
    return Contact(binding, contact_id(binding), "alice/alice", "n", registration, **fields)


LOST_TWICE = {"consecutive_lost": 2, "lost_since": NOW - 900, "last_lost_at": NOW - 100, "last_latency_at": NOW - 2000}
LOST_THRICE = LOST_TWICE | {"consecutive_lost": 3}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"last_latency_at": NOW}, "online"),
        ({"last_register_at": NOW}, "online"),
        ({"last_latency_at": NOW - 2 * INTERVAL_MS}, "online"),
        ({"last_latency_at": NOW - 2 * INTERVAL_MS - 1}, "unknown"),
        ({"last_register_at": NOW - 2 * INTERVAL_MS - 1}, "unknown"),
        ({}, "unknown"),
        (LOST_TWICE, "losing"),
        (LOST_THRICE, "stale"),
        (LOST_THRICE | {"last_lost_at": NOW - 2 * INTERVAL_MS - 1, "last_latency_at": 1}, "unknown"),
        ({"last_latency_at": NOW, "disconnected_at": NOW - 1}, "stale"),
        ({"disconnected_at": NOW - 10 * INTERVAL_MS}, "stale"),
        ({"last_latency_at": NOW, "ended_at": NOW}, "offline"),
        ({"last_latency_at": NOW, "expires_at": NOW}, "offline"),
        ({"last_latency_at": NOW, "expires_at": NOW + 1}, "online"),
        (LOST_THRICE | {"disconnected_at": NOW, "ended_at": NOW}, "offline"),
    ],
)
def test_status(fields: dict[str, int], expected: Status) -> None:
    """Offline by its end or expiry, stale by a dead connection or N losses, unknown in silence, else by its losses."""
    assert expected == status(contact(**fields), CLOCK, feed_alive=True)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"last_latency_at": NOW}, "unknown"),
        (LOST_TWICE, "unknown"),
        (LOST_THRICE, "unknown"),
        ({"last_latency_at": NOW, "disconnected_at": NOW}, "stale"),
        ({"ended_at": NOW}, "offline"),
        ({"expires_at": NOW}, "offline"),
    ],
)
def test_status_without_a_feed(fields: dict[str, int], expected: Status) -> None:
    """Of a dead feed's contacts only that is known which can not change unheard."""
    assert expected == status(contact(**fields), CLOCK, feed_alive=False)


def test_best_status() -> None:
    """A device has the best status of its contacts: online, losing, unknown, stale, offline; offline without any."""
    assert STATUSES == ("online", "losing", "unknown", "stale", "offline")
    assert best([]) == "offline"


@given(st.lists(st.sampled_from(STATUSES), min_size=1))
def test_best_is_one_of_them(statuses: list[Status]) -> None:
    """No contact of a device is better than the device."""
    assert best(statuses) == STATUSES[min(map(STATUSES.index, statuses))]


@given(
    st.fixed_dictionaries(
        {
            name: st.just(0) | st.integers(NOW - 100_000, NOW)
            for name in ("last_latency_at", "last_register_at", "last_lost_at", "disconnected_at", "ended_at")
        }
        | {"consecutive_lost": st.integers(0, 5), "expires_at": st.just(0) | st.integers(NOW - 10, NOW + 10)}
    )
)
def test_dead_feed_never_improves(fields: dict[str, int]) -> None:
    """A dead feed takes knowledge away and gives none."""
    live_status = status(contact(**fields), CLOCK, feed_alive=True)
    assert status(contact(**fields), CLOCK, feed_alive=False) in {live_status, "unknown"}


@pytest.mark.parametrize(
    ("fields", "dead", "ghost"),
    [
        ({}, False, False),
        ({"superseded_at": NOW}, False, False),
        ({"superseded_at": NOW, "consecutive_lost": 2}, False, False),
        ({"superseded_at": NOW, "consecutive_lost": 3}, True, True),
        ({"superseded_at": NOW, "disconnected_at": NOW}, True, True),
        ({"consecutive_lost": 3}, True, False),
        ({"disconnected_at": NOW}, True, False),
    ],
)
def test_ghost(fields: dict[str, int], dead: bool, ghost: bool) -> None:  # noqa: FBT001
    """A ghost is dead *and* a newer contact has answered since."""
    assert (dead, ghost) == (is_dead(contact(**fields), 3), is_ghost(contact(**fields), 3))


@given(st.lists(st.tuples(*[st.text(max_size=5)] * 4), min_size=2, max_size=2, unique=True))
def test_ids_differ(bindings: list[tuple[str, str, str, str]]) -> None:
    """Two bindings have two ids of sixteen hex digits, and numbers that a double holds exactly."""
    ids = [contact_id(Binding(*parts)) for parts in bindings]
    numbers = [int(digits[:13], 16) for digits in ids]
    assert len(set(ids)) == 2
    assert [len(digits) for digits in ids] == [16, 16]
    assert [int(float(number)) for number in numbers] == numbers


def test_number_is_of_the_id() -> None:
    """A contact's number is read off its id, so that it survives a restart."""
    assert int(contact().id[:13], 16) == contact().number


def test_addresses() -> None:
    """A contact is where it was last received from; it hangs on a connection when that is a WebSocket of its own."""
    web = contact(received="sip:192.0.2.5:4242;transport=ws")
    assert (web.address, web.connection) == ("192.0.2.5:4242", "192.0.2.5:4242")
    proxied = contact(received="sip:192.0.2.5:4242;transport=ws", path="<sip:p;lr>")
    assert (proxied.address, proxied.connection) == ("192.0.2.5:4242", "")
    assert (contact().address, contact().connection) == ("192.0.2.1:5060", "")


def test_alive_and_failing() -> None:
    """The last evidence of life is a REGISTER or an answer; failing is a loss or a death."""
    assert contact(last_latency_at=5, last_register_at=7, last_lost_at=9).alive_at == 7
    assert [contact(**fields).failing for fields in ({}, {"consecutive_lost": 1}, {"disconnected_at": 1})] == [
        False,
        True,
        True,
    ]


moments = st.just(0) | st.integers(-5 * INTERVAL_MS, 5 * INTERVAL_MS).map(lambda ms: NOW + ms)


@given(
    st.builds(
        contact,
        moments,
        last_latency_at=moments,
        last_register_at=moments,
        last_lost_at=moments,
        consecutive_lost=st.integers(0, 4),
        disconnected_at=st.sampled_from([0, NOW]),
        ended_at=st.sampled_from([0, NOW]),
    ),
    st.integers(0, 20 * INTERVAL_MS),
)
def test_nothing_changes_before_the_next_change(one: Contact, later_ms: int) -> None:
    """By the clock alone a status stays as it is until the time that is told in advance."""
    later = NOW + later_ms
    if later < next_change(one, CLOCK):
        before, after = (status(one, CLOCK._replace(now=now), feed_alive=True) for now in (NOW, later))
        assert before == after
