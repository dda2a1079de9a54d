"""Describe the evidence for a verdict in plain sentences with figures. No I/O."""

from collections.abc import Iterator
from typing import Final

from companion.media import verdict_rules as rules
from companion.media.changes import OFFLINE, ONLINE
from companion.media.minutes import Minute, Sound
from companion.media.signalling import PingCounts
from companion.media.verdict_rules import Cause
from companion.times import SECOND_MS, format_seconds

MOST_SHARE: Final = 0.9
"""Where less of the time could be scored, the evidence says how much."""
MAX_CHANGES: Final = 3


def describe_cause(cause: Cause, minute: Minute, pings: PingCounts) -> Iterator[str]:
    """Yield the sentences that support a cause, the strongest first."""
    sound = minute.whole
    if cause == "network":
        yield from describe_network(minute)
        yield from _describe_silence(sound)
        yield _describe_steady(minute.steady)
        return
    if cause == "signalling":
        yield describe_pings(pings)
    yield from _describe_silence(sound)
    yield from _describe_concealment(sound)
    yield from describe_packets(sound)
    if cause == "device":
        yield from _describe_device(minute)
    yield from describe_score(sound)
    yield "both ways were bad; they share the device's own line" if cause == "signalling" else describe_pings(pings)


def describe_network(minute: Minute) -> Iterator[str]:
    """Yield sentences on the changes of network, MAX_CHANGES at most."""
    sentences = dict.fromkeys(change.sentence for change in minute.changes)
    if "offline" in minute.flags:
        yield f"offline for {_length(minute.flags['offline'])}"
        sentences.pop(OFFLINE, None)
        sentences.pop(ONLINE, None)
    yield from list(sentences)[:MAX_CHANGES]
    if len(sentences) > MAX_CHANGES:
        yield f"and {len(sentences) - MAX_CHANGES} more changes"


def _describe_steady(steady: Sound) -> str:
    if steady.mos.mean is None:
        return "there is nothing else of that time to judge it by"
    return f"away from it the sound was good enough: MOS {steady.mos.mean:.1f}"


def _describe_silence(sound: Sound) -> Iterator[str]:
    if rules.has_silence(sound):
        yield f"nothing came in for {_length(sound.silent_ms)}, though neither muted nor held"


def _describe_concealment(sound: Sound) -> Iterator[str]:
    if rules.is_concealed(sound):
        yield f"{100 * (sound.concealed.mean or 0.0):.1f} % of what was played was made up"


def describe_packets(sound: Sound) -> Iterator[str]:
    """Yield one sentence on loss, round trip and jitter, as far as they are known."""
    parts = []
    if sound.loss_percent is not None:
        parts.append(f"{sound.loss_percent:.1f} % of packets lost")
    if sound.rtt_ms.mean is not None:
        through = {True: " through a relay", False: " without a relay", None: ""}[sound.through_relay]
        parts.append(f"round trip {sound.rtt_ms.mean:.0f} ms{through}")
    if sound.jitter_ms.mean is not None:
        parts.append(f"jitter {sound.jitter_ms.mean:.0f} ms")
    if parts:
        yield ", ".join(parts)


def _describe_device(minute: Minute) -> Iterator[str]:
    sound = minute.whole
    if rules.scores_badly(sound) and rules.is_held_back(sound):
        yield f"the jitter buffer held sound back for {sound.buffer_ms.mean:.0f} ms"
    for flag, words in (("hidden", "the page was in the background"), ("gap", "no timer of the page ran")):
        if flag in minute.flags:
            yield f"{words} for {_length(minute.flags[flag])}"


def describe_score(sound: Sound) -> Iterator[str]:
    """Yield one sentence on MOS and the points of R lost, if there is a score."""
    if sound.r.mean is None or sound.mos.mean is None:
        return
    costs = (("loss", sound.loss_points.mean), ("delay", sound.delay_points.mean), ("codec", sound.codec_points.mean))
    lost = ", ".join(f"{name} {points:.0f}" for name, points in costs if points and points >= 1)
    part = f" over the {_length(sound.r.ms)} that could be scored" if sound.r.ms < MOST_SHARE * sound.ms else ""
    yield f"MOS {sound.mos.mean:.1f}{part}" + (f"; points of R lost: {lost}" if lost else "")


def describe_pings(pings: PingCounts) -> str:
    """Return one sentence on the pings of a time."""
    if not pings.total:
        return "no ping of that time is known: nothing can be said of the signalling path"
    took = "" if pings.highest_ms is None else f", the slowest answer took {pings.highest_ms} ms"
    lost = f", {pings.lost} lost" if pings.lost else ""
    grade = "bad" if pings.are_bad else "good"
    return f"the signalling path was {grade}: {pings.total} ping{'' if pings.total == 1 else 's'}{lost}{took}"


def _length(ms: float) -> str:
    return format_seconds(round(ms / SECOND_MS))


def describe_mute(total: Minute) -> Iterator[str]:
    """Yield sentences on the time that a call was muted or on hold."""
    for flag, words in (("muted", "muted"), ("held", "on hold")):
        if flag in total.flags:
            yield f"{words} for {_length(total.flags[flag])}, which is no outage"


def describe_missing(sound: Sound) -> str:
    """Return one sentence on why there is no score."""
    if not sound.ms:
        return "insufficient data: there are no media samples"
    figures = (("round trip", sound.rtt_ms), ("jitter", sound.buffer_ms if sound.buffer_ms.ms else sound.jitter_ms))
    missing = [f"no {name} is known" for name, figure in figures if not figure.ms]
    if sound.loss_percent is None:
        missing.append("no packets came in")
    reason = ", ".join(missing) or "the codec is not known, or there are no figures for it" if not sound.r.ms else ""
    head = f"insufficient data: {_length(sound.r.ms)} of {_length(sound.ms)} could be scored"
    return f"{head}; {reason}" if reason else head
