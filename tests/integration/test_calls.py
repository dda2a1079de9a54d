"""Calls in real Redis servers: what is written is read, and writing twice changes nothing."""

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from companion.media.report import Call, Happening, Incoming, MediaSample, Outgoing, Report
from companion.store.call_media import PAGE, CallMedia, load_media
from companion.store.call_reports import CallReport, WrittenReport, write_report
from companion.store.calls import load_call, load_calls_of_device, load_legs, load_recent_calls
from companion.store.connection import ResponseError
from tests.integration.conftest import Kind, MakeSetup, Setup
from tests.integration.media import dump, keys

DEVICE = "alice/urn:uuid:c386bbc4-0b7e-4d8f-8c6a"
CALL_ID = "5f2c1b0e9a@phone.example.com"
NOW = int(time.time() * 1000)

pytestmark = pytest.mark.parametrize("kind", ["module", "plain", "cluster"])


@pytest.fixture
def setup(make_setup: MakeSetup, kind: Kind) -> Setup:
    return make_setup(kind)


def sample(n: int, **more: Any) -> MediaSample:
    return MediaSample(
        n=n,
        at=NOW - 60_000 + n * 1000,
        ms=1000,
        incoming=Incoming(packets=50, bytes=3000, lost=0, jitter_ms=4.5, buffer_ms=40.0),
        outgoing=Outgoing(packets=50, bytes=3000, rtt_ms=30.0),
        **more,
    )


def codec(n: int) -> Happening:
    return Happening(n=n, at=NOW - 60_000 + n * 1000, what="codec", fields={"in": "opus/48000/2"})


def report(*items: MediaSample | Happening, now: int = NOW, **call: Any) -> Report:
    return Report(
        v=1,
        now=now,
        call=Call(**{"direction": "in", "peer": "sip:bob@example.com", "started_at": NOW - 60_000, **call}),
        samples=tuple(item for item in items if isinstance(item, MediaSample)),
        happenings=tuple(item for item in items if isinstance(item, Happening)),
    )


def write(setup: Setup, call_report: Report, *, device: str = DEVICE, said_at: int = NOW) -> WrittenReport:
    return write_report(setup.store, CallReport(device, CALL_ID, said_at, call_report))


def test_there_and_back(setup: Setup) -> None:
    """A call and its items are read as they were written, in the order of their numbers."""
    assert write(setup, report(codec(0), sample(1), sample(2))).after.items == 3
    ended = report(sample(3, flags=("gap",)), end="hangup", ended_at=NOW)
    assert write(setup, ended, said_at=NOW + 1).items == [sample(3, flags=("gap",))]
    (call,) = load_calls_of_device(setup.store, DEVICE, NOW - 3_600_000)
    assert (call.call_id, call.device, call.direction, call.peer) == (CALL_ID, DEVICE, "in", "sip:bob@example.com")
    assert (call.started_at, call.ended_at, call.end, call.last_at) == (NOW - 60_000, NOW, "hangup", NOW)
    assert (call.totals.next, call.totals.items, call.totals.samples, call.totals.missing) == (4, 4, 3, 0)
    media = load_media(setup.store, call)
    assert media.samples == (sample(1), sample(2), sample(3, flags=("gap",)))
    assert media.happenings == (codec(0),)


def test_a_report_that_comes_twice(setup: Setup) -> None:
    """A report that is sent again changes nothing at all."""
    twice = report(codec(0), sample(1), sample(2))
    write(setup, twice)
    before = dump(setup)
    assert write(setup, twice).items == []
    assert dump(setup) == before


def test_both_legs(setup: Setup) -> None:
    """One Call-ID is two calls when two devices tell of it."""
    write(setup, report(sample(0)))
    write(setup, report(sample(0), direction="out"), device="bob/web")
    assert {call.device for call in load_legs(setup.store, CALL_ID)} == {DEVICE, "bob/web"}
    assert {call.device for call in load_recent_calls(setup.store, NOW - 1000)} == {DEVICE, "bob/web"}
    leg = load_call(setup.store, "bob/web", CALL_ID)
    assert leg
    assert leg.direction == "out"
    assert load_call(setup.store, "eve/web", CALL_ID) is None


def test_overlapping_reports(setup: Setup) -> None:
    """Of a report that overlaps with what is there only the rest is stored and counted."""
    write(setup, report(sample(0), sample(1), sample(2)))
    written = write(setup, report(sample(1), sample(2), sample(3)), said_at=NOW + 1)
    assert written.items == [sample(3)]
    assert (written.after.next, written.after.items, written.after.seconds) == (4, 4, 4.0)


def test_an_older_report_that_comes_later(setup: Setup) -> None:
    """A report that a later one has overtaken, and that says nothing new, does not undo the end of the call."""
    ended = report(sample(0), sample(1), ended_at=NOW, end="hangup", why="200 OK")
    write(setup, ended, said_at=NOW + 5000)
    before = dump(setup)
    assert write(setup, report(sample(0)), said_at=NOW).items == []
    assert dump(setup) == before


def test_what_never_comes(setup: Setup) -> None:
    """Items that are skipped are counted as missing; they are not taken when they come after all."""
    write(setup, report(sample(0), sample(5)))
    written = write(setup, report(sample(2)), said_at=NOW + 1)
    assert (written.items, written.after.missing, written.after.next) == ([], 4, 6)


def test_news_without_items(setup: Setup) -> None:
    """A call's end is taken though there is no item with it, and makes no entry."""
    write(setup, report(sample(0)))
    write(setup, report(end="failed", why="486 Busy Here", ended_at=NOW), said_at=NOW + 1)
    (call,) = load_calls_of_device(setup.store, DEVICE, 0)
    assert (call.end, call.why, call.ended_at, call.totals.items) == ("failed", "486 Busy Here", NOW, 1)
    assert load_media(setup.store, call).samples == (sample(0),)


def test_a_call_of_which_nothing_came_yet(setup: Setup) -> None:
    """A report without a single item makes a call, whose media is empty."""
    write(setup, report())
    (call,) = load_legs(setup.store, CALL_ID)
    assert call.totals.next == 0
    assert load_media(setup.store, call) == CallMedia((), ())


def test_two_at_once(setup: Setup) -> None:
    """Who writes the same call at the same time from several threads stores each item once, and counts it once."""
    reports = [report(*(sample(n) for n in range(upto))) for upto in range(1, 30)]
    with ThreadPoolExecutor(8) as pool:
        call_reports = [CallReport(DEVICE, CALL_ID, NOW + n, one) for n, one in enumerate(reports)]
        for outcome in [pool.submit(write_report, setup.store, one) for one in call_reports]:
            with contextlib.suppress(ResponseError):
                outcome.result()
    write(setup, reports[-1], said_at=NOW + 1000)
    call = load_call(setup.store, DEVICE, CALL_ID)
    assert call
    assert call.totals.seconds == call.totals.items == call.totals.next == 29
    assert [item.n for item in load_media(setup.store, call).samples] == list(range(29))


def test_retention(setup: Setup) -> None:
    """Every key runs out by itself, an hour after what is in it; indexes lose what is older."""
    old = NOW - 8 * 86_400_000
    write(setup, report(sample(0), now=old, started_at=old), device="old/web")
    write(setup, report(codec(0), sample(1)), said_at=NOW + 1)
    lives = [setup.store.connection.call("PTTL", key) for key in keys(setup)]
    week, hour = setup.store.retention_ms, 3_600_000
    assert len(lives) == 8
    assert all(week < life <= week + hour for life in lives)
    assert [call.device for call in load_recent_calls(setup.store, 0)] == [DEVICE]


def test_pages_of_the_fleet(setup: Setup) -> None:
    """The fleet's calls are read from the last told of on, a page at a time, and those since a time only."""
    for n in range(5):
        write(setup, report(sample(0), now=NOW - 1000 * n), device=f"phone{n}/web")
    assert [call.device for call in load_recent_calls(setup.store, 0, skip=1, limit=2)] == ["phone1/web", "phone2/web"]
    assert len(load_recent_calls(setup.store, NOW - 2500)) == 3


def test_long_calls(setup: Setup) -> None:
    """A call of more entries than are read at once is read whole."""
    for n in range(PAGE + 2):
        write(setup, report(sample(n)), said_at=NOW + n)
    (call,) = load_calls_of_device(setup.store, DEVICE, 0)
    assert len(load_media(setup.store, call).samples) == PAGE + 2
