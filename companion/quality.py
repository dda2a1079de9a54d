"""Label latencies by quality, and compute percentiles. No I/O."""

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple, TypeVar

Label = Literal["excellent", "good", "fair", "poor", "bad"]
LABELS: Final[tuple[Label, ...]] = ("excellent", "good", "fair", "poor", "bad")

N = TypeVar("N", int, float)


class Bounds(NamedTuple):
    """Hold the exclusive upper bound of each label in ms; from `poor` on a latency is bad."""

    excellent: int = 100
    good: int = 150
    fair: int = 200
    poor: int = 400


def label(latency_ms: float, bounds: Bounds) -> Label:
    """Return the first label with a bound above the latency.

    >>> label(99, Bounds()), label(100, Bounds()), label(217, Bounds()), label(400, Bounds())
    ('excellent', 'good', 'poor', 'bad')
    """
    for name, bound in zip(LABELS, bounds, strict=False):
        if latency_ms < bound:
            return name
    return "bad"


def nearest_rank(ordered: Sequence[N], percent: int) -> N | None:
    """Return a percentile of ascending numbers, always one of them; None of none.

    >>> [nearest_rank([10, 20, 30, 40], percent) for percent in (50, 95)], nearest_rank([], 50)
    ([20, 40], None)
    """
    return ordered[-(-percent * len(ordered) // 100) - 1] if ordered else None
