"""A call minute by minute: what its media samples add up to, and which changes of network there were. No I/O."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Final, NamedTuple

from companion.media import e_model, scoring
from companion.media.e_model import Score
from companion.media.report import Flag, Happening, MediaSample
from companion.media.totals import in_order
from companion.text import Json

MINUTE_MS: Final = 60_000
SHORT_MS: Final = 2_000
CHANGE_BEFORE_MS: Final = 5_000
"""A network fails before anybody notices: browsers call ICE disconnected after about five seconds of silence."""
CHANGE_AFTER_MS: Final = 10_000
"""What was bad so soon after a change is still its doing: jitter buffers and bitrates settle again."""
LONGEST_CHANGE_MS: Final = 120_000
"""What a switch-over says of itself is believed up to here: as long as a browser may try ICE again."""
PATH_WORDS: Final = {"host", "srflx", "prflx", "relay"}
OFFLINE: Final = "the device went offline"
ONLINE: Final = "the device was online again"
_PLAIN: Final = {"offline": OFFLINE, "online": ONLINE, "restart": "ICE was restarted"}
NETWORK_WORDS: Final = {"wifi", "cellular", "ethernet", "wimax", "bluetooth", "none"}


class Moment(NamedTuple):
    """A media sample, its score (None: not enough is known), and whether it came through a relay (None: not known)."""

    sample: MediaSample
    score: Score | None
    relay: bool | None


def moments(samples: Iterable[MediaSample], happenings: Iterable[Happening]) -> list[Moment]:
    """The samples of a call by number, each with what the happenings before it told of codec and path."""
    made, codec, relay = [], "", None
    for item in in_order((*samples, *happenings)):
        if isinstance(item, MediaSample):
            made.append(Moment(item, _score(item, codec), relay))
        elif item.what == "codec":
            said = item.fields.get("in")
            codec = said if isinstance(said, str) and said else codec
        elif item.what == "path":
            relay = is_relayed(item.fields)
    return made


def _score(sample: MediaSample, codec: str) -> Score | None:
    """None, too, where nothing was meant to be heard and nothing was: then there was nothing to lose either."""
    quiet = not sample.incoming.packets and {"muted", "held"} & {*sample.flags}
    return None if quiet else scoring.score(sample, codec)


class Change(NamedTuple):
    """A change of network: what it is called here, and the time (epoch ms) in which it may have spoilt the sound."""

    at: int
    since: int
    until: int
    told: str


@dataclass(slots=True)
class Figure:
    """The mean of a measurement, each value weighted by how long it held, and the highest; None of nothing."""

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
    """What some seconds of a call add up to. Points are those of R that delay, loss and codec cost.

    Silent is a time in which nothing came in though neither muted nor held; asleep, when no timer ran meanwhile either.
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
        for each in fields(self):
            mine, theirs = getattr(self, each.name), getattr(other, each.name)
            if isinstance(mine, Figure):
                mine.join(theirs)
            else:
                setattr(self, each.name, mine + theirs)

    @property
    def loss_percent(self) -> float | None:
        return e_model.percent_lost(self.lost, self.packets)

    @property
    def through_relay(self) -> bool | None:
        """Whether most of it came through a relay."""
        share = self.relay.mean
        return None if share is None else share >= 0.5


@dataclass(slots=True)
class Minute:
    """One minute of a call from `at` (epoch ms) on; `steady` is what of it is not near a change of network."""

    at: int
    whole: Sound = field(default_factory=Sound)
    steady: Sound = field(default_factory=Sound)
    flags: dict[Flag, float] = field(default_factory=dict)
    """For how many ms it was muted, held, in the background …"""
    changes: list[Change] = field(default_factory=list)


def minutes(started_at: int, moments: Iterable[Moment], changes: Sequence[Change]) -> list[Minute]:
    """The minutes of a call that there are samples of, counted from its start (epoch ms), oldest first.

    A sample that is of two minutes is of each as long as it lies in it. Overlapping ones count once.
    """
    made: dict[int, Minute] = {}
    windows = _joined(changes)
    previous, heard = 0, False
    for moment in moments:
        sample = moment.sample
        heard = heard or bool(sample.incoming.packets)
        since = min(sample.at - 1, max(previous, sample.at - sample.ms))
        previous = max(previous, sample.at)
        silent = _is_silent(sample, heard=heard)
        unsteady = "offline" in sample.flags or _is_in(windows, since, sample.at)
        for start, ms in _slices(since, sample.at, started_at):
            minute = made.setdefault(start, Minute(start))
            _add(minute.whole, moment, ms, ms / (sample.at - since), silent=silent)
            if not unsteady:
                _add(minute.steady, moment, ms, ms / (sample.at - since), silent=silent)
            for flag in sample.flags:
                minute.flags[flag] = minute.flags.get(flag, 0.0) + ms
    _note(made, started_at, changes)
    return [made[start] for start in sorted(made)]


def _slices(since: int, until: int, started_at: int) -> Iterator[tuple[int, int]]:
    """The starts of the minutes that lie in this time, and how many ms of each; a short one is of one minute.

    So the last second of a call, which may end some ms later than it should, is of its last minute and not of one more.
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
    """When the minute of this time began."""
    return started_at + (at - started_at) // MINUTE_MS * MINUTE_MS


def _is_silent(sample: MediaSample, *, heard: bool) -> bool:
    """Whether sound should have come in, and none did.

    Before the first packet nobody need have spoken yet, unless we were sending already: then it is a one-way call.
    """
    return scoring.is_silent(sample) and (heard or bool(sample.outgoing.packets))


def _add(sound: Sound, moment: Moment, ms: int, share: float, *, silent: bool) -> None:
    """Add `ms` of a moment, which is this share of it."""
    sample, incoming = moment.sample, moment.sample.incoming
    sound.ms += ms
    sound.packets += (incoming.packets or 0) * share
    sound.lost += (incoming.lost or 0) * share
    if silent:
        sound.silent_ms += ms
        sound.asleep_ms += ms if "gap" in sample.flags else 0
    sound.rtt_ms.add(scoring.round_trip(sample), ms)
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


# Changes of network


def changes(happenings: Iterable[Happening]) -> list[Change]:
    """The changes of network among what happened in a call, in the order it happened.

    The first path and the first network are how the call began, and no change; nor is word of a network's speed alone.
    """
    found, known = [], _Known()
    for happening in happenings:
        told = known.told(happening)
        if told:
            since, until = happening.at - _took(happening) - CHANGE_BEFORE_MS, happening.at + CHANGE_AFTER_MS
            found.append(Change(happening.at, since, until, told))
    return found


@dataclass(slots=True)
class _Known:
    """What the happenings so far told of the network."""

    path: tuple[object, ...] = ()
    kind: str = ""
    network: str = ""

    def told(self, happening: Happening) -> str:
        """What has changed, in words; empty when nothing has."""
        if happening.what == "path":
            return self._path(happening.fields)
        if happening.what == "network":
            return self._network(happening.fields)
        if happening.what == "switch-over":
            return _switch_over(happening.fields)
        return _PLAIN.get(happening.what, "")

    def _path(self, said: Json) -> str:
        before, before_kind = self.path, self.kind
        names = ("local", "remote", "protocol", "relay", "local_address", "remote_address")
        self.path, self.kind = tuple(said.get(name) for name in names), path_words(said)
        if not before or before == self.path:
            return ""
        return f"the media's path changed{'' if before_kind == self.kind else f' from {before_kind} to {self.kind}'}"

    def _network(self, said: Json) -> str:
        before = self.network
        self.network = _known_word(said.get("type"), NETWORK_WORDS)
        changed = before and self.network and before != self.network
        return f"the network changed from {before} to {self.network}" if changed else ""


def path_words(said: Json) -> str:
    """A path as people call it: `host to host over udp`, `relay (over tcp) to srflx over udp`."""
    local, remote = (_known_word(said.get(name), PATH_WORDS) or "unknown" for name in ("local", "remote"))
    protocol = _known_word(said.get("protocol"), {"udp", "tcp"})
    through = _known_word(said.get("relay"), {"udp", "tcp", "tls"})
    via = f" (over {through})" if local == "relay" and through else ""
    return f"{local}{via} to {remote}" + (f" over {protocol}" if protocol else "")


def is_relayed(said: Json) -> bool:
    """Whether a path goes through a relay, at either end."""
    return "relay" in (said.get("local"), said.get("remote"))


def _known_word(said: object, words: set[str]) -> str:
    """The word, if it is one of those: what the network tells is not repeated as it is."""
    return said if isinstance(said, str) and said in words else ""


def _switch_over(said: Json) -> str:
    steps = (("noticed_ms", "noticed"), ("registered_ms", "registered again"), ("media_ms", "media back"))
    taken = [(words, milliseconds(said, name)) for name, words in steps]
    told = ", ".join(f"{words} after {took / 1000:.1f} s" for words, took in taken if took is not None)
    ended = "failed" if said.get("result") == "failed" else "was made"
    return f"a switch-over {ended}: {told}" if told else f"a switch-over {ended}"


def _took(happening: Happening) -> int:
    """How long a happening had been under way at its time, in ms: a switch-over is told of once it is over."""
    if happening.what != "switch-over":
        return 0
    steps = ("socket_ms", "registered_ms", "reinvite_ms", "media_ms")
    took = max(milliseconds(happening.fields, name) or 0 for name in steps)
    return took + (milliseconds(happening.fields, "noticed_ms") or 0)


def milliseconds(said: Json, name: str) -> int | None:
    """A field that is a duration, as far as it is believed; None where it is none."""
    value = said.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        return None
    return round(min(value, LONGEST_CHANGE_MS))


def _joined(changes: Iterable[Change]) -> list[tuple[int, int]]:
    """When there were changes: times that do not overlap, in order."""
    joined: list[tuple[int, int]] = []
    for since, until in sorted((change.since, change.until) for change in changes):
        if joined and since <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(joined[-1][1], until)
        else:
            joined.append((since, until))
    return joined


def _is_in(windows: Sequence[tuple[int, int]], since: int, until: int) -> bool:
    """Whether one of them and this time overlap."""
    place = bisect_left(windows, since, key=lambda window: window[1])
    return place < len(windows) and windows[place][0] < until


def _note(made: dict[int, Minute], started_at: int, changes: Iterable[Change]) -> None:
    """Tell each minute of the changes that may have spoilt it."""
    for change in changes:
        for start, _ in _slices(change.since, change.until + 1, started_at):
            if start in made:
                made[start].changes.append(change)
