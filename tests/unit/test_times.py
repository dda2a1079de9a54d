"""Test times as text."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from companion.times import iso


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
