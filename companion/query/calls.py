"""Render calls as people and machines read them: a row in a list, and the page of one. No I/O.

Times are ISO 8601, those of media samples epoch ms.
"""

from collections.abc import Sequence
from typing import Final

from companion.credentials import mask
from companion.media import e_model, verdict
from companion.media.minutes import Figure, Minute, Moment, Sound, build_moments
from companion.media.scoring import compute_loss, get_round_trip
from companion.media.signalling import Signalling
from companion.media.verdict_rules import is_bad
from companion.store.call_media import CallMedia
from companion.store.calls import CallRecord
from companion.text import Json
from companion.times import iso

LIVE_MS: Final = 15_000
"""A call without end and without a report for so long is over: three reports are missing."""
MAX_POINTS: Final = 3600
"""An hour of a sample a second; those of longer calls are merged."""

_DIGITS: Final = (1, 1, 2, 0, 0, 2, 4)
Point = list[object]
"""`[at, ms, rtt_ms, jitter_ms, loss_percent, in_bps, out_bps, mos, concealed, flags]`."""


def render_call_row(call: CallRecord, now: int) -> Json:
    """Return the row of a call as of `now` (epoch ms); figures are of the whole call so far, null without samples."""
    sums = call.totals
    return {
        "call_id": call.call_id,
        "device": call.device,
        "direction": call.direction,
        "peer": mask(call.peer),
        "started_at": iso(call.started_at),
        "ended_at": iso(call.ended_at or 0),
        "seconds": max(0, round(((call.ended_at or call.last_at) - call.started_at) / 1000)),
        "end": call.end,
        "why": call.why,
        "live": is_live(call, now),
        "mos": _rounded(sums.mos, 2),
        "mos_min": _rounded(sums.mos_min, 2),
        "band": classify_call(call),
        "loss_percent": _rounded(sums.loss_percent, 2),
        "rtt_ms": _rounded(sums.rtt_ms, 1),
        "jitter_max_ms": _rounded(sums.jitter_max, 1),
        "path": sums.path,
        "relay": sums.relayed,
        "codec": sums.codec_in or None,
        "bad_seconds": round(sums.bad_seconds),
        "switch_overs": sums.switch_overs,
        "dropped": call.dropped,
        "missing": sums.missing,
    }


def is_live(call: CallRecord, now: int) -> bool:
    """Return whether a call goes on."""
    return call.ended_at is None and now - call.last_at < LIVE_MS


def classify_call(call: CallRecord) -> e_model.Band | None:
    """Return the category of the call's mean R; None where nothing could be scored."""
    lost = break_down(call)
    return None if lost is None else e_model.band(e_model.R_BEST - sum(lost.values()))


def break_down(call: CallRecord) -> dict[str, float] | None:
    """Return the points of R that delay, loss and codec cost, as means of the scored seconds; None of none."""
    sums = call.totals
    if not sums.scored_seconds:
        return None
    points = {"delay": sums.delay_points, "loss": sums.loss_points, "codec": sums.codec_points}
    return {name: total / sums.scored_seconds for name, total in points.items()}


def render_call(call: CallRecord, media: CallMedia, signalling: Signalling, now: int) -> Json:
    """Return the page of a call, second by second and minute by minute, without the timeline of its device."""
    lost, moments = break_down(call), build_moments(media.samples, media.happenings)
    case = verdict.build_case(
        call.started_at, moments, media.happenings, signalling=signalling, end=call.end, ended_at=call.ended_at
    )
    return {
        **render_call_row(call, now),
        "formula": e_model.FORMULA,
        "breakdown": None if lost is None else {name: round(points, 1) for name, points in lost.items()},
        "samples": render_points(moments),
        "happenings": [{"at": iso(item.at), "what": item.what, "fields": item.fields} for item in media.happenings],
        "minutes": [render_minute(minute, signalling) for minute in case.minutes],
        "verdict": verdict.render_verdict(verdict.judge(case)),
        "pings": signalling.pings,
    }


def render_minute(minute: Minute, signalling: Signalling) -> Json:
    """Return the row of a minute; `pings` are those of the device from an interval before it to one after."""
    sound, pings = minute.whole, signalling.count_around(minute)
    return {
        "at": iso(minute.at),
        "seconds": _seconds(sound.ms),
        "scored_seconds": _seconds(sound.r.ms),
        "mos": _rounded(sound.mos.mean, 2),
        "band": None if sound.r.mean is None else e_model.band(sound.r.mean),
        "bad": is_bad(sound),
        "breakdown": _breakdown(sound),
        "loss_percent": _rounded(sound.loss_percent, 2),
        "rtt_ms": _rounded(sound.rtt_ms.mean, 1),
        "jitter_ms": _rounded(sound.jitter_ms.mean, 1),
        "buffer_ms": _rounded(sound.buffer_ms.mean, 1),
        "concealed": _rounded(sound.concealed.mean, 4),
        "relay": sound.through_relay,
        "silent_seconds": _seconds(sound.silent_ms),
        "flags": {flag: _seconds(ms) for flag, ms in minute.flags.items()},
        "changes": list(dict.fromkeys(change.sentence for change in minute.changes)),
        "pings": {"answered": pings.answered, "lost": pings.lost, "max_ms": pings.highest_ms},
    }


def _breakdown(sound: Sound) -> Json | None:
    if sound.r.mean is None:
        return None
    lost = {"delay": sound.delay_points, "loss": sound.loss_points, "codec": sound.codec_points}
    return {name: _rounded(figure.mean, 1) for name, figure in lost.items()}


def render_points(moments: Sequence[Moment]) -> list[Point]:
    """Return the samples of a call for a graph, MAX_POINTS at most: a point of a long call merges several in a row.

    Its time is that of the last of them, its figures are their means, its flags all of theirs.
    """
    size = -(-len(moments) // MAX_POINTS) or 1
    return [_point(moments[start : start + size]) for start in range(0, len(moments), size)]


def _point(moments: Sequence[Moment]) -> Point:
    sample = moments[-1].sample
    values, ms, flags = _values(moments[-1]), sample.ms, list(sample.flags)
    if len(moments) > 1:
        values, ms = _means(moments), sum(moment.sample.ms for moment in moments)
        flags = sorted({flag for moment in moments for flag in moment.sample.flags})
    return [sample.at, ms, *(_rounded(value, places) for value, places in zip(values, _DIGITS, strict=True)), flags]


def _means(moments: Sequence[Moment]) -> tuple[float | None, ...]:
    figures = [Figure() for _ in _DIGITS]
    for moment in moments:
        for figure, value in zip(figures, _values(moment), strict=True):
            figure.add(value, moment.sample.ms)
    return tuple(figure.mean for figure in figures)


def _values(moment: Moment) -> tuple[float | None, ...]:
    sample = moment.sample
    return (
        get_round_trip(sample),
        sample.incoming.jitter_ms,
        compute_loss(sample),
        _bitrate(sample.incoming.bytes, sample.ms),
        _bitrate(sample.outgoing.bytes, sample.ms),
        moment.score.mos if moment.score else None,
        sample.incoming.concealed,
    )


def _bitrate(sent: int | None, ms: int) -> float | None:
    """Return bits per second."""
    return None if sent is None else sent * 8000 / ms


def _seconds(ms: float) -> float:
    return round(ms / 1000, 1)


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
