"""Words for latencies."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from companion.quality import LABELS, Bounds, label


@pytest.mark.parametrize(
    ("latency_ms", "expected"),
    [
        (0, "excellent"),
        (99, "excellent"),
        (99.9, "excellent"),
        (100, "good"),
        (149, "good"),
        (150, "fair"),
        (199, "fair"),
        (200, "poor"),
        (399, "poor"),
        (400, "bad"),
        (600_000, "bad"),
    ],
)
def test_label(latency_ms: float, expected: str) -> None:
    """A label holds up to its bound, not at it; what is above all bounds is bad."""
    assert expected == label(latency_ms, Bounds())


@given(st.lists(st.integers(1, 1000), min_size=4, max_size=4, unique=True).map(sorted), st.floats(0, 2000))
def test_label_is_the_number_of_bounds_passed(rising: list[int], latency_ms: float) -> None:
    """Each bound that a latency reaches makes it one word worse."""
    assert LABELS[sum(latency_ms >= bound for bound in rising)] == label(latency_ms, Bounds(*rising))


def test_default_bounds_rise() -> None:
    """The bounds rise, so that each label can be had."""
    assert all(one < next_one for one, next_one in pairwise(Bounds()))
