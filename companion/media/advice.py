"""When to tell a page to send fewer bits a second, and when more again. No I/O.

What counts is what a page sends: the loss its far end reports, and the round trip. Loss of what comes in is the far
end's to mend. Seconds of trouble add up and seconds without take off again, so that neither one bad second counts nor
one good one between them; between half the bounds and the bounds nothing counts, so that advice does not swing.
"""

from collections.abc import Iterable
from typing import Final, Literal, NamedTuple

import msgspec

from companion.media import scoring
from companion.media.report import Happening, Item, MediaSample

Why = Literal["loss", "rtt", "recovered"]
CALM: Final = 0.5
"""Of a bound: below it a line has recovered."""
STALE_MS: Final = 30_000
"""A sample that is older comes from when the page was offline, and tells nothing of now."""
UNTOLD: Final = frozenset(("gap", "offline", "held"))
"""Flags of samples that say nothing of the line."""


class Policy(NamedTuple):
    """The bounds of [media] advice_…: bits a second, percent, ms; and seconds of trouble, or of none, until advice."""

    min_bps: int = 16_000
    max_bps: int = 64_000
    loss_percent: float = 5
    rtt_ms: float = 400
    after: float = 10
    recover_after: float = 30


class Advice(msgspec.Struct, frozen=True):
    """What to limit sending to, and why."""

    max_bitrate: int
    why: Why


class State(msgspec.Struct, frozen=True, omit_defaults=True):
    """Seconds of trouble and of none, what was advised last, and whether the page has said that it did so."""

    bad: float = 0
    good: float = 0
    advised: Advice | None = None
    followed: bool = False

    @property
    def advice(self) -> Advice | None:
        """What to tell the page: again and again until it has done so, for an answer may be lost."""
        return None if self.followed else self.advised


def watch(state: State, items: Iterable[Item], policy: Policy, now: int) -> State:
    """How it stands after these items, by number, whose times are by our clock, which shows `now` (epoch ms)."""
    for item in items:
        if isinstance(item, Happening):
            state = _followed(state, item)
        elif item.at >= now - STALE_MS and not UNTOLD & set(item.flags):
            state = _decide(_counted(state, item, policy), _trouble(item, policy), policy)
    return state


def _followed(state: State, happening: Happening) -> State:
    told = happening.fields
    if happening.what != "limit" or told.get("by") != "advice" or state.advised is None:
        return state
    return msgspec.structs.replace(state, followed=told.get("max_bps") == state.advised.max_bitrate)


def _counted(state: State, sample: MediaSample, policy: Policy) -> State:
    seconds = sample.ms / 1000
    if _trouble(sample, policy):
        return msgspec.structs.replace(state, bad=min(state.bad + seconds, policy.after), good=0)
    if _is_calm(sample, policy):
        good = min(state.good + seconds, policy.recover_after)
        return msgspec.structs.replace(state, bad=max(0.0, state.bad - seconds), good=good)
    return state


def _decide(state: State, trouble: Why | None, policy: Policy) -> State:
    present = state.advised.max_bitrate if state.advised else policy.max_bps
    if trouble and state.bad >= policy.after and present > policy.min_bps:
        return State(advised=Advice(max(policy.min_bps, present // 2), trouble))
    if state.good >= policy.recover_after and present < policy.max_bps:
        return State(advised=Advice(min(policy.max_bps, present * 3 // 2), "recovered"))
    return state


def _trouble(sample: MediaSample, policy: Policy) -> Why | None:
    loss_percent, rtt_ms = _measured(sample)
    if loss_percent is not None and loss_percent >= policy.loss_percent:
        return "loss"
    return "rtt" if rtt_ms is not None and rtt_ms >= policy.rtt_ms else None


def _is_calm(sample: MediaSample, policy: Policy) -> bool:
    loss_percent, rtt_ms = _measured(sample)
    if loss_percent is None or rtt_ms is None:
        return False
    return loss_percent < policy.loss_percent * CALM and rtt_ms < policy.rtt_ms * CALM


def _measured(sample: MediaSample) -> tuple[float | None, float | None]:
    """Loss in percent, round trip in ms."""
    lost = sample.outgoing.lost
    return None if lost is None else 100 * lost, scoring.round_trip(sample)
