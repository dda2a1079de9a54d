"""How good a media sample sounds: what of it the E-model wants to know, and its score. No I/O."""

from companion.media import e_model
from companion.media.report import MediaSample


def round_trip(sample: MediaSample) -> float | None:
    """In ms: the media's own, as the far end reported it (RTCP), else that of the path's checks (STUN)."""
    return sample.rtt_ms if sample.outgoing.rtt_ms is None else sample.outgoing.rtt_ms


def loss_percent(sample: MediaSample) -> float | None:
    """Of what should have come in; None when that is not known, or was nothing."""
    packets, lost = sample.incoming.packets, sample.incoming.lost
    return None if packets is None or lost is None else e_model.percent_lost(lost, packets)


def interval(sample: MediaSample, codec: str | None) -> e_model.Interval:
    """What came in, as the E-model takes it; `codec` is its RTP map, such as `opus/48000/2`."""
    incoming = sample.incoming
    return e_model.Interval(
        rtt_ms=round_trip(sample),
        loss_percent=loss_percent(sample),
        codec=e_model.codec_of(codec),
        jitter_ms=incoming.jitter_ms,
        jitter_buffer_ms=incoming.buffer_ms,
    )


def score(sample: MediaSample, codec: str | None) -> e_model.Score | None:
    """None where something is not known: also while nothing is meant to be heard, as there are no packets then."""
    return e_model.score(interval(sample, codec))


def is_silent(sample: MediaSample) -> bool:
    """Whether nothing came in though something should have: a call on hold, or muted, may be quiet."""
    return sample.incoming.packets == 0 and not {"muted", "held"} & set(sample.flags)
