"""The verdict of a soak: what it lets pass, and what it does not."""

from collections import Counter

import pytest

from companion.opensips.events import DELETE, INSERT, LATENCY
from tests.soak.faults import FAULTS, Span, is_chosen
from tests.soak.service import Rss
from tests.soak.verdict import Balance, find_medians, has_grown, seconds_late
from tests.soak.watch import Gap

PUBLISHED = Counter({LATENCY: 1000, INSERT: 10, DELETE: 10})


@pytest.mark.parametrize(
    ("stored", "missed", "traceless", "is_exact"),
    [
        ({}, 0, 0, True),
        ({LATENCY: 990}, 10, 0, True),
        ({LATENCY: 990}, 9, 0, False),
        ({LATENCY: 990}, 11, 0, False),
        ({LATENCY: 1001}, 0, 0, False),
        ({INSERT: 8, DELETE: 8}, 2, 2, True),
        ({INSERT: 8, DELETE: 8}, 4, 2, True),
        ({INSERT: 8, DELETE: 8}, 1, 2, False),
    ],
)
def test_balance(stored: dict[str, int], missed: int, traceless: int, is_exact: bool) -> None:  # noqa: FBT001
    """Published is exactly stored and missed; only the end of a contact without any trace may be either."""
    balance = Balance("east", PUBLISHED, Counter({**PUBLISHED, **stored}), missed, traceless)
    assert balance.is_exact is is_exact


def test_late_job() -> None:
    """A job may be late by three intervals, and by the time of the faults meanwhile."""
    gap = Gap("scheduler-1", "summary", 100, 160)
    assert seconds_late(gap, 15, []) > 0
    assert seconds_late(gap, 15, [Span("Redis frozen", 90, 120)]) < 0
    assert seconds_late(gap, 15, [Span("Redis frozen", 161, 200)]) > 0


@pytest.mark.parametrize(("per_minute", "is_grown"), [(0, False), (100_000, False), (5_000_000, True)])
def test_growing_memory(per_minute: int, is_grown: bool) -> None:  # noqa: FBT001
    """Memory that rises after the first five minutes is found, whatever it did before."""
    samples = [
        Rss(second, 1, min(second, 300) * 1_000_000 + per_minute * second // 60) for second in range(0, 1800, 10)
    ]
    assert has_grown(*find_medians(samples, began=0)) is is_grown


def test_choice_of_faults() -> None:
    """Parts of names choose faults; none chooses all."""
    assert all(is_chosen(fault, "") for fault in FAULTS)
    assert {fault.name for fault in FAULTS if is_chosen(fault, "redis f, knock, CURVE")} == {
        *("Redis frozen", "Redis failed over", "Redis full", "wrong CURVE key"),
    }
