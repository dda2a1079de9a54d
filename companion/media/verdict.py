"""Judge which last mile a call's trouble came from: each bad minute, and the whole call. No I/O.

docs/media.md has the rules. A figure that is not known is no evidence: without any the verdict is `unknown`.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from companion.media import verdict_evidence as evidence
from companion.media.changes import Change, find_changes
from companion.media.minutes import Minute, Moment, Sound, build_minutes
from companion.media.report import Happening
from companion.media.signalling import PingCounts, Signalling
from companion.media.verdict_rules import CAUSES, SCORED_MS, Cause, find_cause, is_bad
from companion.text import Json
from companion.times import MINUTE_MS, iso

MUTED_SHARE: Final = 0.9
"""A call that was muted for longer has no score for that reason."""
END_MS: Final = 30_000
"""A change so shortly before a call was lost is why it was lost: ICE gives up after some 30 s (RFC 8445, RFC 7675)."""


class BadMinute(NamedTuple):
    """Hold the verdict on one bad minute that began at `at` (epoch ms)."""

    at: int
    what: Cause
    evidence: list[str]


class Verdict(NamedTuple):
    """Hold the verdict on a call: its cause, the sentences that support it, and its bad minutes."""

    what: Cause
    evidence: list[str]
    bad_minutes: list[BadMinute]


class Case(NamedTuple):
    """Hold all that a verdict rests on; `end` is as the browser reported it, `ended_at` epoch ms."""

    minutes: Sequence[Minute]
    changes: Sequence[Change] = ()
    signalling: Signalling = Signalling()
    end: str = ""
    ended_at: int | None = None


def build_case(started_at: int, moments: Iterable[Moment], happenings: Iterable[Happening], **more: Any) -> Case:
    """Return the case of a call; `more` are the other members of a case."""
    changes = find_changes(happenings)
    return Case(build_minutes(started_at, moments, changes), changes, **more)


def judge(case: Case) -> Verdict:
    """Return the verdict on a call and on each of its bad minutes."""
    verdicts = ((minute, judge_minute(minute, case.signalling.count_around(minute))) for minute in case.minutes)
    bad = [(minute, verdict) for minute, verdict in verdicts if verdict]
    cause, sentences = _judge_bad(case, bad) if bad else _judge_good(case, _join(case.minutes))
    return Verdict(cause, sentences, [verdict for _, verdict in bad])


def judge_minute(minute: Minute, pings: PingCounts) -> BadMinute | None:
    """Return the verdict on a minute; None when it is not bad."""
    if not is_bad(minute.whole):
        return None
    cause = find_cause(minute, pings)
    return BadMinute(minute.at, cause, list(evidence.describe_cause(cause, minute, pings)))


def render_verdict(verdict: Verdict) -> Json:
    """Return a verdict as people and machines read it."""
    return {
        "what": verdict.what,
        "evidence": verdict.evidence,
        "bad_minutes": [{**minute._asdict(), "at": iso(minute.at)} for minute in verdict.bad_minutes],
    }


def _join(minutes: Iterable[Minute]) -> Minute:
    """Return several minutes joined in one."""
    total = Minute(0)
    for minute in minutes:
        total.whole.join(minute.whole)
        total.steady.join(minute.steady)
        total.changes += minute.changes
        for flag, ms in minute.flags.items():
            total.flags[flag] = total.flags.get(flag, 0.0) + ms
    return total


def _judge_bad(case: Case, bad: Sequence[tuple[Minute, BadMinute]]) -> tuple[Cause, list[str]]:
    """Return the most frequent cause of the bad minutes, with the evidence of all minutes that have it."""
    counts = Counter(verdict.what for _, verdict in bad)
    cause = max(counts, key=lambda cause: (counts[cause], -_rank(cause)))
    others = ", ".join(f"{n} {other}" for other, n in counts.items() if other != cause)
    head = f"bad minutes: {len(bad)} of {len(case.minutes)}" + (f", of them {others}" if others else "")
    minutes = [minute for minute, verdict in bad if verdict.what == cause]
    pings = case.signalling.count_between(minutes[0].at, minutes[-1].at + MINUTE_MS)
    return cause, [head, *evidence.describe_cause(cause, _join(minutes), pings)]


def _rank(cause: Cause) -> int:
    return CAUSES.index(cause) if cause in CAUSES else len(CAUSES)


def _judge_good(case: Case, total: Minute) -> tuple[Cause, list[str]]:
    """Return the verdict on a call without a bad minute: its end or its pings may be bad, or too little is known."""
    pings = case.signalling.count_all()
    if case.end in ("failed", "lost"):
        return _judge_end(case, total, pings)
    sound = total.whole
    if pings.are_bad:
        media = "the media was good" if _is_scored(sound) else "of the media too little is known"
        return "signalling", [evidence.describe_pings(pings), media, *evidence.describe_score(sound)]
    if _is_scored(sound):
        figures = [*evidence.describe_score(sound), *evidence.describe_packets(sound)]
        return "good", [*figures, evidence.describe_pings(pings), *evidence.describe_mute(total)]
    if total.flags.get("muted", 0.0) > MUTED_SHARE * sound.ms > 0:
        return "device", [*evidence.describe_mute(total), evidence.describe_missing(sound)]
    missing = evidence.describe_missing(sound)
    return "unknown", [missing, *evidence.describe_mute(total), evidence.describe_pings(pings)]


def _is_scored(sound: Sound) -> bool:
    return sound.r.ms >= SCORED_MS


def _judge_end(case: Case, total: Minute, pings: PingCounts) -> tuple[Cause, list[str]]:
    """Return the verdict on a call that failed, or was lost, without a bad minute."""
    outcome = "the call was lost" if case.end == "lost" else "the call failed"
    late = _changes_near_end(case)
    if late:
        return "network", [outcome, *evidence.describe_network(Minute(0, changes=late))]
    signalling = evidence.describe_pings(pings)
    if pings.are_bad:
        return "signalling", [outcome, signalling]
    if not _is_scored(total.whole):
        return "unknown", [outcome, evidence.describe_missing(total.whole), signalling]
    score = [*evidence.describe_score(total.whole), signalling]
    if case.end == "lost":
        return "media", [f"{outcome} without a change of network", *score]
    return "unknown", [f"{outcome}, and nothing was bad before", *score]


def _changes_near_end(case: Case) -> list[Change]:
    if case.ended_at is None:
        return []
    return [change for change in case.changes if abs(change.at - case.ended_at) <= END_MS]
