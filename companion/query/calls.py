"""A call as people and machines read it: a line in a list, and all about one. No I/O.

Times are ISO 8601 but for media samples, whose times are epoch ms.
"""

from collections.abc import Sequence
from typing import Final

from companion.errors import NoSuchDeviceError
from companion.media import e_model, verdict
from companion.media.minutes import Figure, Minute, Moment, Sound, moments
from companion.media.scoring import loss_percent, round_trip
from companion.media.verdict import Signalling
from companion.query import devices
from companion.store.call_media import CallMedia
from companion.store.calls import CallRecord, has_calls
from companion.store.devices import select_stored_devices
from companion.store.store import Store
from companion.times import Json, iso

LIVE_MS: Final = 15_000
"""A call that has not ended and of which nobody told for so long does not go on any more: three reports are missing."""
MAX_POINTS: Final = 3600
"""An hour of a sample a second; longer calls are told in coarser ones."""

_DIGITS: Final = (1, 1, 2, 0, 0, 2, 4)
Point = list[object]
"""`[at, ms, rtt_ms, jitter_ms, loss_percent, in_bps, out_bps, mos, concealed, flags]`."""


def row(call: CallRecord, now: int) -> Json:
    """A call at a glance, as of `now` (epoch ms); figures are of the whole call so far, null where nothing is known."""
    sums = call.totals
    return {
        "call_id": call.call_id,
        "device": call.device,
        "direction": call.direction,
        "peer": call.peer,
        "started_at": iso(call.started_at),
        "ended_at": iso(call.ended_at or 0),
        "seconds": max(0, round(((call.ended_at or call.last_at) - call.started_at) / 1000)),
        "end": call.end,
        "why": call.why,
        "live": is_live(call, now),
        "mos": _rounded(sums.mos, 2),
        "mos_min": _rounded(sums.mos_min, 2),
        "band": band(call),
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
    return call.ended_at is None and now - call.last_at < LIVE_MS


def band(call: CallRecord) -> e_model.Band | None:
    """The category of the call's mean R; None where nothing could be scored."""
    lost = breakdown(call)
    return None if lost is None else e_model.band(e_model.R_BEST - sum(lost.values()))


def breakdown(call: CallRecord) -> dict[str, float] | None:
    """How many points of R delay, loss and codec cost, in the mean of the scored seconds; None of none."""
    sums = call.totals
    if not sums.scored_seconds:
        return None
    points = {"delay": sums.delay_points, "loss": sums.loss_points, "codec": sums.codec_points}
    return {name: total / sums.scored_seconds for name, total in points.items()}


def page(call: CallRecord, media: CallMedia, signalling: Signalling, now: int) -> Json:
    """All about a call but what happened to its device: how it went, second by second and minute by minute."""
    lost, made = breakdown(call), moments(media.samples, media.happenings)
    case = verdict.case_of(
        call.started_at, made, media.happenings, signalling=signalling, end=call.end, ended_at=call.ended_at
    )
    return {
        **row(call, now),
        "formula": e_model.FORMULA,
        "breakdown": None if lost is None else {name: round(points, 1) for name, points in lost.items()},
        "samples": points(made),
        "happenings": [{"at": iso(each.at), "what": each.what, "fields": each.fields} for each in media.happenings],
        "minutes": [minute(each, signalling) for each in case.minutes],
        "verdict": verdict.told(verdict.judge(case)),
        "pings": signalling.pings,
    }


def minute(told: Minute, signalling: Signalling) -> Json:
    """A minute of a call, `pings` being those of the device from an interval before it to one after."""
    sound, pings = told.whole, signalling.of(told)
    return {
        "at": iso(told.at),
        "seconds": _seconds(sound.ms),
        "scored_seconds": _seconds(sound.r.ms),
        "mos": _rounded(sound.mos.mean, 2),
        "band": None if sound.r.mean is None else e_model.band(sound.r.mean),
        "bad": verdict.is_bad(sound),
        "breakdown": _breakdown(sound),
        "loss_percent": _rounded(sound.loss_percent, 2),
        "rtt_ms": _rounded(sound.rtt_ms.mean, 1),
        "jitter_ms": _rounded(sound.jitter_ms.mean, 1),
        "buffer_ms": _rounded(sound.buffer_ms.mean, 1),
        "concealed": _rounded(sound.concealed.mean, 4),
        "relay": sound.through_relay,
        "silent_seconds": _seconds(sound.silent_ms),
        "flags": {flag: _seconds(ms) for flag, ms in told.flags.items()},
        "changes": list(dict.fromkeys(change.told for change in told.changes)),
        "pings": {"answered": pings.answered, "lost": pings.lost, "max_ms": pings.highest_ms},
    }


def _breakdown(sound: Sound) -> Json | None:
    if sound.r.mean is None:
        return None
    lost = {"delay": sound.delay_points, "loss": sound.loss_points, "codec": sound.codec_points}
    return {name: _rounded(figure.mean, 1) for name, figure in lost.items()}


def points(moments: Sequence[Moment]) -> list[Point]:
    """The samples of a call for a graph, MAX_POINTS at most: of a long call each stands for several, one after another.

    Its time is then that of the last of them, its figures are their means, its flags all of theirs.
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
        round_trip(sample),
        sample.incoming.jitter_ms,
        loss_percent(sample),
        _bitrate(sample.incoming.bytes, sample.ms),
        _bitrate(sample.outgoing.bytes, sample.ms),
        moment.score.mos if moment.score else None,
        sample.incoming.concealed,
    )


def _bitrate(sent: int | None, ms: int) -> float | None:
    """In bits a second."""
    return None if sent is None else sent * 8000 / ms


def _seconds(ms: float) -> float:
    return round(ms / 1000, 1)


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def whose(store: Store, name: str) -> str:
    """The id of the device that a person means; one that is no device's yet may be that of a device to come.

    Raises NoSuchDeviceError for what is no id, and SeveralDevicesError.
    """
    try:
        return devices.find(store, name)
    except NoSuchDeviceError:
        if "/" not in name:
            raise
        return name


def is_known(store: Store, device: str) -> bool:
    """Whether there is anything of a device so called: itself, or a call."""
    return bool(select_stored_devices(store, [device])) or has_calls(store, device)
