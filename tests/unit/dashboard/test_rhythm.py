"""The ping interval at a time, from the pings around it."""

from companion.dashboard.rhythm import Rhythm

LEAST_MS = 3000


def test_interval_of_then() -> None:
    """An operator who shortens the interval sees no silence between the pings of before."""
    slow, fast = list(range(0, 2_400_000, 240_000)), list(range(2_400_000, 2_430_000, LEAST_MS))
    rhythm = Rhythm([*fast, *slow], LEAST_MS)
    assert (rhythm.interval_ms(1_000_000), rhythm.interval_ms(2_427_000)) == (240_000, LEAST_MS)
    assert not rhythm.is_silence(240_000, 480_000)


def test_silence_stays() -> None:
    """A silence among regular pings is one, however long it is."""
    rhythm = Rhythm([*range(0, 60_000, LEAST_MS), *range(3_600_000, 3_660_000, LEAST_MS)], LEAST_MS)
    assert rhythm.is_silence(57_000, 3_600_000)
    assert not rhythm.is_silence(54_000, 57_000)


def test_few_pings() -> None:
    """Few pings tell no interval: the configured one holds."""
    assert Rhythm([0, 240_000, 480_000], LEAST_MS).interval_ms(240_000) == LEAST_MS
