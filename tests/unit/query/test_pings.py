"""Test what the pings of a device add up to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from companion.query.pings import compute_statistics, merge_own_pings, put_in_buckets

FORGOTTEN = 3
points = st.lists(st.tuples(st.integers(0, 100), st.integers(0, 400)), max_size=30).map(sorted)


def own(lost: list[tuple[int, int]]) -> dict[int, tuple[()]]:
    """Contacts that were never ghosts."""
    return {number: () for _, number in lost}


@given(
    points,
    st.lists(st.tuples(st.integers(0, 100), st.sampled_from([1, 2, FORGOTTEN]))).map(sorted),
    st.integers(0, 101),
)
def test_own_pings(answered: list[tuple[int, int]], lost: list[tuple[int, int]], since: int) -> None:
    """Both series in order; of a contact only the losses outside the times it was a ghost, of forgotten ones none."""
    pings = merge_own_pings(answered, lost, {1: (), 2: [(since, 60), (80, 1 << 53)]})
    assert sorted(ts for ts, _ in pings) == [ts for ts, _ in pings]
    assert [ping for ping in pings if ping[1] is not None] == [
        (ts, ms) for ts, ms in sorted(answered, key=lambda p: p[0])
    ]
    own = sum(number == 1 or (number == 2 and not (since <= ts <= 60 or ts >= 80)) for ts, number in lost)
    assert own == sum(latency_ms is None for _, latency_ms in pings)


@given(points, points)
def test_statistics(answered: list[tuple[int, int]], lost: list[tuple[int, int]]) -> None:
    """Losses count as losses and never as latencies."""
    statistics = compute_statistics(merge_own_pings(answered, lost, own(lost)))
    ms = [latency for _, latency in answered]
    assert (len(ms), len(lost), len(ms) + len(lost)) == (
        statistics["answered"],
        statistics["lost"],
        statistics["total"],
    )
    assert (max(ms, default=None), min(ms, default=None)) == (statistics["max_ms"], statistics["min_ms"])
    assert statistics["average_ms"] == (pytest.approx(sum(ms) / len(ms), abs=0.051) if ms else None)
    assert statistics["loss_ratio"] == (
        pytest.approx(len(lost) / statistics["total"], abs=0.000051) if statistics["total"] else None
    )


@given(points, points, st.integers(1, 150))
def test_buckets_of_pings(answered: list[tuple[int, int]], lost: list[tuple[int, int]], width: int) -> None:
    """Each ping is counted in the bucket it is of; lost ones are no latencies, and empty buckets are left out."""
    pings = merge_own_pings(answered, lost, own(lost))
    buckets = put_in_buckets(pings, width)
    starts = sorted({ts // width * width for ts, _ in pings})
    assert [bucket.start for bucket in buckets] == starts
    for bucket in buckets:
        values = [latency_ms for ts, latency_ms in pings if bucket.start <= ts < bucket.start + width]
        ms = [value for value in values if value is not None]
        average = round(sum(ms) / len(ms), 1) if ms else None
        expected = (min(ms, default=None), average, max(ms, default=None), len(ms), len(values) - len(ms))
        assert bucket[1:] == expected
