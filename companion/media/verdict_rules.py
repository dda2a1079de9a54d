"""Find the cause of a bad minute by rules that docs/media.md explains. No I/O."""

from typing import Final, Literal

from companion.media.minutes import Minute, Sound
from companion.media.signalling import PingCounts

Cause = Literal["good", "signalling", "media", "device", "network", "unknown"]
CAUSES: Final[tuple[Cause, ...]] = ("network", "device", "signalling", "media")
"""The causes of a bad minute in the order in which they are tried: the particular before the general."""

R_BAD: Final = 70.0
"""Below it ITU-T G.109 has many users dissatisfied."""
SCORED_MS: Final = 5_000
"""A mean of less scored time is too little for a verdict. Our own choice."""
SILENT_MS: Final = 3_000
"""After so long a silence people ask whether anybody is there. Our own choice: a hang-up takes less."""
CONCEALED_BAD: Final = 0.1
"""This share of made-up sound is heard as interruptions: with so much loss Opus loses 45 points of R."""
NO_LOSS_PERCENT: Final = 1.0
"""Less loss does not count: ITU-T G.1010 allows conversation 3 %, and concealment hides 1 %."""
JITTER_MS: Final = 50.0
"""From here on packets come unevenly: the bound of IPDV in ITU-T Y.1541, class 0, which is for calls."""
RTT_MS: Final = 300.0
"""Twice the 150 ms one way that ITU-T G.114 wants for conversation."""
BUFFER_PER_JITTER: Final = 4.0
"""A jitter buffer holds two to three times the jitter; more than this is not the network's doing. Our own choice."""


def is_bad(sound: Sound) -> bool:
    """Return whether sound had a low R, was silent, or was concealed. Muted or held seconds are not bad."""
    return scores_badly(sound) or has_silence(sound) or is_concealed(sound)


def scores_badly(sound: Sound) -> bool:
    """Return whether the mean R is too low."""
    return sound.r.mean is not None and sound.r.ms >= SCORED_MS and sound.r.mean < R_BAD


def has_silence(sound: Sound) -> bool:
    """Return whether nothing came in for too long."""
    return sound.silent_ms >= SILENT_MS


def is_concealed(sound: Sound) -> bool:
    """Return whether too much of the sound was made up."""
    share = sound.concealed
    return share.mean is not None and share.ms >= SCORED_MS and share.mean >= CONCEALED_BAD


def find_cause(minute: Minute, pings: PingCounts) -> Cause:
    """Return the cause of a bad minute: the first whose rule holds.

    - network: without the seconds around a change of network the minute is not bad.
    - device: it made up or held back sound that had come in well, or it slept.
    - signalling: pings were bad, too. Both paths share the device's own line.
    - media: all else.
    """
    if (minute.changes or "offline" in minute.flags) and not is_bad(minute.steady):
        return "network"
    if _is_caused_by_device(minute.whole):
        return "device"
    if pings.are_bad:
        return "signalling"
    return "media" if _has_figures(minute.whole) else "unknown"


def _is_caused_by_device(sound: Sound) -> bool:
    """Return whether packets came in evenly and without loss, and yet the sound was bad."""
    if has_silence(sound):
        return sound.asleep_ms >= sound.silent_ms / 2
    lost, jitter_ms = sound.loss_percent, sound.jitter_ms.mean
    if lost is None or jitter_ms is None or lost >= NO_LOSS_PERCENT or jitter_ms >= JITTER_MS:
        return False
    return is_concealed(sound) or is_held_back(sound)


def is_held_back(sound: Sound) -> bool:
    """Return whether the jitter buffer delays sound more than network and jitter explain."""
    rtt_ms, buffer_ms, jitter_ms = sound.rtt_ms.mean, sound.buffer_ms.mean, sound.jitter_ms.mean
    if rtt_ms is None or buffer_ms is None or jitter_ms is None or rtt_ms >= RTT_MS:
        return False
    return buffer_ms > max(rtt_ms / 2, BUFFER_PER_JITTER * jitter_ms)


def _has_figures(sound: Sound) -> bool:
    """Return whether there are figures of the media's path."""
    return has_silence(sound) or scores_badly(sound) or sound.loss_percent is not None
