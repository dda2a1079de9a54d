"""Whose fault a bad call was: the rules one by one, and what never happens whatever one sends."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from companion.media import verdict as verdicts
from companion.media.report import Happening, MediaSample
from companion.media.verdict import judge, judge_minute
from companion.media.verdict_rules import CAUSES, Cause
from tests.unit.media.samples import OPUS, START, any_samples, call, case, happening, pings, second, seconds, verdict

FINE = pings(40, 50, 45, 60, 44, 48, 51)
LOSSY: dict[str, Any] = {"packets": 47, "lost": 3, "rtt_ms": 310.0}
SILENT: dict[str, Any] = {"packets": 0, "rtt_ms": None}
RELAY = happening(0.1, "path", local="relay", remote="srflx", protocol="udp", relay="udp")


@pytest.mark.parametrize(
    ("samples", "happenings", "what"),
    [
        # the media's way
        (seconds(1, 60), [], "good"),
        (seconds(1, 60, **LOSSY), [], "media"),
        (seconds(1, 60, **LOSSY), [RELAY], "media"),
        (seconds(1, 60, rtt_ms=700.0), [], "media"),
        (seconds(1, 60, rtt_ms=700.0, buffer_ms=400.0), [], "media"),
        (seconds(1, 60, jitter_ms=120.0, buffer_ms=400.0), [], "media"),
        ([*seconds(1, 30), *seconds(31, 20, **SILENT)], [], "media"),
        (seconds(1, 30, **SILENT), [], "media"),
        # loss that is made up for is loss
        (seconds(1, 60, packets=46, lost=4, concealed=0.12), [], "media"),
        # late packets are lost to the ear, and not the device's doing
        (seconds(1, 60, jitter_ms=90.0, concealed=0.2), [], "media"),
        # the device
        (seconds(1, 60, concealed=0.2), [], "device"),
        (seconds(1, 60, concealed=0.2, flags=("hidden",)), [], "device"),
        (seconds(1, 60, buffer_ms=420.0), [], "device"),
        ([*seconds(1, 10), second(70, ms=60_000, flags=("gap",), **SILENT)], [], "device"),
        (seconds(1, 60, packets=0, flags=("muted",)), [], "device"),
        # little made-up sound is normal
        (seconds(1, 60, concealed=0.05), [], "good"),
        # the network
        ([*seconds(1, 30), *seconds(31, 8, flags=("offline",), **SILENT), *seconds(39, 20)], [], "network"),
        (
            [*seconds(1, 30), *seconds(31, 8, **SILENT), *seconds(39, 20)],
            [happening(33, "switch-over", noticed_ms=1500, media_ms=4000, result="resumed")],
            "network",
        ),
        # a change does not excuse what was bad all along
        (seconds(1, 60, **LOSSY), [happening(30, "restart")], "media"),
        # nothing known
        ([], [], "unknown"),
        (seconds(1, 4), [], "unknown"),
        (seconds(1, 4, **LOSSY), [], "unknown"),
        (seconds(1, 60, rtt_ms=None), [], "unknown"),
        (seconds(1, 60, packets=None, concealed=0.4), [], "unknown"),
        (seconds(1, 60, packets=0, flags=("held",)), [], "unknown"),
    ],
)
def test_rules(samples: list[MediaSample], happenings: list[Happening], what: Cause) -> None:
    """Each kind of trouble is blamed on what caused it, while the signalling path is fine."""
    call_verdict = verdict(samples, *happenings, pings=FINE)
    assert what == call_verdict.what
    assert call_verdict.evidence
    assert {minute.what for minute in call_verdict.bad_minutes} <= {what}


@pytest.mark.parametrize(
    ("device_pings", "what"),
    [
        ([], "media"),
        (pings(40, 50, 45, 60), "media"),
        (pings(40, None, 45, 60), "media"),
        (pings(None, None, None, None), "signalling"),
        (pings(40, None, 700, 50), "signalling"),
        (pings(399, 399, 399, 399), "media"),
        (pings(400, 400, 400, 400), "signalling"),
        # long before, and long after
        (pings(None, None, None, None, first=-600), "media"),
        (pings(None, None, None, None, first=600), "media"),
    ],
)
def test_the_line_of_the_device(device_pings: Any, what: Cause) -> None:
    """Where half of the pings around a bad minute were lost or slow, it is on the way that pings and media share."""
    call_verdict = verdict(seconds(1, 60, **LOSSY), pings=device_pings)
    assert what == call_verdict.what
    assert what == call_verdict.bad_minutes[0].what


def test_bad_pings_in_a_call_that_sounds_good() -> None:
    """Good media over a bad signalling path is a bad signalling path: the next call may not come about."""
    call_verdict = verdict(seconds(1, 60), pings=pings(None, 800, None, 900))
    assert (call_verdict.what, call_verdict.bad_minutes) == ("signalling", [])
    assert call_verdict.evidence[0] == "the signalling path was bad: 4 pings, 2 lost, the slowest answer took 900 ms"


@pytest.mark.parametrize(
    ("end", "happenings", "device_pings", "what"),
    [
        ("failed", [], FINE, "unknown"),
        ("failed", [], pings(None, None), "signalling"),
        ("failed", [happening(55, "offline")], FINE, "network"),
        ("lost", [], FINE, "media"),
        ("lost", [], pings(None, None), "signalling"),
        ("lost", [happening(55, "offline")], FINE, "network"),
        ("lost", [happening(20, "restart")], FINE, "media"),
        ("hangup", [], FINE, "good"),
        ("closed", [], FINE, "good"),
        ("", [], FINE, "good"),
    ],
)
def test_ends(end: str, happenings: list[Happening], device_pings: Any, what: Cause) -> None:
    """A call that was lost is no good one, however good it sounded; one that failed need not be anybody's fault."""
    call_verdict = verdict(seconds(1, 60), *happenings, pings=device_pings, end=end, ended_at=START + 60_000)
    assert what == call_verdict.what


def test_evidence_of_a_failure_behind_good_media() -> None:
    """Of a call that failed after it sounded good nothing is said to be missing."""
    call_verdict = verdict(seconds(1, 60), pings=FINE, end="failed", ended_at=START + 60_000)
    assert call_verdict.evidence[0] == "the call failed, and nothing was bad before"
    assert not any("insufficient" in sentence for sentence in call_verdict.evidence)


def test_evidence_of_the_media() -> None:
    """The evidence is plain sentences with the figures."""
    call_verdict = verdict([*seconds(1, 60), *seconds(61, 120, packets=949, lost=51, rtt_ms=310.0)], RELAY, pings=FINE)
    assert call_verdict.evidence == [
        "bad minutes: 2 of 3",
        "5.1 % of packets lost, round trip 310 ms through a relay, jitter 4 ms",
        "MOS 2.6; points of R lost: loss 32, delay 10",
        "the signalling path was good: 5 pings, the slowest answer took 60 ms",
    ]


def test_evidence_of_the_device() -> None:
    """It tells that the packets came well, and what the page was doing meanwhile."""
    call_verdict = verdict(seconds(1, 45, concealed=0.24, flags=("hidden",)))
    assert call_verdict.evidence == [
        "bad minutes: 1 of 1",
        "24.0 % of what was played was made up",
        "0.0 % of packets lost, round trip 40 ms, jitter 4 ms",
        "the page was in the background for 45 s",
        "MOS 4.4; points of R lost: delay 2",
        "no ping of that time is known: nothing can be said of the signalling path",
    ]


def test_evidence_of_the_network() -> None:
    """It tells for how long there was none, how the switch-over went, and that it was good apart from that."""
    samples = [*seconds(1, 30), *seconds(31, 8, flags=("offline",), **SILENT), *seconds(39, 20)]
    steps: dict[str, Any] = {"noticed_ms": 800, "registered_ms": 1200, "media_ms": 3400, "result": "resumed"}
    happenings = [happening(31, "offline"), happening(38, "online"), happening(39, "switch-over", **steps)]
    (minute,) = verdict(samples, *happenings).bad_minutes
    assert minute.evidence == [
        "offline for 8 s",
        "a switch-over was made: noticed after 0.8 s, registered again after 1.2 s, media back after 3.4 s",
        "nothing came in for 8 s, though neither muted nor held",
        "away from it the sound was good enough: MOS 4.4",
    ]


def test_evidence_says_how_little_is_known() -> None:
    """What keeps a call from being judged is said."""
    assert verdict([]).evidence[0] == "insufficient data: there are no media samples"
    assert verdict(seconds(1, 3)).evidence[0] == "insufficient data: 3 s of 3 s could be scored"
    without_trip = verdict(seconds(1, 30, rtt_ms=None)).evidence[0]
    assert without_trip == "insufficient data: 0 s of 30 s could be scored; no round trip is known"
    assert "the codec is not known" in verdict(seconds(1, 30), codec=None).evidence[0]


def test_the_most_frequent_cause_is_the_calls() -> None:
    """A call is blamed on what most of its bad minutes are; the others are told of."""
    samples = [*seconds(1, 120, **LOSSY), *seconds(121, 60, concealed=0.3)]
    call_verdict = verdict(samples)
    assert (call_verdict.what, call_verdict.evidence[0]) == ("media", "bad minutes: 3 of 3, of them 1 device")
    assert [minute.what for minute in call_verdict.bad_minutes] == ["media", "media", "device"]


def test_many_changes_are_cut() -> None:
    """However often a hostile page changes its path, the evidence stays short."""
    changes = [happening(30 + n / 100, "path", n=10_000 + n, local="host", local_address=f"{n}") for n in range(300)]
    call_verdict = verdict([*seconds(1, 30), *seconds(31, 8, **SILENT)], *changes)
    assert len(call_verdict.evidence) < 12


def test_ready_for_json() -> None:
    """A verdict is ready for JSON, its times in ISO 8601."""
    rendered = verdicts.render_verdict(verdict(seconds(1, 60, **LOSSY)))
    assert msgspec.json.decode(msgspec.json.encode(rendered)) == rendered
    assert rendered["bad_minutes"][0]["at"] == "2026-11-24T09:30:00.000Z"


# Whatever comes

happenings = st.lists(
    st.builds(
        Happening,
        n=st.integers(0, 2000),
        at=st.integers(START - 200_000, START + 7_200_000),
        what=st.sampled_from(["path", "codec", "offline", "online", "network", "switch-over", "restart", "muted", "x"]),
        fields=st.dictionaries(
            st.sampled_from(["local", "remote", "type", "in", "noticed_ms", "media_ms", "result", "relay"]),
            st.none() | st.booleans() | st.floats(allow_nan=False) | st.sampled_from(["relay", "host", "wifi", "\x1b"]),
        ),
    ),
    max_size=10,
)
ends = st.sampled_from(["", "hangup", "failed", "lost", "closed"])
any_pings = st.lists(st.none() | st.integers(0, 5000), max_size=8).map(lambda latencies: pings(*latencies))


@settings(deadline=None)
@given(any_samples, happenings, any_pings, ends, st.none() | st.integers(1, 1 << 53))
def test_whatever_comes_is_judged(
    samples: list[MediaSample], events: list[Happening], device_pings: Any, end: str, ended_at: int | None
) -> None:
    """Nothing a browser may send ends in an error, and each verdict is one of ours with printable evidence."""
    call_verdict = verdict(samples, *events, pings=device_pings, end=end, ended_at=ended_at)
    assert call_verdict.what in {*CAUSES, "good", "unknown"}
    assert {minute.what for minute in call_verdict.bad_minutes} <= {*CAUSES, "unknown"}
    assert all(sentence.isprintable() for sentence in call_verdict.evidence)
    assert call_verdict.what != "good" or not call_verdict.bad_minutes


figures = st.fixed_dictionaries(
    {
        "packets": st.integers(0, 60),
        "lost": st.integers(-5, 20),
        "rtt_ms": st.none() | st.floats(0, 1000),
        "jitter_ms": st.floats(0, 200),
        "buffer_ms": st.none() | st.floats(0, 600),
        "concealed": st.none() | st.floats(0, 0.4),
        "flags": st.sampled_from([(), (), (), ("muted",), ("held",), ("hidden",), ("offline",), ("gap",)]),
    }
)
stretches = st.lists(st.tuples(st.integers(1, 70), figures), min_size=1, max_size=4)


def _samples(runs: list[tuple[int, dict[str, Any]]], more: int = 0) -> list[MediaSample]:
    """Stretches of seconds alike, one after the other; with so many packets lost more in each of the seconds."""
    samples: list[MediaSample] = []
    for count, members in runs:
        samples += seconds(len(samples) + 1, count, **{**members, "lost": members["lost"] + more})
    return samples


@settings(deadline=None)
@given(stretches, st.integers(1, 20), any_pings, ends)
def test_more_loss_never_makes_a_call_good(
    runs: list[tuple[int, dict[str, Any]]], more: int, device_pings: Any, end: str
) -> None:
    """A call that is blamed on something is not good when it loses more, nor does a bad minute become a good one."""
    before = verdict(_samples(runs), pings=device_pings, end=end)
    after = verdict(_samples(runs, more), pings=device_pings, end=end)
    if before.what not in ("good", "unknown"):
        assert after.what != "good"
    assert {minute.at for minute in before.bad_minutes} <= {minute.at for minute in after.bad_minutes}


@settings(deadline=None)
@given(stretches, st.sampled_from(["muted", "held"]))
def test_a_quiet_minute_is_no_bad_minute(runs: list[tuple[int, dict[str, Any]]], flag: str) -> None:
    """Muted or held, a minute without a packet is not bad, whatever else was told of it."""
    quiet = {"packets": 0, "flags": (flag,), "concealed": None}
    samples = _samples([(count, {**members, **quiet}) for count, members in runs])
    assert verdict(samples).bad_minutes == []


@settings(deadline=None)
@given(stretches)
def test_a_minute_is_judged_alike_alone(runs: list[tuple[int, dict[str, Any]]]) -> None:
    """The bad minutes of a call are those that are bad by themselves."""
    whole = case(_samples(runs))
    alone = [judge_minute(minute, whole.signalling.count_around(minute)) for minute in whole.minutes]
    assert judge(whole).bad_minutes == [minute for minute in alone if minute]


def test_a_call_without_codec_is_not_blamed_for_its_score() -> None:
    """Where there is no score, silence is still silence."""
    samples = [*seconds(1, 10), *seconds(11, 20, **SILENT)]
    assert verdict(samples, codec=None).what == "media"
    assert call(samples, codec=OPUS)[0].whole.silent_ms == 20_000
