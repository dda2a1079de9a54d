"""Test what the calls of a fleet add up to."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from companion.media import e_model
from companion.query.call_quality import (
    BANDS,
    LEAST_CALLS,
    WORST_NETWORKS,
    LocatedCall,
    add_up,
    compute_percentiles,
)


def make_call(mos: float | None, network: str = "", **row: Any) -> LocatedCall:
    band = None if mos is None else "high" if mos > 4 else "bad"
    defaults = {"device": "a/1", "mos": mos, "band": band, "live": False, "relay": None, "loss_percent": None}
    return LocatedCall({**defaults, "rtt_ms": None, "switch_overs": 0, **row}, network)


def test_nothing() -> None:
    """Of no calls there is no figure, and none is made up."""
    quality = add_up([])
    assert (quality["calls"], quality["relay_share"], quality["loss_percent"], quality["networks"]) == (
        0,
        None,
        None,
        [],
    )
    assert quality["mos"] == {"p10": None, "p50": None, "p90": None}
    assert quality["bands"] == dict.fromkeys(BANDS, 0)


def test_calls_add_up() -> None:
    """Calls are counted by band, each once; shares and means are of those of which it is known."""
    calls = [
        make_call(4.4, relay=False, loss_percent=0.0, live=True),
        make_call(1.9, relay=True, loss_percent=6.0, switch_overs=2),
        make_call(None),
    ]
    quality = add_up(calls)
    assert (quality["calls"], quality["scored"], quality["live"], quality["switch_overs"]) == (3, 2, 1, 2)
    assert (quality["relay_share"], quality["loss_percent"]) == (0.5, 3.0)
    assert quality["bands"] == {**dict.fromkeys(BANDS, 0), "high": 1, "bad": 1, "unknown": 1}
    assert sum(quality["bands"].values()) == quality["calls"]


def test_bands_are_those_of_the_model() -> None:
    """There is no band that is not counted."""
    assert {e_model.band(r) for r in range(-100, 101)} == {*BANDS} - {"unknown"}


def test_worst_networks() -> None:
    """Networks come worst first; one with too few calls, or unknown, is not listed."""
    calls = [
        *(make_call(4.4, "198.51.100.0/24", device=f"a/{n}", rtt_ms=40.0) for n in range(LEAST_CALLS)),
        *(make_call(2.0, "203.0.113.0/24", rtt_ms=300.0, relay=True) for _ in range(LEAST_CALLS)),
        *(make_call(1.0, "192.0.2.0/24") for _ in range(LEAST_CALLS - 1)),
        *(make_call(None, "192.0.2.0/24") for _ in range(LEAST_CALLS)),
        *(make_call(1.0) for _ in range(LEAST_CALLS)),
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
    """Only the worst networks are listed, however many there are."""
    calls = [make_call(2.0, f"10.0.{n}.0/24") for n in range(50) for _ in range(LEAST_CALLS)]
    assert len(add_up(calls)["networks"]) == WORST_NETWORKS


@given(st.lists(st.floats(1, 4.5), min_size=1))
def test_percentiles(values: list[float]) -> None:
    """Percentiles are values that were there, and rise."""
    by_name = compute_percentiles(values)
    assert {*by_name.values()} <= {*values}
    assert list(by_name.values()) == sorted(by_name.values())  # type: ignore[type-var]
