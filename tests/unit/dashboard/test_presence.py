"""When a device was online: from its pings, and from what happened to its contacts."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any
from unittest.mock import patch

from hypothesis import example, given
from hypothesis import strategies as st

from companion.config import PingsSection
from companion.dashboard import presence
from companion.dashboard.presence import Band, compute_presence, share_online

MINUTE = 60_000
START = 1_800_000_000_000
PINGS = PingsSection(interval=120, lost_after=3)


def at(minute: float) -> int:
    return START + round(minute * MINUTE)


def iso(minute: float) -> str:
    return datetime.fromtimestamp(at(minute) / 1000, UTC).isoformat()


def entry(minute: float, event: str, contact: str = "a", **more: Any) -> dict[str, Any]:
    return {"at": iso(minute), "event": event, "contact": contact, **more}


def contact(name: str = "a", since: float = -1000, **more: Any) -> dict[str, Any]:
    unset = dict.fromkeys(("ended_at", "disconnected_at", "lost_since"))
    begun = {"registered_at": iso(since), "last_register_at": iso(since), "last_latency_at": iso(58)}
    return {"contact": name, "consecutive_lost": 0, **unset, **begun, **more}


def page(
    pings: Sequence[tuple[float, int | None]] = (),
    timeline: Sequence[dict[str, Any]] = (),
    contacts: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:
    samples = [(at(minute), ms) for minute, ms in pings]
    return {"samples": samples, "timeline": list(timeline), "contacts": list(contacts)}


def bands_of(page: dict[str, Any], minutes: float = 60) -> list[tuple[float, float, str]]:
    """The bands of the first hour, in minutes."""
    bands = compute_presence(page, START, at(minutes), PINGS)
    return [((since - START) / MINUTE, (until - START) / MINUTE, state) for since, until, state in bands]


def answered(first: float, last: float) -> list[tuple[float, int | None]]:
    return [(first + 2 * n, 50) for n in range(int((last - first) / 2) + 1)]


def test_nothing_heard_has_no_band() -> None:
    """A device nobody heard of within the window, and before, is neither online nor offline."""
    assert bands_of(page()) == []


def test_answering_all_the_time_is_online() -> None:
    """A device that answers each ping is online from the beginning of the window to its end."""
    assert bands_of(page(answered(1, 59), contacts=[contact()])) == [(0, 60, "online")]


def test_new_device_begins_with_its_registration() -> None:
    """Before a device registered for the first time there is no band."""
    device = page(answered(21, 59), [entry(20, "registered")], [contact(since=20)])
    assert bands_of(device) == [(20, 60, "online")]


def test_lost_pings_count_from_the_first_of_them() -> None:
    """Enough lost pings in a row make it offline since the first of them, until it answers again."""
    lost = [(minute, None) for minute in (20, 22, 24)]
    timeline = [entry(20, "lost"), entry(24, "stale", lost=3), entry(30, "recovered", by="ping", lost=3)]
    device = page([*answered(0, 18), *lost, *answered(30, 58)], timeline, [contact()])
    assert bands_of(device) == [(0, 20, "online"), (20, 30, "offline"), (30, 60, "online")]


def test_a_few_lost_pings_are_not_offline() -> None:
    """One lost ping makes nobody offline."""
    timeline = [entry(20, "lost"), entry(22, "recovered", by="ping", lost=1)]
    device = page([*answered(0, 18), (20, None), *answered(22, 58)], timeline, [contact()])
    assert bands_of(device) == [(0, 60, "online")]


def test_disconnect_until_the_new_registration() -> None:
    """A reload is offline from the connection's death to the new contact's REGISTER."""
    timeline = [entry(20, "disconnected"), entry(21, "registered", "b"), entry(21, "switched-over", "b")]
    device = page([*answered(0, 18), *answered(22, 58)], timeline, [contact("b", 21), contact("a")])
    assert bands_of(device) == [(0, 20, "online"), (20, 21, "offline"), (21, 60, "online")]


def test_ghost_does_not_make_its_device_offline() -> None:
    """An old contact that dies while a newer one answers takes nothing from its device."""
    timeline = [entry(10, "registered", "b"), entry(20, "lost"), entry(24, "stale", lost=3), entry(40, "expired")]
    device = page(answered(0, 58), timeline, [contact("b", 10), contact("a", ended_at=iso(40))])
    assert bands_of(device) == [(0, 60, "online")]


def test_unregistered_is_offline() -> None:
    """Who leaves is offline from then on."""
    device = page(answered(0, 28), [entry(30, "unregistered")], [contact(ended_at=iso(30))])
    assert bands_of(device) == [(0, 30, "online"), (30, 60, "offline")]


def test_ended_before_the_window_is_offline() -> None:
    """A device that ended long ago is offline all along."""
    assert bands_of(page(contacts=[contact(ended_at=iso(-10))])) == [(0, 60, "offline")]


def test_dead_contact_that_expires_was_not_alive() -> None:
    """A contact whose connection died before the window is not taken for alive because it expires within it."""
    gone = contact(disconnected_at=iso(-20), ended_at=iso(30))
    assert bands_of(page(timeline=[entry(30, "expired")], contacts=[gone])) == [(0, 60, "offline")]


def test_silence_is_unknown() -> None:
    """Two intervals without a word, and nobody knows, until there is one again."""
    device = page([*answered(0, 20), *answered(40, 58)], contacts=[contact()])
    assert bands_of(device) == [(0, 24, "online"), (24, 40, "unknown"), (40, 60, "online")]


def test_silence_from_before_the_window_is_unknown() -> None:
    """A contact that was heard of for the last time before the window, and never ended, is unknown all along."""
    assert bands_of(page(contacts=[contact(last_latency_at=None)])) == [(0, 60, "unknown")]


def test_silence_at_the_end_is_unknown() -> None:
    """Whoever falls silent is unknown up to now."""
    assert bands_of(page(answered(0, 20), contacts=[contact()])) == [(0, 24, "online"), (24, 60, "unknown")]


def test_recovery_in_the_window_tells_of_before() -> None:
    """A recovery from as many losses as make it stale means that it was offline when the window began."""
    device = page(answered(10, 58), [entry(10, "recovered", by="ping", lost=7)], [contact()])
    assert bands_of(device) == [(0, 10, "offline"), (10, 60, "online")]


def test_share_online() -> None:
    """The share online is of the time that something is known of."""
    bands = [Band(0, 60, "online"), Band(60, 80, "offline"), Band(80, 500, "unknown")]
    assert share_online(bands) == 0.75
    assert share_online([]) is None


def sorted_by_time(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return sorted(rows, key=lambda row: row[0])


EVENTS = ("registered", "re-registered", "discovered", "lost", "stale", "recovered", "disconnected", "expired", "gone")


minutes = st.integers(0, 65 * 4).map(lambda quarter: quarter / 4)
many_pings = st.lists(st.tuples(minutes, st.sampled_from([None, 50])), max_size=80, unique_by=lambda ping: ping[0])
some_events = st.lists(st.tuples(minutes, st.sampled_from(EVENTS), st.sampled_from("abc")), max_size=8)


@given(many_pings.map(sorted_by_time), some_events.map(sorted_by_time))
@example([(12, None), (14, 50), (16, 50)], [(10, "expired", "a")])
def test_runs_of_pings(pings: list[tuple[float, int | None]], events: list[tuple[float, str, str]]) -> None:
    """Pings that are taken together, as of a week there are thousands, tell what they tell one by one."""
    device = page(pings, [entry(minute, event, name, lost=3) for minute, event, name in events], [contact()])
    together = bands_of(device)
    with patch.object(presence, "_runs", one_by_one):
        assert together == bands_of(device)


def one_by_one(samples: Iterable[presence.Sample], *_: object) -> Iterator[presence.Sign]:
    return (presence.Sign(ts, ts, "lives" if ms else "lost", "") for ts, ms in samples)


@given(
    st.lists(st.tuples(st.integers(0, 3600), st.none() | st.integers(1, 500)), max_size=40),
    st.lists(st.tuples(st.integers(0, 3600), st.sampled_from(EVENTS), st.sampled_from("abc")), max_size=20),
)
def test_bands_follow_each_other(pings: list[tuple[int, int | None]], entries: list[tuple[int, str, str]]) -> None:
    """Whatever happened, bands are in order, never overlap, and stay within the window."""
    timeline = [entry(second / 60, event, name, lost=3) for second, event, name in sorted(entries)]
    device = page([(second / 60, ms) for second, ms in sorted(pings, key=lambda ping: ping[0])], timeline, [contact()])
    bands = compute_presence(device, START, at(60), PINGS)
    for band, following in zip(bands, [*bands[1:], None], strict=True):
        assert START <= band.since < band.until <= (following.since if following else at(60))
        assert following is None or band.state != following.state or band.until < following.since
