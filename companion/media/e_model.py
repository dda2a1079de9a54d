"""Score speech by the E-model (ITU-T G.107): R factor and MOS from loss, delay and codec. No I/O."""

import math
from typing import Final, Literal, NamedTuple, TypeGuard

FORMULA: Final = "g107-simplified-1"
"""It changes whenever the same figures give another score: scores of different formulas do not compare."""

R_BEST: Final = 93.2
"""R with every parameter at the default of ITU-T G.107, as of any telephone."""

MOS_BEST: Final = 4.5

DELAY_SLOPE: Final = 0.024

DELAY_KNEE_MS: Final = 177.3

DELAY_KNEE_SLOPE: Final = 0.11

IE_MOST: Final = 95.0

Band = Literal["best", "high", "medium", "low", "poor", "bad"]

BANDS: Final[tuple[tuple[float, Band], ...]] = ((90, "best"), (80, "high"), (70, "medium"), (60, "low"), (50, "poor"))
"""ITU-T G.109's categories of quality, by the least R of each; below the last it does not recommend a connection."""

BAND_NAMES: Final[tuple[Band, ...]] = (*(name for _, name in BANDS), "bad")
"""All bands, the best first."""


class Codec(NamedTuple):
    """Hold a codec's impairment without loss (Ie), its robustness against loss (Bpl), and the delay it adds."""

    ie: float
    bpl: float
    delay_ms: float


G711: Final = Codec(0, 25.1, 20)
"""With concealment, which every browser does. Ie and Bpl: ITU-T G.113 Appendix I; 20 ms packets: RFC 3551, 4.2."""

G711_UNCONCEALED: Final = Codec(0, 4.3, 20)
"""Without it: ITU-T G.113 Appendix I."""

OPUS: Final = Codec(0, 10, 26.5)
"""Frames of 20 ms and 6.5 ms of look-ahead (RFC 6716). ITU-T has no Ie and Bpl of it for G.107: see docs/media.md."""

CODECS: Final = {"pcmu": G711, "pcma": G711, "opus": OPUS}


class Interval(NamedTuple):
    """Hold the measurements of some seconds in one direction; None is not known. `loss_percent` is 0 to 100.

    `burst_ratio` is BurstR of ITU-T G.107: 1 when losses are spread by chance, more when they come in bursts.
    """

    rtt_ms: float | None
    loss_percent: float | None
    codec: Codec | None
    jitter_ms: float | None = None
    jitter_buffer_ms: float | None = None
    burst_ratio: float = 1.0


class Score(NamedTuple):
    """Hold R and MOS of an interval, the points of R that delay, loss and codec cost, and the one-way delay."""

    r: float
    mos: float
    delay: float
    loss: float
    codec: float
    delay_ms: float

    @property
    def band(self) -> Band:
        return band(self.r)


def score(interval: Interval) -> Score | None:
    """Score by the simplified E-model of ITU-T G.107, R = 93.2 - Id - Ie-eff; None where a figure is missing.

    No default replaces a missing figure: a round trip of 0 would be a better line than there can be.
    """
    codec, lost, delay_ms = interval.codec, interval.loss_percent, one_way_ms(interval)
    if codec is None or delay_ms is None or not _is_measured(lost):
        return None
    delay = delay_impairment(delay_ms)
    loss = loss_impairment(min(100.0, lost), codec, interval.burst_ratio)
    r = R_BEST - delay - codec.ie - loss
    return Score(r, mos(r), delay, loss, codec.ie, delay_ms)


def one_way_ms(interval: Interval) -> float | None:
    """Sum up half the round trip, the jitter buffer (not known: twice the jitter) and the codec's own delay."""
    buffer_ms = interval.jitter_buffer_ms
    if not _is_measured(buffer_ms):
        buffer_ms = 2 * interval.jitter_ms if _is_measured(interval.jitter_ms) else None
    if not _is_measured(interval.rtt_ms) or buffer_ms is None or interval.codec is None:
        return None
    return interval.rtt_ms / 2 + buffer_ms + interval.codec.delay_ms


def delay_impairment(delay_ms: float) -> float:
    """Return Id = 0.024 d + 0.11 (d - 177.3) H(d - 177.3), H the step from 0 to 1 (Cole and Rosenbluth, from G.107).

    >>> round(delay_impairment(100), 3), round(delay_impairment(277.3), 4)
    (2.4, 17.6552)
    """
    return DELAY_SLOPE * delay_ms + DELAY_KNEE_SLOPE * max(0.0, delay_ms - DELAY_KNEE_MS)


def loss_impairment(loss_percent: float, codec: Codec, burst_ratio: float = 1.0) -> float:
    """Return Ie-eff - Ie = (95 - Ie) Ppl / (Ppl / BurstR + Bpl), Ppl in percent (ITU-T G.107, 7.5).

    >>> round(loss_impairment(5, OPUS), 3), round(loss_impairment(1, G711), 3)
    (31.667, 3.64)
    """
    return (IE_MOST - codec.ie) * loss_percent / (loss_percent / burst_ratio + codec.bpl)


def mos(r: float) -> float:
    """Return the MOS of an R (ITU-T G.107, Annex B), from 1 to 4.5.

    >>> round(mos(93.2), 2), round(mos(70), 2), round(mos(50), 2), mos(-5), mos(120)
    (4.41, 3.6, 2.58, 1.0, 4.5)
    """
    if r >= 100:
        return MOS_BEST
    return max(1.0, 1 + 0.035 * max(0.0, r) + 7e-6 * max(0.0, r) * (r - 60) * (100 - r))


def band(r: float) -> Band:
    """Return the category of an R.

    >>> band(90), band(89.9), band(50), band(49.9)
    ('best', 'high', 'poor', 'bad')
    """
    return next((name for least, name in BANDS if r >= least), "bad")


def mos_band(rounded: float) -> Band:
    """Return the band of a MOS that may be rounded to two digits.

    >>> mos_band(4.34), mos_band(3.59), mos_band(1)
    ('best', 'low', 'bad')
    """
    return next((name for least, name in BANDS if rounded >= round(mos(least), 2)), "bad")


def percent_lost(lost: float, received: float) -> float | None:
    """Return the share of packets that were lost, in percent; None without packets.

    A count is negative when packets came late, or twice (RFC 3550, A.3): that is no loss.

    >>> percent_lost(1, 49), percent_lost(-2, 50), percent_lost(0, 0)
    (2.0, 0.0, None)
    """
    expected = received + lost
    return 100 * max(0.0, lost) / expected if expected > 0 else None


def codec_of(name: str | None) -> Codec | None:
    """Return the codec of an RTP map such as `opus/48000/2`; None for one without figures here.

    >>> codec_of("opus/48000/2") is OPUS, codec_of("PCMA/8000") is G711, codec_of("G722/8000")
    (True, True, None)
    """
    return CODECS.get((name or "").lower().removeprefix("audio/").partition("/")[0])


def _is_measured(value: float | None) -> TypeGuard[float]:
    """Return whether this is a measurement: not missing, not negative, and a number."""
    return value is not None and math.isfinite(value) and value >= 0
