"""What all media samples and happenings of a call add up to, as they come in. No I/O.

Items are added one after the other in the order of their numbers, so it does not matter in how many reports they came;
one that is counted already changes nothing.
"""

from collections.abc import Iterable
from copy import copy
from operator import attrgetter
from typing import Final

import msgspec

from companion.media import e_model, scoring
from companion.media.advice import State
from companion.media.report import Happening, Item, MediaSample

BAD_R: Final = 70
"""Below it many of those who listen are dissatisfied (ITU-T G.109)."""
PATH: Final = ("local", "remote", "protocol", "relay", "network", "local_address", "remote_address")


class Totals(msgspec.Struct, omit_defaults=True):
    """Of a call up to its item `next` - 1; `items` were got of them, and the others never will be.

    `mos_sum` and the points of R lost are weighted with seconds: over `scored_seconds` they are means. `silent_seconds`
    had no packet in though there should have been, `bad_seconds` an R below 70. `lost_in` may be negative, as its parts
    may. `path` and codecs are those of the last happening that told; `last_at` is the end of the last item (epoch ms).
    `advice` is left alone here.
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
    advice: State = State()

    @property
    def missing(self) -> int:
        """How many items before `next` never came."""
        return self.next - self.items

    @property
    def mos(self) -> float | None:
        """The mean over the seconds that could be scored."""
        return self.mos_sum / self.scored_seconds if self.scored_seconds else None

    @property
    def rtt_ms(self) -> float | None:
        return self.rtt_sum / self.rtt_n if self.rtt_n else None

    @property
    def loss_percent(self) -> float | None:
        return e_model.percent_lost(self.lost_in, self.packets_in)

    @property
    def relayed(self) -> bool | None:
        """Whether the path last told of leads over a relay, at either end; None when none was told of."""
        return None if self.path is None else "relay" in (self.path.get("local"), self.path.get("remote"))


def in_order(items: Iterable[Item], since: int = 0) -> list[Item]:
    """Items from number `since` on by number, each once: of those with one number the first."""
    found: dict[int, Item] = {}
    for item in items:
        if item.n >= since:
            found.setdefault(item.n, item)
    return sorted(found.values(), key=attrgetter("n"))


def add(totals: Totals, items: Iterable[Item]) -> Totals:
    """New totals with what is new of these items; those from before `next` are counted, or will never be."""
    sums = copy(totals)
    for item in in_order(items, since=totals.next):
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
    rtt_ms, jitter_ms = scoring.round_trip(sample), sample.incoming.jitter_ms
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
