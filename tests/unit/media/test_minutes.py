"""A call minute by minute: what is of which minute, what is silence, and what is a change of network."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from companion.media.changes import describe_path, find_changes
from companion.media.minutes import SHORT_MS, Figure, build_minutes, build_moments
from companion.media.report import Happening
from companion.times import MINUTE_MS
from tests.unit.media.samples import OPUS, START, any_samples, call, happening, second, seconds


def test_minutes_count_from_the_start() -> None:
    """A call of two and a half minutes has three, the last of thirty seconds, whatever the time of day."""
    made = call(seconds(1, 150))
    assert [minute.at - START for minute in made] == [0, 60_000, 120_000]
    assert [minute.whole.ms for minute in made] == [60_000, 60_000, 30_000]
    assert [minute.whole.packets for minute in made] == [3000, 3000, 1500]


def test_clocks_that_are_a_little_off() -> None:
    """A call whose samples begin and end some milliseconds beside it has no minute more for that."""
    for off in (-40, 40):
        made = call([second(n, at=START + n * 1000 + off) for n in range(1, 121)])
        assert [minute.whole.ms for minute in made] == [60_000, 60_000]


def test_means_are_by_time() -> None:
    """An interval of nine seconds weighs as much as nine of one second."""
    (minute,) = call([second(1, rtt_ms=100.0), second(10, ms=9000, rtt_ms=200.0)])
    assert minute.whole.rtt_ms.mean == 190
    assert minute.whole.rtt_ms.highest == 200


def test_a_long_interval_is_of_all_its_minutes() -> None:
    """What came in while timers were throttled is spread over the minutes it took."""
    long = second(1, at=START + 150_000, ms=120_000, packets=6000, flags=("gap",))
    made = call([long])
    assert [minute.whole.ms for minute in made] == [30_000, 60_000, 30_000]
    assert [round(minute.whole.packets) for minute in made] == [1500, 3000, 1500]
    assert [minute.flags["gap"] for minute in made] == [30_000, 60_000, 30_000]


def test_intervals_that_overlap_count_once() -> None:
    """Intervals that claim the same time fill it once: hostile ones make no endless call."""
    made = call([second(n, at=START + 60_000 + n, ms=3_600_000) for n in range(1, 500)])
    assert sum(minute.whole.ms for minute in made) <= 3_600_000 + 1000
    assert len(made) <= 62


def test_a_gap_has_no_minutes() -> None:
    """A minute nobody told of is not there."""
    made = call([*seconds(1, 10), *seconds(200, 10)])
    assert [minute.at - START for minute in made] == [0, 180_000]


@pytest.mark.parametrize(
    ("figures", "before", "silent_ms"),
    [
        ({"packets": 0}, 10, 5000),
        ({"packets": 0, "flags": ("muted",)}, 10, 0),
        ({"packets": 0, "flags": ("held",)}, 10, 0),
        ({"packets": 0, "flags": ("hidden",)}, 10, 5000),
        ({"packets": None}, 10, 0),
        ({"packets": 1}, 10, 0),
        ({"packets": 0, "sent": 0}, 10, 5000),
        ({"packets": 0, "sent": 0}, 0, 0),
        ({"packets": 0, "sent": 50}, 0, 5000),
    ],
)
def test_silence(figures: dict[str, Any], before: int, silent_ms: int) -> None:
    """Silent is what is neither muted nor held nor ringing, and got no packet; what is not known is not silence."""
    (minute,) = call([*seconds(1, before), *seconds(before + 1, 5, **figures)])
    assert minute.whole.silent_ms == silent_ms


def test_asleep() -> None:
    """Silence in which no timer ran is told apart: the machine slept."""
    (minute,) = call([*seconds(1, 10), second(30, ms=20_000, packets=0, flags=("gap",)), second(31, packets=0)])
    assert (minute.whole.silent_ms, minute.whole.asleep_ms) == (21_000, 20_000)


def test_codec_and_path_hold_until_the_next() -> None:
    """A sample is scored with the codec, and is of the path, that the happenings before it told of."""
    happenings = [
        OPUS,
        happening(6, "path", local="relay", remote="host"),
        Happening(n=151, at=START, what="codec", fields={"in": "G722/8000"}),
        Happening(n=152, at=START, what="path", fields={"local": "host"}),
        Happening(n=181, at=START, what="codec", fields={"in": 5, "out": "opus/48000/2"}),
    ]
    made = build_moments([second(n) for n in (5, 12, 16, 20)], happenings)
    assert [moment.relay for moment in made] == [None, True, False, False]
    assert [moment.score is not None for moment in made] == [True, True, False, False]


def test_a_second_comes_once() -> None:
    """Of two samples with one number the first is taken."""
    assert len(build_moments([second(3), second(3, packets=7), second(2)], [OPUS])) == 2


@pytest.mark.parametrize("flag", ["muted", "held"])
def test_quiet_seconds_are_not_scored(flag: Any) -> None:
    """Where nothing was meant to be heard there is no score, even if a packet was counted as lost."""
    (moment,) = build_moments([second(1, packets=0, lost=3, flags=(flag,))], [OPUS])
    assert moment.score is None


# Changes of network


@pytest.mark.parametrize(
    ("happenings", "sentences"),
    [
        ([("offline", {})], ["the device went offline"]),
        ([("online", {})], ["the device was online again"]),
        ([("restart", {})], ["ICE was restarted"]),
        ([("path", {"local": "host", "remote": "host"})], []),
        ([("path", {"local": "host", "remote": "host"}), ("path", {"local": "host", "remote": "host"})], []),
        (
            [("path", {"local": "host", "remote": "srflx"}), ("path", {"local": "relay", "remote": "srflx"})],
            ["the media's path changed from host to srflx to relay to srflx"],
        ),
        (
            [("path", {"local": "host", "local_address": a}) for a in ("198.51.100.0", "203.0.113.0")],
            ["the media's path changed"],
        ),
        ([("network", {"type": "wifi"})], []),
        ([("network", {"type": "wifi"}), ("network", {"type": "wifi", "rtt_ms": 50})], []),
        (
            [("network", {"type": "wifi"}), ("network", {"type": "cellular"})],
            ["the network changed from wifi to cellular"],
        ),
        ([("network", {"type": "\x1b[31m"}), ("network", {"type": "wifi"})], []),
        ([("switch-over", {})], ["a switch-over was made"]),
        (
            [("switch-over", {"noticed_ms": 1234, "media_ms": 3000.4, "result": "failed"})],
            ["a switch-over failed: noticed after 1.2 s, media back after 3.0 s"],
        ),
        ([("switch-over", {"noticed_ms": True, "media_ms": "x", "registered_ms": -1})], ["a switch-over was made"]),
        ([("switch-over", {"media_ms": 1e300})], ["a switch-over was made: media back after 120.0 s"]),
        ([("codec", {"in": "opus/48000/2"}), ("ice", {"state": "disconnected"}), ("x-new", {})], []),
    ],
)
def test_changes(happenings: list[tuple[str, dict[str, Any]]], sentences: list[str]) -> None:
    """A change is told in our words; how it all began is none, and a figure that is none is not believed."""
    made = [Happening(n=n, at=START + n, what=what, fields=fields) for n, (what, fields) in enumerate(happenings)]
    assert sentences == [change.sentence for change in find_changes(made)]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"local": "host", "remote": "host", "protocol": "udp"}, "host to host over udp"),
        (
            {"local": "relay", "remote": "srflx", "protocol": "udp", "relay": "tls"},
            "relay (over tls) to srflx over udp",
        ),
        ({"local": "<b>", "remote": 5, "protocol": None}, "unknown to unknown"),
        ({}, "unknown to unknown"),
    ],
)
def test_paths_in_words(fields: dict[str, Any], words: str) -> None:
    """A path is told in words that we know."""
    assert words == describe_path(fields)


def test_steady_is_what_is_not_near_a_change() -> None:
    """The seconds around a change, and those offline, are left out of what is steady; the minutes are told of it."""
    made = call(seconds(1, 120), happening(30, "restart"))
    assert [minute.whole.ms - minute.steady.ms for minute in made] == [16_000, 0]
    assert [len(minute.changes) for minute in made] == [1, 0]
    (minute,) = call([*seconds(1, 10), *seconds(11, 10, flags=("offline",))])
    assert minute.steady.ms == 10_000


def test_a_change_at_the_end_of_a_minute_is_of_both() -> None:
    """What a change spoils may be of two minutes."""
    first, second_ = call(seconds(1, 120), happening(58, "restart"))
    assert (first.whole.ms - first.steady.ms, second_.whole.ms - second_.steady.ms) == (7_000, 9_000)
    assert first.changes == second_.changes


@settings(deadline=None)
@given(any_samples)
def test_minutes_hold_all_samples(samples: list[Any]) -> None:
    """Minutes come in order, hold a minute at most each, and no packet is in two of them or none."""
    made = build_minutes(START, build_moments(samples, [OPUS]), [])
    assert [minute.at for minute in made] == sorted({minute.at for minute in made})
    assert all(0 < minute.whole.ms <= MINUTE_MS + SHORT_MS + len(samples) for minute in made)
    packets = sum(moment.sample.incoming.packets or 0 for moment in build_moments(samples, [OPUS]))
    assert sum(minute.whole.packets for minute in made) == pytest.approx(packets)


@settings(deadline=None)
@given(st.lists(st.tuples(st.none() | st.floats(-1e6, 1e6), st.floats(1, 1e6))), st.integers(0, 20))
def test_figures_join(values: list[tuple[float | None, float]], at: int) -> None:
    """The mean of two parts joined is the mean of all."""
    whole, one, other = Figure(), Figure(), Figure()
    for value, ms in values:
        whole.add(value, ms)
    for value, ms in values[:at]:
        one.add(value, ms)
    for value, ms in values[at:]:
        other.add(value, ms)
    one.join(other)
    assert one.highest == whole.highest
    assert one.ms == pytest.approx(whole.ms)
    assert one.mean == (None if whole.mean is None else pytest.approx(whole.mean, abs=1e-3))
