"""Whose fault a bad call was, and how one knows: a verdict for each bad minute and for the call. No I/O.

docs/media.md tells the rules. Whatever is not known is no reason for anything: then the verdict is `unknown`.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Any, Final, Literal, NamedTuple

from companion import quality
from companion.media.minutes import MINUTE_MS, OFFLINE, ONLINE, Change, Minute, Moment, Sound, changes, minutes
from companion.media.report import Happening
from companion.text import Json
from companion.times import SECOND_MS, format_seconds, iso
from companion.usrloc.contact import Ping

Cause = Literal["good", "signalling", "media", "device", "network", "unknown"]
CAUSES: Final[tuple[Cause, ...]] = ("network", "device", "signalling", "media")
"""What a bad minute may be blamed on, in the order in which they are asked about: the particular before the general."""

R_BAD: Final = 70.0
"""Below it ITU-T G.109 has many users dissatisfied."""
SCORED_MS: Final = 5_000
"""The mean of fewer scored seconds says nothing of a minute or a call. Our own choice."""
SILENT_MS: Final = 3_000
"""So long a silence makes people ask whether anybody is there. Our own choice: longer than a hang-up takes."""
CONCEALED_BAD: Final = 0.1
"""So great a share of made-up sound is heard as interruptions: Opus loses 45 points of R with so much loss."""
NO_LOSS_PERCENT: Final = 1.0
"""Less is no loss worth the word: ITU-T G.1010 lets conversation lose 3 %, and concealment hides 1 %."""
JITTER_MS: Final = 50.0
"""From here on packets come unevenly: the bound of IPDV in ITU-T Y.1541, class 0, which is made for calls."""
RTT_MS: Final = 300.0
"""Twice the 150 ms one way that ITU-T G.114 wants for conversation."""
BUFFER_PER_JITTER: Final = 4.0
"""A jitter buffer holds two to three times the jitter; more than this is not the network's doing. Our own choice."""
PINGS_BAD_SHARE: Final = 0.5
"""When half of the pings of a time were lost or slow the signalling path was bad; one alone may be chance."""
MOST_SHARE: Final = 0.9
CHANGES_TOLD: Final = 3
END_MS: Final = 30_000
"""A change so shortly before a call was lost is why it was lost: ICE gives up after some 30 s (RFC 8445, RFC 7675)."""


class Pings(NamedTuple):
    """The device's pings of a time: slow ones took longer than what [quality] calls poor."""

    answered: int
    lost: int
    slow: int
    highest_ms: int | None

    @property
    def total(self) -> int:
        return self.answered + self.lost

    @property
    def are_bad(self) -> bool:
        return self.total > 0 and self.lost + self.slow >= PINGS_BAD_SHARE * self.total


class BadMinute(NamedTuple):
    at: int
    what: Cause
    evidence: list[str]


class Verdict(NamedTuple):
    what: Cause
    evidence: list[str]
    bad_minutes: list[BadMinute]


class Signalling(NamedTuple):
    """The device's pings, from before the call to after it, oldest first; how far apart they are; what is slow."""

    pings: Sequence[Ping] = ()
    interval_ms: int = 120_000
    slow_ms: int = quality.Bounds().poor

    def between(self, since: int, until: int) -> Pings:
        """Those of this time and an interval on each side, as a minute has room for one ping or none."""
        near, when = self.interval_ms, attrgetter("ts")
        first, last = (bisect_left(self.pings, at, key=when) for at in (since - near, until + near))
        return count_pings(self.pings[first:last], self.slow_ms)

    def of(self, minute: Minute) -> Pings:
        return self.between(minute.at, minute.at + MINUTE_MS)


class Case(NamedTuple):
    """What a verdict rests on; `end` is as the browser reported it, `ended_at` epoch ms."""

    minutes: Sequence[Minute]
    changes: Sequence[Change] = ()
    signalling: Signalling = Signalling()
    end: str = ""
    ended_at: int | None = None


def count_pings(pings: Iterable[Ping], slow_ms: int) -> Pings:
    latencies = [latency_ms for _, latency_ms in pings]
    answered = [latency_ms for latency_ms in latencies if latency_ms is not None]
    slow = sum(latency_ms >= slow_ms for latency_ms in answered)
    return Pings(len(answered), len(latencies) - len(answered), slow, max(answered, default=None))


# Minutes


def is_bad(sound: Sound) -> bool:
    """Whether it sounded bad, was silent, or was made up in good part. Muted or held seconds are nothing bad."""
    return _scores_badly(sound) or sound.silent_ms >= SILENT_MS or _is_concealed(sound)


def _scores_badly(sound: Sound) -> bool:
    return sound.r.mean is not None and sound.r.ms >= SCORED_MS and sound.r.mean < R_BAD


def _is_concealed(sound: Sound) -> bool:
    share = sound.concealed
    return share.mean is not None and share.ms >= SCORED_MS and share.mean >= CONCEALED_BAD


def blame(minute: Minute, pings: Pings) -> Cause:
    """What a bad minute is blamed on.

    A change of network, when the minute without the seconds around it is not bad. Else the device, when it made up or
    held back sound that had come in well, or slept. Else the signalling path when pings were bad, too: what the two
    ways share is the device's own line. Else the media's way.
    """
    if (minute.changes or "offline" in minute.flags) and not is_bad(minute.steady):
        return "network"
    if _is_device(minute.whole):
        return "device"
    if pings.are_bad:
        return "signalling"
    return "media" if _is_of_the_way(minute.whole) else "unknown"


def _is_device(sound: Sound) -> bool:
    """Whether all that was bad came about after the packets had come in, evenly and without loss."""
    if sound.silent_ms >= SILENT_MS:
        return sound.asleep_ms >= sound.silent_ms / 2
    lost, jitter_ms = sound.loss_percent, sound.jitter_ms.mean
    if lost is None or jitter_ms is None or lost >= NO_LOSS_PERCENT or jitter_ms >= JITTER_MS:
        return False
    return _is_concealed(sound) or _is_held_back(sound)


def _is_held_back(sound: Sound) -> bool:
    """Whether the jitter buffer delays more than the network does, and more than uneven packets make it."""
    rtt_ms, buffer_ms, jitter_ms = sound.rtt_ms.mean, sound.buffer_ms.mean, sound.jitter_ms.mean
    if rtt_ms is None or buffer_ms is None or jitter_ms is None or rtt_ms >= RTT_MS:
        return False
    return buffer_ms > max(rtt_ms / 2, BUFFER_PER_JITTER * jitter_ms)


def _is_of_the_way(sound: Sound) -> bool:
    """Whether there are figures of how the packets came."""
    return sound.silent_ms >= SILENT_MS or _scores_badly(sound) or sound.loss_percent is not None


def judge_minute(minute: Minute, pings: Pings) -> BadMinute | None:
    """None when it is not bad."""
    if not is_bad(minute.whole):
        return None
    what = blame(minute, pings)
    return BadMinute(minute.at, what, list(_evidence(what, minute, pings)))


# Evidence


def _evidence(what: Cause, minute: Minute, pings: Pings) -> Iterator[str]:
    """What speaks for that, the most telling first."""
    sound = minute.whole
    if what == "network":
        yield from _network_words(minute)
        yield from _silence_words(sound)
        yield _steady_words(minute.steady)
        return
    if what == "signalling":
        yield pings_words(pings)
    yield from _silence_words(sound)
    yield from _concealed_words(sound)
    yield from _way_words(sound)
    if what == "device":
        yield from _device_words(minute)
    yield from _score_words(sound)
    yield "both ways were bad; they share the device's own line" if what == "signalling" else pings_words(pings)


def _network_words(minute: Minute) -> Iterator[str]:
    told = dict.fromkeys(change.told for change in minute.changes)
    if "offline" in minute.flags:
        yield f"offline for {_length(minute.flags['offline'])}"
        told.pop(OFFLINE, None)
        told.pop(ONLINE, None)
    yield from list(told)[:CHANGES_TOLD]
    if len(told) > CHANGES_TOLD:
        yield f"and {len(told) - CHANGES_TOLD} more changes"


def _steady_words(steady: Sound) -> str:
    if steady.mos.mean is None:
        return "there is nothing else of that time to judge it by"
    return f"away from it the sound was good enough: MOS {steady.mos.mean:.1f}"


def _silence_words(sound: Sound) -> Iterator[str]:
    if sound.silent_ms >= SILENT_MS:
        yield f"nothing came in for {_length(sound.silent_ms)}, though neither muted nor held"


def _concealed_words(sound: Sound) -> Iterator[str]:
    if _is_concealed(sound):
        yield f"{_percent(sound.concealed.mean or 0.0)} of what was played was made up"


def _way_words(sound: Sound) -> Iterator[str]:
    """How the packets came, in one sentence."""
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


def _device_words(minute: Minute) -> Iterator[str]:
    sound = minute.whole
    if _scores_badly(sound) and _is_held_back(sound):
        yield f"the jitter buffer held sound back for {sound.buffer_ms.mean:.0f} ms"
    for flag, words in (("hidden", "the page was in the background"), ("gap", "no timer of the page ran")):
        if flag in minute.flags:
            yield f"{words} for {_length(minute.flags[flag])}"


def _score_words(sound: Sound) -> Iterator[str]:
    if sound.r.mean is None or sound.mos.mean is None:
        return
    costs = (("loss", sound.loss_points.mean), ("delay", sound.delay_points.mean), ("codec", sound.codec_points.mean))
    told = ", ".join(f"{name} {points:.0f}" for name, points in costs if points and points >= 1)
    over = f" over the {_length(sound.r.ms)} that could be scored" if sound.r.ms < MOST_SHARE * sound.ms else ""
    yield f"MOS {sound.mos.mean:.1f}{over}" + (f"; points of R lost: {told}" if told else "")


def pings_words(pings: Pings) -> str:
    """How the pings of a time were, in one sentence."""
    if not pings.total:
        return "no ping of that time is known: nothing can be said of the signalling path"
    took = "" if pings.highest_ms is None else f", the slowest answer took {pings.highest_ms} ms"
    lost = f", {pings.lost} lost" if pings.lost else ""
    how = "bad" if pings.are_bad else "good"
    return f"the signalling path was {how}: {_count(pings.total, 'ping')}{lost}{took}"


def _length(ms: float) -> str:
    return format_seconds(round(ms / SECOND_MS))


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


# The call


def judge(case: Case) -> Verdict:
    """The verdict on a call and on each of its bad minutes."""
    judged = ((minute, judge_minute(minute, case.signalling.of(minute))) for minute in case.minutes)
    bad = [(minute, found) for minute, found in judged if found]
    whole = _sum(case.minutes)
    what, evidence = _of_bad(case, bad) if bad else _of_the_rest(case, whole)
    return Verdict(what, evidence, [found for _, found in bad])


def _sum(minutes: Iterable[Minute]) -> Minute:
    """Minutes as one."""
    total = Minute(0)
    for minute in minutes:
        total.whole.join(minute.whole)
        total.steady.join(minute.steady)
        total.changes += minute.changes
        for flag, ms in minute.flags.items():
            total.flags[flag] = total.flags.get(flag, 0.0) + ms
    return total


def _of_bad(case: Case, bad: Sequence[tuple[Minute, BadMinute]]) -> tuple[Cause, list[str]]:
    """What most of the bad minutes are blamed on, with what these add up to."""
    counts = Counter(found.what for _, found in bad)
    what = max(counts, key=lambda cause: (counts[cause], -_rank(cause)))
    others = ", ".join(f"{n} {cause}" for cause, n in counts.items() if cause != what)
    head = f"bad minutes: {len(bad)} of {len(case.minutes)}" + (f", of them {others}" if others else "")
    blamed = [minute for minute, found in bad if found.what == what]
    pings = case.signalling.between(blamed[0].at, blamed[-1].at + MINUTE_MS)
    return what, [head, *_evidence(what, _sum(blamed), pings)]


def _rank(cause: Cause) -> int:
    return CAUSES.index(cause) if cause in CAUSES else len(CAUSES)


def _of_the_rest(case: Case, total: Minute) -> tuple[Cause, list[str]]:
    """The verdict on a call without a bad minute: there are bad ends, bad pings, and calls too short to say."""
    pings = count_pings(case.signalling.pings, case.signalling.slow_ms)
    if case.end in ("failed", "lost"):
        return _of_the_end(case, total, pings)
    sound = total.whole
    known = sound.r.ms >= SCORED_MS
    if pings.are_bad:
        media = "the media was good" if known else "of the media too little is known"
        return "signalling", [pings_words(pings), media, *_score_words(sound)]
    if known:
        return "good", [*_score_words(sound), *_way_words(sound), pings_words(pings), *_muted_words(total)]
    if total.flags.get("muted", 0.0) > MOST_SHARE * sound.ms > 0:
        return "device", [*_muted_words(total), _missing_words(sound)]
    return "unknown", [_missing_words(sound), *_muted_words(total), pings_words(pings)]


def _of_the_end(case: Case, total: Minute, pings: Pings) -> tuple[Cause, list[str]]:
    """A call that failed, or was lost, with nothing bad before."""
    how = "the call was lost" if case.end == "lost" else "the call failed"
    ended_at = case.ended_at
    late = [c for c in case.changes if ended_at is not None and ended_at - END_MS <= c.at <= ended_at + END_MS]
    if late:
        return "network", [how, *_network_words(Minute(0, changes=late))]
    if pings.are_bad:
        return "signalling", [how, pings_words(pings)]
    if case.end == "lost" and total.whole.r.ms >= SCORED_MS:
        return "media", [f"{how} without a change of network", *_score_words(total.whole), pings_words(pings)]
    if total.whole.r.ms >= SCORED_MS:
        return "unknown", [f"{how}, and nothing was bad before", *_score_words(total.whole), pings_words(pings)]
    return "unknown", [how, _missing_words(total.whole), pings_words(pings)]


def _muted_words(total: Minute) -> Iterator[str]:
    for flag, words in (("muted", "muted"), ("held", "on hold")):
        if flag in total.flags:
            yield f"{words} for {_length(total.flags[flag])}, which is no outage"


def _missing_words(sound: Sound) -> str:
    """Why there is no score."""
    if not sound.ms:
        return "insufficient data: there are no media samples"
    figures = (("round trip", sound.rtt_ms), ("jitter", sound.buffer_ms if sound.buffer_ms.ms else sound.jitter_ms))
    missing = [f"no {name} is known" for name, figure in figures if not figure.ms]
    if sound.loss_percent is None:
        missing.append("no packets came in")
    why = ", ".join(missing) or "the codec is not known, or there are no figures for it" if not sound.r.ms else ""
    head = f"insufficient data: {_length(sound.r.ms)} of {_length(sound.ms)} could be scored"
    return f"{head}; {why}" if why else head


def case_of(started_at: int, moments: Iterable[Moment], happenings: Iterable[Happening], **known: Any) -> Case:
    """The case of a call's items; `known` is all else that there is to know."""
    found = changes(happenings)
    return Case(minutes(started_at, moments, found), found, **known)


def told(verdict: Verdict) -> Json:
    """A verdict as people and machines read it."""
    return {
        "what": verdict.what,
        "evidence": verdict.evidence,
        "bad_minutes": [{**found._asdict(), "at": iso(found.at)} for found in verdict.bad_minutes],
    }
