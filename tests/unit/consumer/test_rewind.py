"""Test which batches are kept to be written again."""

from companion.consumer import rewind
from companion.consumer.rewind import Rewind
from companion.store.batch import Prepared


def make_batch(number: int) -> Prepared:
    return Prepared([("key", number, 0)], [], [], [], [], [])


def test_the_last_seconds_are_kept() -> None:
    """A batch goes when it is too old beside the last one that Redis acknowledged."""
    now = 0.0
    kept = Rewind(lambda: now)
    kept.keep(make_batch(1), 10)
    now = rewind.SECONDS
    kept.keep(make_batch(2), 10)
    kept.trim()
    assert kept.batches() == [make_batch(1), make_batch(2)]
    now += 0.1
    kept.keep(make_batch(3), 10)
    kept.trim()
    assert kept.batches() == [make_batch(2), make_batch(3)]


def test_an_outage_makes_no_batch_too_old() -> None:
    """It takes longer than the seconds kept to find out that a master is gone: its last batches are there."""
    now = 0.0
    kept = Rewind(lambda: now)
    for number in range(3):
        kept.keep(make_batch(number), 10)
        kept.trim()
    now += 10 * rewind.SECONDS
    kept.keep(make_batch(3), 10)
    kept.keep(make_batch(4), 10)
    assert kept.batches() == [make_batch(number) for number in range(5)]
    kept.trim()
    assert kept.batches() == [make_batch(3), make_batch(4)]


def test_what_is_kept_is_bounded() -> None:
    """The oldest batches go when there are too many events, but never the last one."""
    kept = Rewind(lambda: 0.0)
    for number in range(3):
        kept.keep(make_batch(number), rewind.MAX_EVENTS // 2)
    assert kept.batches() == [make_batch(1), make_batch(2)]
    kept.keep(make_batch(3), 2 * rewind.MAX_EVENTS)
    assert kept.batches() == [make_batch(3)]
    kept.clear()
    assert kept.batches() == []


def test_a_batch_that_writes_nothing_is_not_kept() -> None:
    """A quiet consumer writes each second: what it keeps must not grow, nor age."""
    kept = Rewind(lambda: 0.0)
    kept.keep(make_batch(1), 10)
    kept.keep(Prepared([], [], [[("SET", "format", 2, "NX"), ("SET", "shards", 1, "NX")], [], []], [], [], []), 0)
    assert kept.batches() == [make_batch(1)]
