"""Test the summary of the fleet."""

from hypothesis import given
from hypothesis import strategies as st

from companion.query.summary import compute_percentiles


@given(st.lists(st.integers(0, 1000), min_size=1))
def test_percentiles(latencies: list[int]) -> None:
    """At least p percent are not above the p-th percentile, and it is the lowest of them for which that is so."""
    percentiles = compute_percentiles(latencies)
    for p in (50, 95, 99):
        value = percentiles[f"p{p}_ms"]
        assert value in latencies
        assert sum(latency <= value for latency in latencies) * 100 >= p * len(latencies)
        assert sum(latency < value for latency in latencies) * 100 < p * len(latencies)


def test_percentiles_of_nothing() -> None:
    """Nothing has no percentiles."""
    assert compute_percentiles([]) == {"p50_ms": None, "p95_ms": None, "p99_ms": None}
