"""Add up all media samples and happenings of a call as they come in. No I/O.

Items are added in the order of their numbers, so it does not matter in how many reports they came. An item that is
counted already changes nothing.
"""

from collections.abc import Iterable
from copy import copy
from operator import attrgetter
from typing import Final

import msgspec

from companion.media import e_model, scoring
from companion.media.advice import AdviceState
from companion.media.changes import is_relayed
from companion.media.report import Happening, Item, MediaSample

BAD_R: Final = 70
"""Below it many of those who listen are dissatisfied (ITU-T G.109)."""
PATH: Final = ("local", "remote", "protocol", "relay", "network", "local_address", "remote_address")


class Totals(msgspec.Struct, omit_defaults=True):
    """Hold the sums of a call up to its item `next` - 1; `items` of them came, the others never will.

    `mos_sum` and the points of R lost are weighted with seconds: divide by `scored_seconds` for the mean. In
    `silent_seconds` packets should have come in and none did; in `bad_seconds` R is below 70. `lost_in` may be
    negative, as in a sample. `path` and codecs come from the last happening that names them. `last_at` is the end of
    the last item (epoch ms). Nothing here changes `advice`.
    """

    next: int = 0
    items: int = 0
    samples: int = 0
    seconds: float = 0
    scored_seconds: float = 0
    mos_sum: float = 0
    mos_min: float | None = None
    delay_points: float = 0
    loss_points: float = 0
    codec_points: float = 0
    packets_in: int = 0
    lost_in: int = 0
    bytes_in: int = 0
    packets_out: int = 0
    bytes_out: int = 0
    rtt_sum: float = 0
    rtt_n: int = 0
    rtt_max: float | None = None
    jitter_max: float | None = None
    relay_seconds: float = 0
    silent_seconds: float = 0
    bad_seconds: float = 0
    path: dict[str, str] | None = None
    codec_in: str = ""
    codec_out: str = ""
    switch_overs: int = 0
    restarts: int = 0
    last_at: int = 0
    advice: AdviceState = AdviceState()

    @property
    def missing(self) -> int:
        """Return how many items before `next` never came."""
        return self.next - self.items

    @property
    def mos(self) -> float | None:
        """Return the mean of the scored seconds."""
        return self.mos_sum / self.scored_seconds if self.scored_seconds else None

    @property
    def rtt_ms(self) -> float | None:
        return self.rtt_sum / self.rtt_n if self.rtt_n else None

    @property
    def loss_percent(self) -> float | None:
        return e_model.percent_lost(self.lost_in, self.packets_in)

    @property
    def relayed(self) -> bool | None:
        """Return whether the last path leads through a relay, at either end; None without a path."""
        return None if self.path is None else is_relayed(self.path)


def sort_items(items: Iterable[Item], since: int = 0) -> list[Item]:
    """Return the items from number `since` on by number; of several with one number the first."""
    by_number: dict[int, Item] = {}
    for item in items:
        if item.n >= since:
            by_number.setdefault(item.n, item)
    return sorted(by_number.values(), key=attrgetter("n"))


def add(totals: Totals, items: Iterable[Item]) -> Totals:
    """Return new totals with these items added; those before `next` are left out."""
    sums = copy(totals)
    for item in sort_items(items, since=totals.next):
        sums.next = item.n + 1
        sums.items += 1
        sums.last_at = max(sums.last_at, item.at)
        if isinstance(item, MediaSample):
            _add_sample(sums, item)
        else:
            _add_happening(sums, item)
    return sums


def _add_sample(sums: Totals, sample: MediaSample) -> None:
    seconds = sample.ms / 1000
    sums.samples += 1
    sums.seconds += seconds
    sums.relay_seconds += seconds if sums.relayed else 0
    sums.silent_seconds += seconds if scoring.is_silent(sample) else 0
    _add_counts(sums, sample)
    _add_measures(sums, sample)
    score = scoring.score(sample, sums.codec_in)
    if score:
        _add_score(sums, score, seconds)


def _add_counts(sums: Totals, sample: MediaSample) -> None:
    sums.packets_in += sample.incoming.packets or 0
    sums.lost_in += sample.incoming.lost or 0
    sums.bytes_in += sample.incoming.bytes or 0
    sums.packets_out += sample.outgoing.packets or 0
    sums.bytes_out += sample.outgoing.bytes or 0


def _add_measures(sums: Totals, sample: MediaSample) -> None:
    rtt_ms, jitter_ms = scoring.get_round_trip(sample), sample.incoming.jitter_ms
    if rtt_ms is not None:
        sums.rtt_sum += rtt_ms
        sums.rtt_n += 1
        sums.rtt_max = max(rtt_ms, sums.rtt_max or 0)
    if jitter_ms is not None:
        sums.jitter_max = max(jitter_ms, sums.jitter_max or 0)


def _add_score(sums: Totals, score: e_model.Score, seconds: float) -> None:
    sums.scored_seconds += seconds
    sums.mos_sum += score.mos * seconds
    sums.mos_min = score.mos if sums.mos_min is None else min(sums.mos_min, score.mos)
    sums.delay_points += score.delay * seconds
    sums.loss_points += score.loss * seconds
    sums.codec_points += score.codec * seconds
    sums.bad_seconds += seconds if score.r < BAD_R else 0


def _add_happening(sums: Totals, happening: Happening) -> None:
    fields = happening.fields
    if happening.what == "path":
        sums.path = {name: str(fields[name]) for name in PATH if isinstance(fields.get(name), str)}
    elif happening.what == "codec":
        sums.codec_in = _text(fields.get("in")) or sums.codec_in
        sums.codec_out = _text(fields.get("out")) or sums.codec_out
    elif happening.what == "switch-over":
        sums.switch_overs += 1
    elif happening.what == "restart":
        sums.restarts += 1


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
