"""Test the rows and pages of calls."""

import json
from typing import Any

import pytest

from companion.media import e_model
from companion.media.minutes import build_moments
from companion.media.signalling import Signalling
from companion.media.totals import Totals
from companion.query.calls import MAX_POINTS, render_call, render_call_row, render_points
from companion.store.call_media import CallMedia
from companion.store.calls import CallRecord
from tests.unit.media.samples import OPUS, START, pings, seconds


def make_record(**more: Any) -> CallRecord:
    particulars = {"call_id": "c@x", "device": "a/1", "direction": "in", "peer": "b", "end": "", "why": "", "ref": "0"}
    times = {"started_at": START, "ended_at": None, "last_at": START + 9_500, "said_at": START, "dropped": 0}
    return CallRecord(**{**particulars, **times, "totals": Totals(), **more})


def test_a_row_of_nothing() -> None:
    """A call of which nothing is known yet has nulls, not zeros that look like a good line."""
    row = render_call_row(make_record(), START + 10_000)
    assert (row["mos"], row["band"], row["rtt_ms"], row["loss_percent"], row["relay"]) == (None,) * 5
    assert (row["live"], row["ended_at"], row["seconds"]) == (True, None, 10)


@pytest.mark.parametrize(
    ("ended_at", "now", "live"),
    [(None, 24_499, True), (None, 24_500, False), (START + 9_000, 10_000, False)],
)
def test_live(ended_at: int | None, now: int, live: bool) -> None:  # noqa: FBT001 - one of a table
    """A call is live until it ends, or until no report came for fifteen seconds."""
    assert render_call_row(make_record(ended_at=ended_at), START + now)["live"] is live


def test_a_row_of_totals() -> None:
    """Means are over the seconds that were scored, and the band is that of the mean R."""
    sums = Totals(scored_seconds=10, mos_sum=20, delay_points=100, loss_points=233, rtt_sum=900, rtt_n=3, path={})
    row = render_call_row(make_record(totals=sums), START)
    assert (row["mos"], row["rtt_ms"], row["band"], row["relay"]) == (2.0, 300.0, "poor", False)


def test_a_page_is_json() -> None:
    """The page of a call is JSON, the same when it is read back."""
    samples = [*seconds(1, 60), *seconds(61, 20, packets=40, lost=10)]
    page = render_call(make_record(), CallMedia(tuple(samples), (OPUS,)), Signalling(pings(40, None)), START)
    assert json.loads(json.dumps(page)) == {**page, "pings": [[START - 30_000, 40], [START, None]]}
    assert page["samples"][0] == [START + 1000, 1000, 40.0, 4.0, 0.0, 24_000, None, 4.37, None, []]
    assert page["formula"] == e_model.FORMULA
    assert [minute["bad"] for minute in page["minutes"]] == [False, True]
    assert page["happenings"] == [{"at": "2026-11-24T09:30:00.000Z", "what": "codec", "fields": OPUS.fields}]


def test_a_long_call_has_few_points() -> None:
    """However long a call was there are at most so many points, and no second of it is left out."""
    made = build_moments(seconds(1, 2 * MAX_POINTS + 5), [OPUS])
    points = render_points(made)
    assert len(points) <= MAX_POINTS
    assert sum(point[1] for point in points) == 1000 * len(made)  # type: ignore[misc]
    assert points[-1][0] == made[-1].sample.at
