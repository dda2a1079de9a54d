"""Words for latencies, and how good a call sounds."""

import math
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from companion.media.e_model import (
    G711,
    G711_UNCONCEALED,
    OPUS,
    R_BEST,
    Codec,
    Interval,
    band,
    codec_of,
    delay_impairment,
    mos,
    percent_lost,
    score,
)
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


# R and MOS, by hand. d = rtt/2 + buffer + codec; Id = 0.024 d + 0.11 (d - 177.3) above 177.3;
# loss = 95 Ppl / (Ppl / BurstR + Bpl); MOS = 1 + 0.035 R + 7e-6 R (R - 60)(100 - R).


@pytest.mark.parametrize(
    ("interval", "delay", "loss", "r", "mos"),
    [
        # d = 25 + 40 + 26.5 = 91.5; Id = 2.196; R = 93.2 - 2.196 = 91.004
        # MOS = 1 + 3.18514 + 7e-6 * 91.004 * 31.004 * 8.996 = 4.18514 + 0.17767
        (Interval(50, 0, OPUS, jitter_buffer_ms=40), 2.196, 0, 91.004, 4.36281),
        # twice the jitter: d = 50 + 20 + 20 = 90; Id = 2.16; loss = 95 / 26.1 = 3.63985; R = 87.40015
        # MOS = 1 + 3.05901 + 7e-6 * 87.40015 * 27.40015 * 12.59985 = 4.05901 + 0.21122
        (Interval(100, 1, G711, jitter_ms=10), 2.16, 3.63985, 87.40015, 4.27022),
        # the same without concealment: loss = 95 / 5.3 = 17.92453; R = 73.11547
        # MOS = 1 + 2.55904 + 7e-6 * 73.11547 * 13.11547 * 26.88453 = 3.55904 + 0.18047
        (Interval(100, 1, G711_UNCONCEALED, jitter_ms=10), 2.16, 17.92453, 73.11547, 3.73951),
        # past the knee: d = 150 + 100 + 26.5 = 276.5; Id = 6.636 + 0.11 * 99.2 = 17.548; loss = 475 / 15 = 31.66667
        # R = 43.98533; MOS = 1 + 1.53949 - 7e-6 * 43.98533 * 16.01467 * 56.01467 = 2.53949 - 0.27620
        (Interval(300, 5, OPUS, jitter_buffer_ms=100), 17.548, 31.66667, 43.98533, 2.26328),
        # the buffer goes before the jitter: d = 10 + 30 + 20 = 60; Id = 1.44; R = 91.76
        # MOS = 1 + 3.2116 + 7e-6 * 91.76 * 31.76 * 8.24 = 4.2116 + 0.16810
        (Interval(20, 0, G711, jitter_ms=500, jitter_buffer_ms=30), 1.44, 0, 91.76, 4.37970),
        # in bursts of twice the length: loss = 475 / (2.5 + 10) = 38; d = 76.5; Id = 1.836; R = 53.364
        # MOS = 1 + 1.86774 - 7e-6 * 53.364 * 6.636 * 46.636 = 2.86774 - 0.11561
        (Interval(0, 5, OPUS, jitter_buffer_ms=50, burst_ratio=2), 1.836, 38, 53.364, 2.75213),
        # at the knee itself: d = 130.8 + 20 + 26.5 = 177.3; Id = 4.2552; R = 88.9448
        # MOS = 1 + 3.11307 + 7e-6 * 88.9448 * 28.9448 * 11.0552 = 4.11307 + 0.19923
        (Interval(261.6, 0, OPUS, jitter_buffer_ms=20), 4.2552, 0, 88.9448, 4.31230),
        # beyond all: d = 1000 + 0 + 26.5; Id = 24.636 + 0.11 * 849.2 = 118.048; loss = 9500 / 110 = 86.36364; R < 0
        (Interval(2000, 100, OPUS, jitter_buffer_ms=0), 118.048, 86.36364, -111.21164, 1),
    ],
)
def test_score_by_hand(interval: Interval, delay: float, loss: float, r: float, mos: float) -> None:
    """A score is what the formula gives by hand, with the points each part of it costs."""
    scored = score(interval)
    assert scored is not None
    assert pytest.approx((r, mos, delay, loss, 0), abs=1e-4) == scored[:5]


@pytest.mark.parametrize(
    ("r", "expected", "word"),
    [
        (93.2, 4.4095, "best"),
        (90, 4.339, "best"),
        (80, 4.024, "high"),
        (70, 3.597, "medium"),
        (60, 3.1, "low"),
        (50, 2.575, "poor"),
        (49.99, 2.5744, "bad"),
        (0, 1, "bad"),
    ],
)
def test_mos_and_band(r: float, expected: float, word: str) -> None:
    """MOS at the bounds of the bands is ITU-T G.109's: 4.34, 4.03, 3.60, 3.10, 2.58."""
    assert pytest.approx(expected, abs=1e-3) == mos(r)
    assert word == band(r)


figures = st.floats(0, 5000)
shares = st.floats(0, 100)
codecs = st.sampled_from([G711, G711_UNCONCEALED, OPUS])
intervals = st.builds(Interval, figures, shares, codecs, figures, st.none() | figures, st.floats(1, 8))


@given(intervals)
def test_score_is_bounded_and_adds_up(interval: Interval) -> None:
    """MOS stays between 1 and 4.5, R below its best, and the parts account for all that is lost."""
    scored = score(interval)
    assert scored is not None
    assert 1 <= scored.mos <= 4.5
    assert scored.r <= R_BEST
    assert min(scored.delay, scored.loss, scored.codec) >= 0
    assert pytest.approx(R_BEST) == scored.r + scored.delay + scored.loss + scored.codec


@given(intervals, st.sampled_from(["rtt_ms", "loss_percent", "jitter_ms", "jitter_buffer_ms", "burst_ratio"]), shares)
def test_worse_figures_never_score_better(interval: Interval, name: str, more: float) -> None:
    """More loss, delay, jitter or burstiness never gives a better R or MOS."""
    before = getattr(interval, name)
    if before is None:
        return
    one, other = score(interval), score(interval._replace(**{name: before + more}))
    assert one is not None
    assert other is not None
    assert other.r <= one.r
    assert other.mos <= one.mos + 1e-9


@given(intervals, st.sampled_from(["rtt_ms", "loss_percent", "jitter_ms"]))
def test_score_has_no_jumps(interval: Interval, name: str) -> None:
    """A hair's breadth more of anything changes the score by a hair's breadth, at the knee and at every clamp too."""
    one, other = score(interval), score(interval._replace(**{name: getattr(interval, name) + 1e-6}))
    assert one is not None
    assert other is not None
    assert abs(one.r - other.r) < 1e-4
    assert abs(one.mos - other.mos) < 1e-4


@given(st.floats(-200, 200), st.floats(0, 50))
def test_mos_rises_with_r(r: float, more: float) -> None:
    """A higher R is never a lower MOS, and both ends are flat."""
    assert 1 <= mos(r) <= mos(r + more) + 1e-9
    assert mos(r) <= 4.5


GOOD = Interval(50, 0, OPUS, jitter_buffer_ms=40)


@pytest.mark.parametrize(
    "unknown",
    [
        {"rtt_ms": None},
        {"loss_percent": None},
        {"codec": None},
        {"jitter_buffer_ms": None},
        {"rtt_ms": math.nan},
        {"rtt_ms": -1},
        {"loss_percent": math.inf},
    ],
)
def test_insufficient_data(unknown: dict[str, Any]) -> None:
    """Where something is missing, or is no measurement, there is no score: nothing is guessed."""
    assert score(GOOD._replace(**unknown)) is None


def test_missing_round_trip_is_not_zero() -> None:
    """A round trip that was not measured does not count as the best line there is."""
    assert score(GOOD._replace(rtt_ms=None)) is None
    assert score(GOOD._replace(rtt_ms=0)) is not None


def test_loss_is_percent_and_not_a_share() -> None:
    """One packet in twenty costs Opus a third of the scale; taken as a share it would seem to cost next to nothing."""
    lost = percent_lost(1, 19)
    assert lost == 5
    right, wrong = score(GOOD._replace(loss_percent=lost)), score(GOOD._replace(loss_percent=lost / 100))
    assert right is not None
    assert wrong is not None
    assert right.mos < 3.1
    assert wrong.mos > 4.3


def test_delay_is_the_formula_of_the_standard() -> None:
    """Not EL/40 below 160 ms and EL/120 - 10 above, which rewards delay: a long delay costs, and costs ever more."""
    popular = [R_BEST - (160 / 120 - 10), R_BEST - (800 / 120 - 10)]
    assert min(popular) > R_BEST
    assert 0 < delay_impairment(160) < delay_impairment(800) / 10


def test_delay_is_not_squared() -> None:
    """Below the knee the tenth 10 ms cost as much as the first, above it each costs 0.134 a ms."""
    steps = [delay_impairment(10 * n + 10) - delay_impairment(10 * n) for n in range(17)]
    assert pytest.approx([0.24] * 17) == steps
    assert pytest.approx(13.4) == delay_impairment(400) - delay_impairment(300)


def test_counters_are_of_the_interval() -> None:
    """Twenty packets lost in this second are 40 %, however few they are of all since the call began."""
    before, now = (180_000, 100), (180_030, 120)
    received, lost = (later - earlier for later, earlier in zip(now, before, strict=True))
    assert percent_lost(lost, received) == 40
    assert percent_lost(now[1], now[0]) == pytest.approx(0.0666, abs=1e-4)


@pytest.mark.parametrize(("lost", "received", "expected"), [(-3, 50, 0), (0, 0, None), (-5, 5, None), (50, 0, 100)])
def test_percent_lost(lost: int, received: int, expected: float | None) -> None:
    """Late or doubled packets are no loss; of no packets there is no share."""
    assert expected == percent_lost(lost, received)


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("opus/48000/2", OPUS),
        ("audio/opus", OPUS),
        ("PCMU/8000", G711),
        ("pcma", G711),
        ("G722/8000", None),
        ("telephone-event/8000", None),
        ("", None),
        (None, None),
    ],
)
def test_codec_of(name: str | None, codec: Codec | None) -> None:
    """A codec is known by its RTP map's name; of one that the model has no figures for none are made up."""
    assert codec_of(name) is codec
