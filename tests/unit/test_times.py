"""Test times as text."""

import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from companion.errors import UsageError
from companion.times import DAY_MS, epoch_ms, format_duration, format_seconds, iso, now_ms, parse_duration


@given(st.integers(1, 7_000_000_000_000))
def test_iso(at: int) -> None:
    """A time as text is the same millisecond, in UTC."""
    text = iso(at)
    assert text is not None
    assert text.endswith("Z")
    since = datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC)
    assert at == round(since.total_seconds() * 1000)


def test_iso_of_never() -> None:
    """Never is no time."""
    assert iso(0) is None
    assert iso(1_795_452_109_605) == "2026-11-23T16:41:49.605Z"


def test_now_is_epoch_milliseconds() -> None:
    """The present is counted in whole milliseconds since 1970."""
    before, now, after = time.time_ns(), now_ms(), time.time_ns()
    assert before // 1_000_000 <= now + 1
    assert now <= after // 1_000_000 + 1


def test_epoch_ms() -> None:
    """An ISO 8601 time of any zone is the same millisecond."""
    assert epoch_ms("2026-11-23T16:41:49.605Z") == epoch_ms("2026-11-23T17:41:49.605+01:00") == 1_795_452_109_605


@pytest.mark.parametrize(
    ("ms", "words"),
    [
        (0, "0 ms"),
        (99, "99 ms"),
        (1_000, "1 s"),
        (1_400, "1.4 s"),
        (60_000, "1 min"),
        (61_000, "1 min 1 s"),
        (3_700_000, "1 h 1 min"),
        (90_000_000, "1 d 1 h"),
        (DAY_MS + 60_000, "1 d"),
    ],
)
def test_format_duration(ms: int, words: str) -> None:
    """A duration has two units at most."""
    assert words == format_duration(ms)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (59, "59 s"), (60, "1 min"), (200, "3 min 20 s"), (3_700, "1 h 1 min"), (604_800, "7 d")],
)
def test_format_seconds(seconds: int, words: str) -> None:
    """A duration in whole seconds never shows milliseconds."""
    assert words == format_seconds(seconds)


@given(st.integers(60_000, 10 * DAY_MS))
def test_formats_agree(ms: int) -> None:
    """From a minute on both formats say the same."""
    assert format_seconds(ms // 1000) == format_duration(ms)


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1_800), ("2h", 7_200), ("1d", 86_400)])
def test_parse_duration(text: str, seconds: int) -> None:
    """A duration is a number and a unit."""
    assert seconds == parse_duration(text)


@pytest.mark.parametrize("text", ["", "0s", "30", "m", "-1h", "1.5h", "1 h", "2w", "\u0663m", "9999999999s"])
def test_parse_of_no_duration(text: str) -> None:
    """Anything else is refused, with examples of what to write."""
    with pytest.raises(UsageError, match="30m"):
        parse_duration(text)
