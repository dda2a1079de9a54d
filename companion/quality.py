"""How good a latency is, in words, and how good a call sounds, in ITU-T's numbers. No I/O."""

from typing import Final, Literal, NamedTuple

Label = Literal["excellent", "good", "fair", "poor", "bad"]
LABELS: Final[tuple[Label, ...]] = ("excellent", "good", "fair", "poor", "bad")


class Bounds(NamedTuple):
    """Exclusive upper bounds of each label, in ms; from `poor` on it is bad."""

    excellent: int = 100
    good: int = 150
    fair: int = 200
    poor: int = 400


def label(latency_ms: float, bounds: Bounds) -> Label:
    """The first label whose bound is above the latency.

    >>> label(99, Bounds()), label(100, Bounds()), label(217, Bounds()), label(400, Bounds())
    ('excellent', 'good', 'poor', 'bad')
    """
    for name, bound in zip(LABELS, bounds, strict=False):
        if latency_ms < bound:
            return name
    return "bad"
