"""What the calls of a fleet add up to, and a call as it is told."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from companion.media import e_model
from companion.media.fleet import BANDS, LEAST_CALLS, WORST_NETWORKS, Heard, add_up, percentiles
from companion.media.minutes import moments
from companion.media.totals import Totals
from companion.media.verdict import Signalling
from companion.query import calls as page
from companion.query.calls import render_call, render_call_row, render_points
from companion.store.call_media import CallMedia
from companion.store.calls import CallRecord
from tests.unit.media.samples import OPUS, START, pings, seconds


def heard(mos: float | None, network: str = "", **row: Any) -> Heard:
    band = None if mos is None else "high" if mos > 4 else "bad"
    told = {"device": "a/1", "mos": mos, "band": band, "live": False, "relay": None, "loss_percent": None}
    return Heard({**told, "rtt_ms": None, "switch_overs": 0, **row}, network)


def stored(**more: Any) -> CallRecord:
    told = {"call_id": "c@x", "device": "a/1", "direction": "in", "peer": "b", "end": "", "why": "", "ref": "0"}
    times = {"started_at": START, "ended_at": None, "last_at": START + 9_500, "said_at": START, "dropped": 0}
    return CallRecord(**{**told, **times, "totals": Totals(), **more})


def test_nothing() -> None:
    """Of no calls there is no figure, and none is made up."""
    told = add_up([])
    assert (told["calls"], told["relay_share"], told["loss_percent"], told["networks"]) == (0, None, None, [])
    assert told["mos"] == {"p10": None, "p50": None, "p90": None}
    assert told["bands"] == dict.fromkeys(BANDS, 0)


def test_calls_add_up() -> None:
    """Calls are counted by band, each once; shares and means are of those of which it is known."""
    calls = [
        heard(4.4, relay=False, loss_percent=0.0, live=True),
        heard(1.9, relay=True, loss_percent=6.0, switch_overs=2),
        heard(None),
    ]
    told = add_up(calls)
    assert (told["calls"], told["scored"], told["live"], told["switch_overs"]) == (3, 2, 1, 2)
    assert (told["relay_share"], told["loss_percent"]) == (0.5, 3.0)
    assert told["bands"] == {**dict.fromkeys(BANDS, 0), "high": 1, "bad": 1, "unknown": 1}
    assert sum(told["bands"].values()) == told["calls"]


def test_bands_are_those_of_the_model() -> None:
    """There is no band that is not counted."""
    assert {e_model.band(r) for r in range(-100, 101)} == {*BANDS} - {"unknown"}


def test_worst_networks() -> None:
    """Networks come worst first; one with too few calls, or unknown, is not told of."""
    calls = [
        *(heard(4.4, "198.51.100.0/24", device=f"a/{n}", rtt_ms=40.0) for n in range(LEAST_CALLS)),
        *(heard(2.0, "203.0.113.0/24", rtt_ms=300.0, relay=True) for _ in range(LEAST_CALLS)),
        *(heard(1.0, "192.0.2.0/24") for _ in range(LEAST_CALLS - 1)),
        *(heard(None, "192.0.2.0/24") for _ in range(LEAST_CALLS)),
        *(heard(1.0) for _ in range(LEAST_CALLS)),
    ]
    worst, best = add_up(calls)["networks"]
    assert worst == {
        "network": "203.0.113.0/24",
        "calls": 3,
        "devices": 1,
        "mos": 2.0,
        "loss_percent": None,
        "rtt_ms": 300.0,
        "relay_share": 1.0,
    }
    assert (best["network"], best["devices"], best["relay_share"]) == ("198.51.100.0/24", 3, 0.0)


def test_many_networks_are_cut() -> None:
    """Only the worst networks are told of, however many there are."""
    calls = [heard(2.0, f"10.0.{n}.0/24") for n in range(50) for _ in range(LEAST_CALLS)]
    assert len(add_up(calls)["networks"]) == WORST_NETWORKS


@given(st.lists(st.floats(1, 4.5), min_size=1))
def test_percentiles(values: list[float]) -> None:
    """Percentiles are values that were there, and rise."""
    told = percentiles(values)
    assert {*told.values()} <= {*values}
    assert list(told.values()) == sorted(told.values())  # type: ignore[type-var]


# A call as it is told


def test_a_row_of_nothing() -> None:
    """A call of which nothing is known yet has nulls, not zeros that look like a good line."""
    told = render_call_row(stored(), START + 10_000)
    assert (told["mos"], told["band"], told["rtt_ms"], told["loss_percent"], told["relay"]) == (None,) * 5
    assert (told["live"], told["ended_at"], told["seconds"]) == (True, None, 10)


@pytest.mark.parametrize(
    ("ended_at", "now", "live"),
    [(None, 24_499, True), (None, 24_500, False), (START + 9_000, 10_000, False)],
)
def test_live(ended_at: int | None, now: int, live: bool) -> None:  # noqa: FBT001 - one of a table
    """A call is live until it ends, or until nobody has told of it for fifteen seconds."""
    assert render_call_row(stored(ended_at=ended_at), START + now)["live"] is live


def test_a_row_of_totals() -> None:
    """Means are over the seconds that were scored, and the band is that of the mean R."""
    sums = Totals(scored_seconds=10, mos_sum=20, delay_points=100, loss_points=233, rtt_sum=900, rtt_n=3, path={})
    told = render_call_row(stored(totals=sums), START)
    assert (told["mos"], told["rtt_ms"], told["band"], told["relay"]) == (2.0, 300.0, "poor", False)


def test_a_page_is_json() -> None:
    """All about a call can be told in JSON, and is the same when it is read."""
    samples = [*seconds(1, 60), *seconds(61, 20, packets=40, lost=10)]
    told = render_call(stored(), CallMedia(tuple(samples), (OPUS,)), Signalling(pings(40, None)), START)
    assert json.loads(json.dumps(told)) == {**told, "pings": [[START - 30_000, 40], [START, None]]}
    assert told["samples"][0] == [START + 1000, 1000, 40.0, 4.0, 0.0, 24_000, None, 4.37, None, []]
    assert told["formula"] == e_model.FORMULA
    assert [minute["bad"] for minute in told["minutes"]] == [False, True]
    assert told["happenings"] == [{"at": "2026-11-24T09:30:00.000Z", "what": "codec", "fields": OPUS.fields}]


def test_a_long_call_is_told_coarser() -> None:
    """However long a call was there are at most so many points, and no second of it is left out."""
    made = moments(seconds(1, 2 * page.MAX_POINTS + 5), [OPUS])
    told = render_points(made)
    assert len(told) <= page.MAX_POINTS
    assert sum(point[1] for point in told) == 1000 * len(made)  # type: ignore[misc]
    assert told[-1][0] == made[-1].sample.at
