"""Advise a page to send fewer bits a second, and later more again. No I/O.

The loss that the far end reports and the round trip count: both concern what the page sends. The far end takes care of
the other direction. Seconds of trouble add up, and seconds without trouble subtract, so that a single second decides
nothing. Between half a bound and the bound nothing counts, so that advice does not swing.
"""

from collections.abc import Iterable
from typing import Final, Literal, NamedTuple

import msgspec

from companion.media import scoring
from companion.media.report import Happening, Item, MediaSample

Why = Literal["loss", "rtt", "recovered"]
CALM: Final = 0.5
"""Below this share of its bound a figure is calm."""
STALE_MS: Final = 30_000
"""An older sample comes from when the page was offline, and says nothing about the present."""
IGNORED_FLAGS: Final = frozenset(("gap", "offline", "held"))
"""Samples with one of these flags say nothing about the line."""


class Policy(NamedTuple):
    """Hold the bounds of [media] advice_…: bits a second, percent, ms; seconds of trouble, or of calm, until advice."""

    min_bps: int = 16_000
    max_bps: int = 64_000
    loss_percent: float = 5
    rtt_ms: float = 400
    after: float = 10
    recover_after: float = 30


class Advice(msgspec.Struct, frozen=True):
    """Hold the bit rate to send at most, and the reason."""

    max_bitrate: int
    why: Why


class AdviceState(msgspec.Struct, frozen=True, omit_defaults=True):
    """Hold seconds of trouble and of calm, the last advice, and whether the page has followed it."""

    bad: float = 0
    good: float = 0
    latest: Advice | None = None
    followed: bool = False

    @property
    def advice(self) -> Advice | None:
        """Return the advice for the next answer: it is repeated until the page has followed it."""
        return None if self.followed else self.latest


def update_state(state: AdviceState, items: Iterable[Item], policy: Policy, now: int) -> AdviceState:
    """Return the state after these items, in the order of their numbers; all times are by our clock (epoch ms)."""
    for item in items:
        if isinstance(item, Happening):
            state = _follow(state, item)
        elif item.at >= now - STALE_MS and not IGNORED_FLAGS & set(item.flags):
            state = _decide(_count(state, item, policy), _find_trouble(item, policy), policy)
    return state


def _follow(state: AdviceState, happening: Happening) -> AdviceState:
    fields = happening.fields
    if happening.what != "limit" or fields.get("by") != "advice" or state.latest is None:
        return state
    return msgspec.structs.replace(state, followed=fields.get("max_bps") == state.latest.max_bitrate)


def _count(state: AdviceState, sample: MediaSample, policy: Policy) -> AdviceState:
    seconds = sample.ms / 1000
    if _find_trouble(sample, policy):
        return msgspec.structs.replace(state, bad=min(state.bad + seconds, policy.after), good=0)
    if _is_calm(sample, policy):
        good = min(state.good + seconds, policy.recover_after)
        return msgspec.structs.replace(state, bad=max(0.0, state.bad - seconds), good=good)
    return state


def _decide(state: AdviceState, trouble: Why | None, policy: Policy) -> AdviceState:
    present = state.latest.max_bitrate if state.latest else policy.max_bps
    if trouble and state.bad >= policy.after and present > policy.min_bps:
        return AdviceState(latest=Advice(max(policy.min_bps, present // 2), trouble))
    if state.good >= policy.recover_after and present < policy.max_bps:
        return AdviceState(latest=Advice(min(policy.max_bps, present * 3 // 2), "recovered"))
    return state


def _find_trouble(sample: MediaSample, policy: Policy) -> Why | None:
    loss_percent, rtt_ms = _measure(sample)
    if loss_percent is not None and loss_percent >= policy.loss_percent:
        return "loss"
    return "rtt" if rtt_ms is not None and rtt_ms >= policy.rtt_ms else None


def _is_calm(sample: MediaSample, policy: Policy) -> bool:
    loss_percent, rtt_ms = _measure(sample)
    if loss_percent is None or rtt_ms is None:
        return False
    return loss_percent < policy.loss_percent * CALM and rtt_ms < policy.rtt_ms * CALM


def _measure(sample: MediaSample) -> tuple[float | None, float | None]:
    """Return the loss in percent and the round trip in ms."""
    lost = sample.outgoing.lost
    return None if lost is None else 100 * lost, scoring.get_round_trip(sample)
