"""Score media samples by the E-model. No I/O."""

from companion.media import e_model
from companion.media.report import MediaSample


def get_round_trip(sample: MediaSample) -> float | None:
    """Return the round trip in ms: as the far end reported it (RTCP), else that of the path's checks (STUN)."""
    return sample.rtt_ms if sample.outgoing.rtt_ms is None else sample.outgoing.rtt_ms


def compute_loss(sample: MediaSample) -> float | None:
    """Return the share of incoming packets that were lost; None where it is not known, or without packets."""
    packets, lost = sample.incoming.packets, sample.incoming.lost
    return None if packets is None or lost is None else e_model.percent_lost(lost, packets)


def convert_sample(sample: MediaSample, codec: str | None) -> e_model.Interval:
    """Convert a sample for the E-model; `codec` is an RTP map such as `opus/48000/2`."""
    incoming = sample.incoming
    return e_model.Interval(
        rtt_ms=get_round_trip(sample),
        loss_percent=compute_loss(sample),
        codec=e_model.codec_of(codec),
        jitter_ms=incoming.jitter_ms,
        jitter_buffer_ms=incoming.buffer_ms,
    )


def score(sample: MediaSample, codec: str | None) -> e_model.Score | None:
    """Score a sample; None where a figure is missing, as on hold, when there are no packets."""
    return e_model.score(convert_sample(sample, codec))


def is_silent(sample: MediaSample) -> bool:
    """Return whether no packet came in; a call on hold, or muted, may be quiet."""
    return sample.incoming.packets == 0 and not {"muted", "held"} & set(sample.flags)
