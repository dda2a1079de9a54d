"""What a browser reports: read if it can be meant so, whatever bytes come; kept, shifted, shortened."""

import contextlib
import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from companion.errors import InvalidReportError
from companion.media import report
from companion.media.packing import Items, pack, unpack
from companion.media.report import MAX_ITEMS, Report, decode, shift, shorten, shorten_address
from tests.unit.media.reports import NOW, happening, happenings, reports, sample, samples

WEEK_MS = 7 * 86_400_000
GOOD: dict[str, Any] = {
    "v": 1,
    "now": NOW,
    "call": {"started_at": NOW - 5000},
    "samples": [{"n": 0, "at": NOW, "ms": 1000, "rtt_ms": 40, "in": {"lost": -2, "packets": 50}, "flags": ["muted"]}],
    "happenings": [{"n": 1, "at": NOW, "what": "ice", "fields": {"state": "connected"}}],
}
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(reports)
def test_there_and_back(sent: Report) -> None:
    """A report that is written as JSON and read is the same, in every figure."""
    assert decode(msgspec.json.encode(sent), WEEK_MS) == sent


@given(st.binary())
@example(b"")
@example(b"[" * 100_000)
@example(b'{"v":' * 100_000)
@example(b'{"v":1,"x":' + b"[" * 100_000)
def test_any_bytes(body: bytes) -> None:
    """Whatever bytes come, they are a report or refused, and nothing else happens."""
    with contextlib.suppress(InvalidReportError):
        decode(body, WEEK_MS)
    assert isinstance(report.read_token(body), str)


@given(st.data())
def test_nearly_a_report(data: st.DataObject) -> None:
    """A report in which anything stands in any place is read, or refused for a reason of a few."""
    payload = json.loads(json.dumps(GOOD))
    place = data.draw(st.sampled_from(list(_places(payload))))
    _put(payload, place, data.draw(json_values))
    assert why_not(json.dumps(payload).encode()) in ("", "json", "shape", "time")


def why_not(body: bytes) -> str:
    """The reason for which a report is refused; "" when it is none."""
    try:
        decode(body, WEEK_MS)
    except InvalidReportError as error:
        return error.reason
    return ""


def _places(value: Any, place: tuple[Any, ...] = ()) -> Any:
    yield place
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _places(inner, (*place, name))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _places(inner, (*place, number))


def _put(payload: Any, place: tuple[Any, ...], value: Any) -> None:
    if not place:
        payload.clear()
        return
    for part in place[:-1]:
        payload = payload[part]
    payload[place[-1]] = value


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"now": NOW - 60_001}, "time"),
        ({"now": NOW + WEEK_MS + 1}, "time"),
        ({"call": {"started_at": NOW + 60_001}}, "time"),
        ({"call": {"started_at": NOW, "ended_at": NOW + 60_001}}, "time"),
        ({"v": 2}, "shape"),
        ({"samples": None}, "shape"),
        ({"extra": 1}, "shape"),
        ({"token": None}, "shape"),
    ],
)
def test_refused(change: dict[str, Any], reason: str) -> None:
    """What can not be is refused with a word for the reason; the bounds of time are a minute and the retention."""
    with pytest.raises(InvalidReportError) as refused:
        decode(json.dumps(GOOD | change).encode(), WEEK_MS)
    assert refused.value.reason == reason


def test_bounds_of_time() -> None:
    """An item a minute ahead of its report is taken, as is one as old as the retention; the last number is, too."""
    for now in (NOW - 60_000, NOW + WEEK_MS):
        call = {"started_at": now - 1}
        assert decode(json.dumps(GOOD | {"now": now, "call": call}).encode(), WEEK_MS).samples
    last = GOOD["samples"][0] | {"n": MAX_ITEMS - 1}
    assert decode(json.dumps(GOOD | {"samples": [last]}).encode(), WEEK_MS).samples


@pytest.mark.parametrize("late", [-3_600_000, 0, 250, 3_600_000])
def test_one_clock(late: int) -> None:
    """All times move by what the sender's clock is behind ours; what lies between them stays."""
    theirs = decode(json.dumps(GOOD | {"call": {"started_at": NOW - 5000, "ended_at": NOW - 10}}).encode(), WEEK_MS)
    ours = shift(theirs, NOW + late)
    assert (ours.now, ours.samples[0].at, ours.happenings[0].at) == (NOW + late,) * 3
    assert (ours.call.started_at, ours.call.ended_at) == (NOW + late - 5000, NOW + late - 10)


def test_a_call_never_ends_before_it_began() -> None:
    """A page whose clock was set back during a call makes no call of negative length, nor a time before 1970."""
    call = {"started_at": 2, "ended_at": 1}
    ours = shift(decode(json.dumps(GOOD | {"call": call}).encode(), WEEK_MS), 10)
    assert (ours.call.started_at, ours.call.ended_at) == (1, 1)


def test_addresses() -> None:
    """Of addresses in a happening only the network is left, and all else as it was."""
    full = Report(
        v=1,
        now=NOW,
        call=report.Call(started_at=NOW),
        happenings=(
            happening(0, "path", local="host", local_address="192.0.2.77", remote_address=""),
            happening(1, "ice"),
        ),
    )
    first, second = shorten(full).happenings
    assert first.fields == {"local": "host", "local_address": "192.0.2.0/24", "remote_address": ""}
    assert second is full.happenings[1] or second == full.happenings[1]


@given(st.ip_addresses() | st.text(max_size=50))
def test_networks(address: Any) -> None:
    """Whatever stands for an address is a network afterwards, a name of mDNS, or nothing; once more is the same."""
    shortened = shorten_address(str(address))
    assert shortened == "" or shortened.endswith((".local", "/24", "/48"))
    assert shorten_address(shortened) == shortened


@given(st.lists(samples, max_size=3).map(tuple), st.lists(happenings, max_size=3).map(tuple))
def test_packed(some: Any, others: Any) -> None:
    """Items that are packed and unpacked are the same, in every figure."""
    assert unpack(pack(Items(some, others))) == Items(some, others)


def test_packed_small() -> None:
    """Five usual seconds take less than 300 bytes."""
    assert len(pack(Items(tuple(sample(n, rtt_ms=31.5 + n) for n in range(5))))) < 300
