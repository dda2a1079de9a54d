"""Combine the media samples of a long call in slices: a call of hours draws as fast as one of minutes. No I/O."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from statistics import median_low
from typing import Any, Final, NamedTuple

from companion.times import SECOND_MS

POINTS: Final = 600
"""A call with more media samples than this is drawn in about as many slices."""


class Slice(NamedTuple):
    """Hold the measurements of the `ms` milliseconds before `at` (epoch ms); None is unknown, bitrates are bit/s.

    `mos_min` is the MOS of the worst sample, `flags` are all flags of the samples.
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
    """Return the `samples` of Reader.call that touch the window, combined where there are many.

    A sample that is longer than a slice stays alone: the others say nothing about its time.
    """
    since, until = window
    near = [piece for piece in map(_of_row, rows) if piece.at > since and piece.since < until]
    if len(near) <= points:
        return near
    width_ms = -(-(near[-1].at - near[0].since) // (points * SECOND_MS)) * SECOND_MS
    groups = groupby(near, key=lambda piece: piece.at // width_ms if piece.ms <= width_ms else piece)
    return [_together(list(group)) for _, group in groups]


def usual_ms(slices: Sequence[Slice]) -> int:
    """Return the median length."""
    return median_low(piece.ms for piece in slices) if slices else 0


def spans(slices: Iterable[Slice], flag: str) -> list[tuple[int, int]]:
    """Return from and until when (epoch ms) samples had a flag; adjacent samples make one span."""
    stretches: list[tuple[int, int]] = []
    for piece in slices:
        if flag not in piece.flags:
            continue
        if stretches and piece.since - stretches[-1][1] <= SECOND_MS:
            stretches[-1] = stretches[-1][0], piece.at
        else:
            stretches.append((piece.since, piece.at))
    return stretches


def _of_row(row: Sequence[Any]) -> Slice:
    at, ms, rtt_ms, jitter_ms, loss_percent, in_bps, out_bps, mos, _concealed, flags = row
    return Slice(at, ms, rtt_ms, jitter_ms, loss_percent, in_bps, out_bps, mos, mos, frozenset(flags))


def _together(pieces: Sequence[Slice]) -> Slice:
    if len(pieces) == 1:
        return pieces[0]
    ms = pieces[-1].at - pieces[0].since
    means = {name: _mean([(getattr(piece, name), piece.ms) for piece in pieces]) for name in _MEANS}
    worst = min((piece.mos_min for piece in pieces if piece.mos_min is not None), default=None)
    flags = frozenset[str]().union(*(piece.flags for piece in pieces))
    return Slice(at=pieces[-1].at, ms=ms, mos_min=worst, flags=flags, **means)


def _mean(values: Sequence[tuple[float | None, int]]) -> float | None:
    """Return the mean of the values that are not None, weighted by their length."""
    weighted = [(value, ms) for value, ms in values if value is not None]
    return sum(value * ms for value, ms in weighted) / sum(ms for _, ms in weighted) if weighted else None
