"""The media samples of a call, and of a long one in slices: a page of hours is as heavy as one of minutes. No I/O."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from statistics import median_low
from typing import Any, Final, NamedTuple

from companion.times import SECOND_MS

POINTS: Final = 600
"""A call with more media samples than this is drawn in about as many slices."""


class Slice(NamedTuple):
    """What was measured in the `ms` milliseconds before `at` (epoch ms); None is not known, bitrates are bit/s.

    `mos_min` is that of its worst media sample, `flags` all that any of them had.
    """

    at: int
    ms: int
    rtt_ms: float | None
    jitter_ms: float | None
    loss_percent: float | None
    in_bps: float | None
    out_bps: float | None
    mos: float | None
    mos_min: float | None
    flags: frozenset[str]

    @property
    def since(self) -> int:
        return self.at - self.ms


_MEANS: Final = ("rtt_ms", "jitter_ms", "loss_percent", "in_bps", "out_bps", "mos")


def in_slices(rows: Iterable[Sequence[Any]], window: tuple[int, int], points: int = POINTS) -> list[Slice]:
    """The rows of Reader.call's `samples` that touch the window, as they are or taken together where they are many.

    A sample that is longer than a slice stays alone: what is known of the others is not known of its time.
    """
    since, until = window
    near = [each for each in map(_of_row, rows) if each.at > since and each.since < until]
    if len(near) <= points:
        return near
    width_ms = -(-(near[-1].at - near[0].since) // (points * SECOND_MS)) * SECOND_MS
    groups = groupby(near, key=lambda each: each.at // width_ms if each.ms <= width_ms else each)
    return [_together(list(group)) for _, group in groups]


def usual_ms(slices: Sequence[Slice]) -> int:
    """How long most of them are."""
    return median_low(each.ms for each in slices) if slices else 0


def spans(slices: Iterable[Slice], flag: str) -> list[tuple[int, int]]:
    """From and until when (epoch ms) the samples had a flag, those next to each other as one."""
    found: list[tuple[int, int]] = []
    for each in slices:
        if flag not in each.flags:
            continue
        if found and each.since - found[-1][1] <= SECOND_MS:
            found[-1] = found[-1][0], each.at
        else:
            found.append((each.since, each.at))
    return found


def _of_row(row: Sequence[Any]) -> Slice:
    at, ms, rtt_ms, jitter_ms, loss_percent, in_bps, out_bps, mos, _concealed, flags = row
    return Slice(at, ms, rtt_ms, jitter_ms, loss_percent, in_bps, out_bps, mos, mos, frozenset(flags))


def _together(several: Sequence[Slice]) -> Slice:
    if len(several) == 1:
        return several[0]
    ms = several[-1].at - several[0].since
    means = {name: _mean([(getattr(each, name), each.ms) for each in several]) for name in _MEANS}
    worst = min((each.mos_min for each in several if each.mos_min is not None), default=None)
    flags = frozenset[str]().union(*(each.flags for each in several))
    return Slice(at=several[-1].at, ms=ms, mos_min=worst, flags=flags, **means)


def _mean(values: Sequence[tuple[float | None, int]]) -> float | None:
    """Of what is known, each by how long it was so."""
    known = [(value, ms) for value, ms in values if value is not None]
    return sum(value * ms for value, ms in known) / sum(ms for _, ms in known) if known else None
