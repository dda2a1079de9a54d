"""Strangers at the bus are logged, but can not fill the log."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.event_zeromq.library import Library, Refusals

MINUTE_MS = 60_000
START_MS = 1000


def test_a_new_key_each_time(library: Library) -> None:
    """A stranger with a new key each time gets one line a minute, which tells how many refusals it stands for."""
    refusals = Refusals(library)
    lines = [refusals.count(f"key{turn}", START_MS + turn * 100) for turn in range(3 * MINUTE_MS // 100)]
    assert [line for line in lines if line] == [1, 600, 600]


def test_the_same_key(library: Library) -> None:
    """A subscriber that tries its key again and again is named once; after a minute of silence it is news again."""
    refusals = Refusals(library)
    assert [refusals.count("key", START_MS + second * 1000) for second in range(300)] == [1, *[0] * 299]
    assert refusals.count("key", START_MS + 299 * 1000 + MINUTE_MS) == 300


def test_another_key(library: Library) -> None:
    """A second key is named as soon as a minute has passed, though the first one is tried all the time."""
    refusals = Refusals(library)
    assert refusals.count("first", START_MS) == 1
    assert refusals.count("first", START_MS + MINUTE_MS - 1) == 0
    assert refusals.count("second", START_MS + MINUTE_MS) == 2


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "c", ""]), st.integers(0, 40_000)), max_size=40))
def test_any_strangers(library: Library, attempts: list[tuple[str, int]]) -> None:
    """Whoever comes, lines are a minute apart, and they stand for all refusals up to the last line."""
    refusals, now, counted, lines = Refusals(library), START_MS, 0, []
    for refused, (key, passed) in enumerate(attempts, 1):
        now += passed
        if count := refusals.count(key, now):
            counted += count
            lines.append(now)
            assert counted == refused
    assert all(late - early >= MINUTE_MS for early, late in pairwise(lines))
