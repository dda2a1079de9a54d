"""Calls in real Redis servers: what is written is read, and writing twice changes nothing."""

import time
from typing import Any

import pytest

from companion.media.report import Call, Happening, Incoming, MediaSample, Outgoing, Report
from companion.store import calls
from tests.integration.conftest import Kind, MakeSetup, Setup

DEVICE = "alice/urn:uuid:c386bbc4-0b7e-4d8f-8c6a"
CALL_ID = "5f2c1b0e9a@phone.example.com"
NOW = int(time.time() * 1000)

pytestmark = pytest.mark.parametrize("kind", ["module", "plain"])


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


def write(setup: Setup, told: Report, *, device: str = DEVICE, said_at: int = NOW) -> calls.Written:
    return calls.write(setup.store, calls.Told(device, CALL_ID, said_at, told))


def dump(setup: Setup) -> dict[str, Any]:
    """All that there is in Redis of this test, as it stands."""
    call = setup.store.connection.call
    keys = sorted(setup.store.connection.redis.scan_iter(f"{setup.config.redis.prefix}*"))
    reads: dict[str, tuple[Any, ...]] = {
        "hash": ("HGETALL",),
        "stream": ("XRANGE", "-", "+"),
        "zset": ("ZRANGE", 0, -1, "WITHSCORES"),
        "set": ("SMEMBERS",),
    }
    dumped = {}
    for key in keys:
        name, *rest = reads[call("TYPE", key)]
        dumped[key] = setup.store.connection.call_for_bytes(name, key, *rest)
    return dumped


def test_there_and_back(setup: Setup) -> None:
    """A call and its items are read as they were written, in the order of their numbers."""
    assert write(setup, report(codec(0), sample(1), sample(2))).after.items == 3
    ended = report(sample(3, flags=("gap",)), end="hangup", ended_at=NOW)
    assert write(setup, ended, said_at=NOW + 1).items == [sample(3, flags=("gap",))]
    (call,) = calls.recent(setup.store, DEVICE, NOW - 3_600_000)
    assert (call.call_id, call.device, call.direction, call.peer) == (CALL_ID, DEVICE, "in", "sip:bob@example.com")
    assert (call.started_at, call.ended_at, call.end, call.last_at) == (NOW - 60_000, NOW, "hangup", NOW)
    assert (call.totals.next, call.totals.items, call.totals.samples, call.totals.missing) == (4, 4, 3, 0)
    media = calls.read(setup.store, call)
    assert media.samples == (sample(1), sample(2), sample(3, flags=("gap",)))
    assert media.happenings == (codec(0),)


def test_a_report_that_comes_twice(setup: Setup) -> None:
    """A report that is sent again changes nothing at all."""
    told = report(codec(0), sample(1), sample(2))
    write(setup, told)
    before = dump(setup)
    assert write(setup, told).items == []
    assert dump(setup) == before


def test_both_legs(setup: Setup) -> None:
    """One Call-ID is two calls when two devices tell of it."""
    write(setup, report(sample(0)))
    write(setup, report(sample(0), direction="out"), device="bob/web")
    assert {call.device for call in calls.legs(setup.store, CALL_ID)} == {DEVICE, "bob/web"}
    assert {call.device for call in calls.fleet(setup.store, NOW - 1000)} == {DEVICE, "bob/web"}
    found = calls.find(setup.store, "bob/web", CALL_ID)
    assert found
    assert found.direction == "out"
    assert calls.find(setup.store, "eve/web", CALL_ID) is None
