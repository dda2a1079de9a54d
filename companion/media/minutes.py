"""Add up the media samples of a call minute by minute. No I/O."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Final, NamedTuple

from companion.media import e_model, scoring
from companion.media.changes import Change, is_relayed
from companion.media.e_model import Score
from companion.media.report import Flag, Happening, MediaSample
from companion.media.totals import sort_items
from companion.times import MINUTE_MS

SHORT_MS: Final = 2_000
"""A time this short is of one minute only."""


class Moment(NamedTuple):
    """Hold a media sample with its score and whether it came through a relay; None means not known."""

    sample: MediaSample
    score: Score | None
    relay: bool | None


def build_moments(samples: Iterable[MediaSample], happenings: Iterable[Happening]) -> list[Moment]:
    """Return the samples of a call by number, each with the codec and the path of the happenings before it."""
    moments, codec, relay = [], "", None
    for item in sort_items((*samples, *happenings)):
        if isinstance(item, MediaSample):
            moments.append(Moment(item, _score(item, codec), relay))
        elif item.what == "codec":
            name = item.fields.get("in")
            codec = name if isinstance(name, str) and name else codec
        elif item.what == "path":
            relay = is_relayed(item.fields)
    return moments


def _score(sample: MediaSample, codec: str) -> Score | None:
    """Return no score for a muted or held second without packets either: nothing could be lost in it."""
    quiet = not sample.incoming.packets and {"muted", "held"} & {*sample.flags}
    return None if quiet else scoring.score(sample, codec)


@dataclass(slots=True)
class Figure:
    """Compute the mean of a measurement, weighted by time, and its highest value; None without values."""

    sum: float = 0.0
    ms: float = 0.0
    highest: float | None = None

    def add(self, value: float | None, ms: float) -> None:
        if value is not None:
            self.sum += value * ms
            self.ms += ms
            self.highest = value if self.highest is None else max(self.highest, value)

    def join(self, other: "Figure") -> None:
        self.sum += other.sum
        self.ms += other.ms
        if other.highest is not None:
            self.highest = other.highest if self.highest is None else max(self.highest, other.highest)

    @property
    def mean(self) -> float | None:
        return self.sum / self.ms if self.ms > 0 else None


@dataclass(slots=True)
class Sound:
    """Sum up some seconds of a call. Points are those of R that delay, loss and codec cost.

    In silent time nothing came in though the call was neither muted nor held; in asleep time no timer ran either.
    """

    r: Figure = field(default_factory=Figure)
    mos: Figure = field(default_factory=Figure)
    delay_points: Figure = field(default_factory=Figure)
    loss_points: Figure = field(default_factory=Figure)
    codec_points: Figure = field(default_factory=Figure)
    rtt_ms: Figure = field(default_factory=Figure)
    jitter_ms: Figure = field(default_factory=Figure)
    buffer_ms: Figure = field(default_factory=Figure)
    concealed: Figure = field(default_factory=Figure)
    relay: Figure = field(default_factory=Figure)
    ms: float = 0.0
    packets: float = 0.0
    lost: float = 0.0
    silent_ms: float = 0.0
    asleep_ms: float = 0.0

    def join(self, other: "Sound") -> None:
        for member in fields(self):
            mine, theirs = getattr(self, member.name), getattr(other, member.name)
            if isinstance(mine, Figure):
                mine.join(theirs)
            else:
                setattr(self, member.name, mine + theirs)

    @property
    def loss_percent(self) -> float | None:
        return e_model.percent_lost(self.lost, self.packets)

    @property
    def through_relay(self) -> bool | None:
        """Return whether most of it came through a relay."""
        share = self.relay.mean
        return None if share is None else share >= 0.5


@dataclass(slots=True)
class Minute:
    """Hold one minute of a call from `at` (epoch ms) on; `steady` leaves out the time around changes of network."""

    at: int
    whole: Sound = field(default_factory=Sound)
    steady: Sound = field(default_factory=Sound)
    flags: dict[Flag, float] = field(default_factory=dict)
    """How many ms of the minute had each flag: muted, held, hidden …"""
    changes: list[Change] = field(default_factory=list)


def build_minutes(started_at: int, moments: Iterable[Moment], changes: Sequence[Change]) -> list[Minute]:
    """Return the minutes of a call that have samples, counted from its start (epoch ms), the oldest first.

    A sample that spans several minutes is shared out by time. Where samples overlap, the time counts once.
    """
    minutes: dict[int, Minute] = {}
    windows = _joined(changes)
    previous, has_sound = 0, False
    for moment in moments:
        sample = moment.sample
        has_sound = has_sound or bool(sample.incoming.packets)
        since = min(sample.at - 1, max(previous, sample.at - sample.ms))
        previous = max(previous, sample.at)
        silent = _is_silent(sample, has_sound=has_sound)
        unsteady = "offline" in sample.flags or _is_in(windows, since, sample.at)
        for start, ms in _slices(since, sample.at, started_at):
            minute = minutes.setdefault(start, Minute(start))
            _add(minute.whole, moment, ms, ms / (sample.at - since), silent=silent)
            if not unsteady:
                _add(minute.steady, moment, ms, ms / (sample.at - since), silent=silent)
            for flag in sample.flags:
                minute.flags[flag] = minute.flags.get(flag, 0.0) + ms
    _assign(changes, minutes, started_at)
    return [minutes[start] for start in sorted(minutes)]


def _slices(since: int, until: int, started_at: int) -> Iterator[tuple[int, int]]:
    """Yield the start of each minute in this time and how many ms of it; a short time is of one minute only.

    The last second of a call may end some ms late: it must not begin a minute of its own.
    """
    if until - since <= SHORT_MS:
        yield _start((since + until) // 2, started_at), until - since
        return
    while since < until:
        start = _start(since, started_at)
        end = min(until, start + MINUTE_MS)
        yield start, end - since
        since = end


def _start(at: int, started_at: int) -> int:
    """Return when the minute of this time began."""
    return started_at + (at - started_at) // MINUTE_MS * MINUTE_MS


def _is_silent(sample: MediaSample, *, has_sound: bool) -> bool:
    """Return whether sound should have come in, and none did.

    Before the first packet that holds only while the page sends: it is a one-way call then, else it may be ringing.
    """
    return scoring.is_silent(sample) and (has_sound or bool(sample.outgoing.packets))


def _add(sound: Sound, moment: Moment, ms: int, share: float, *, silent: bool) -> None:
    """Add `ms` of a moment, this share of the whole."""
    sample, incoming = moment.sample, moment.sample.incoming
    sound.ms += ms
    sound.packets += (incoming.packets or 0) * share
    sound.lost += (incoming.lost or 0) * share
    if silent:
        sound.silent_ms += ms
        sound.asleep_ms += ms if "gap" in sample.flags else 0
    sound.rtt_ms.add(scoring.get_round_trip(sample), ms)
    sound.jitter_ms.add(incoming.jitter_ms, ms)
    sound.buffer_ms.add(incoming.buffer_ms, ms)
    sound.concealed.add(incoming.concealed, ms)
    sound.relay.add(None if moment.relay is None else float(moment.relay), ms)
    _add_score(sound, moment.score, ms)


def _add_score(sound: Sound, score: Score | None, ms: int) -> None:
    if score is not None:
        sound.r.add(score.r, ms)
        sound.mos.add(score.mos, ms)
        sound.delay_points.add(score.delay, ms)
        sound.loss_points.add(score.loss, ms)
        sound.codec_points.add(score.codec, ms)


def _joined(changes: Iterable[Change]) -> list[tuple[int, int]]:
    """Return the times of changes in order, overlapping ones joined."""
    joined: list[tuple[int, int]] = []
    for since, until in sorted((change.since, change.until) for change in changes):
        if joined and since <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(joined[-1][1], until)
        else:
            joined.append((since, until))
    return joined


def _is_in(windows: Sequence[tuple[int, int]], since: int, until: int) -> bool:
    """Return whether one of the windows overlaps this time."""
    place = bisect_left(windows, since, key=lambda window: window[1])
    return place < len(windows) and windows[place][0] < until


def _assign(changes: Iterable[Change], minutes: dict[int, Minute], started_at: int) -> None:
    """Add each change to the minutes that it may have spoilt."""
    for change in changes:
        for start, _ in _slices(change.since, change.until + 1, started_at):
            if start in minutes:
                minutes[start].changes.append(change)
