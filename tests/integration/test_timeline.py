"""Timelines in a real Redis: complete, in order, bounded, and small."""

from typing import Any

import pytest

from companion.recording.audit import record_start
from companion.store import timeline
from companion.store.batch import Batch
from companion.store.timeline import MAX_CARE_ENTRIES, MAX_ENTRIES, append_ping_run, load_timeline
from companion.times import now_ms
from companion.usrloc.changes import Changes, TimelineEntry
from tests.integration.conftest import MakeSetup, Setup

DEVICE = "ann/urn:uuid:6513270e-269e-0d37-f2a7-4de452e6b438"
CONTACT = "2d6269f2cbf6700f"
FOR_EVER = 1 << 52


@pytest.fixture
def setup(make_setup: MakeSetup) -> Setup:
    return make_setup()


def write(setup: Setup, *entries: tuple[int, str], **fields: str | int) -> None:
    """Write entries, given as time and event, as a consumer does with one batch."""
    rows = [TimelineEntry(DEVICE, ts, event, {"contact": CONTACT, **fields}) for ts, event in entries]
    batch = Batch(setup.store)
    batch.write(batch.prepare(Changes(entries=rows)))


def read(setup: Setup, since: int = 0, until: int = FOR_EVER) -> list[tuple[int, str]]:
    return [(entry["at"], entry["event"]) for entry in load_timeline(setup.store, DEVICE, since, until)]


def call(setup: Setup, *command: Any) -> Any:
    return setup.store.connection.call(*command)


def test_order_and_repetition(setup: Setup) -> None:
    """Entries come in the order of their events, also within a millisecond, and those written again are there once."""
    entries = [
        (1000, "registered"),
        (2000, "disconnected"),
        (2000, "switched-over"),
        (2000, "expired"),
        (3000, "stale"),
    ]
    for _ in range(2):
        write(setup, *entries)
    write(setup, *entries[1:4])
    assert read(setup) == entries
    assert read(setup, 1000, 1000) == entries[:1]
    assert read(setup, 1001, 2999) == entries[1:4]


def test_a_clock_that_was_set_back(setup: Setup) -> None:
    """An entry older than the last one is kept, in its place."""
    write(setup, (5000, "registered"), (9000, "stale"))
    write(setup, (6000, "recovered"))
    assert read(setup) == [(5000, "registered"), (6000, "recovered"), (9000, "stale")]


def test_bounds(setup: Setup) -> None:
    """A timeline loses its oldest entries when there are too many, and those older than the retention."""
    now = now_ms()
    for start in range(0, MAX_ENTRIES + 300, 100):
        write(setup, *((now + number, "re-registered") for number in range(start, start + 100)))
    kept = read(setup)
    assert MAX_ENTRIES * 0.9 <= len(kept) <= MAX_ENTRIES
    assert kept[-1][0] == now + MAX_ENTRIES + 299
    later = now + setup.store.retention_ms + 1000 + MAX_ENTRIES
    for number in range(16):
        write(setup, (later + number, "registered"))
    assert {event for _, event in read(setup)} == {"registered"}


def test_size(setup: Setup) -> None:
    """A week of hourly entries is in the compact form of Redis, however long the entries are."""
    write(setup, (now_ms(), "registered"), address="10.11.122.133:38566")
    key = setup.store.keys.timeline(DEVICE)
    assert call(setup, "MEMORY", "USAGE", key) < 300
    address = "[2001:db8:85a3:1234:5678:8a2e:370:7334]:38566"
    fields: dict[str, str | int] = {"from": address, "to": address, "outage_at_most_ms": 60_000}
    write(setup, *((now_ms() + number, "switched-over") for number in range(168)), **fields)
    assert call(setup, "OBJECT", "ENCODING", key) in ("listpack", "ziplist")
    assert fields.items() <= load_timeline(setup.store, DEVICE, 0, FOR_EVER)[-1].items()


def test_what_was_done_about_a_device(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    """Entries that several processes add in the same millisecond are all there, and they are bounded, too."""
    now = now_ms()
    monkeypatch.setattr(timeline, "now_ms", lambda: now)
    record_start(setup.store, DEVICE, "Ann B. from the long-named support desk = 1", 15)
    append_ping_run(setup.store, DEVICE, {"node": "opensips", "count": 3, "answered": 3})
    started, pinged = load_timeline(setup.store, DEVICE, 0, FOR_EVER)
    assert (started["by"], started["minutes"]) == ("Ann B. from the long-named support desk = 1", "15")
    assert (pinged["count"], pinged["at"]) == (3, now + 1)
    for _ in range(MAX_CARE_ENTRIES + 20):
        append_ping_run(setup.store, DEVICE, {"node": "opensips"})
    assert MAX_CARE_ENTRIES * 0.9 <= len(read(setup)) <= MAX_CARE_ENTRIES
    assert 0 < call(setup, "PTTL", setup.store.keys.care(DEVICE)) <= setup.store.retention_ms
