"""The breaker: it opens with a mass event, and closes so that the questions decide, or not at all."""

import pytest

from companion.config import RemediationSection
from companion.remediation.breaker import (
    Group,
    GroupTotals,
    collect_failures,
    count_group,
    is_mass_event,
    update_breaker,
)
from companion.store.breakers import BreakerState
from tests.unit.remediation.test_policy import contact

NOW = 1_795_452_109_605
SECOND = 1000
SETTINGS = RemediationSection(breaker_calm=60)


@pytest.mark.parametrize(
    ("failing", "contacts", "expected"),
    [
        (50, 100, False),
        (51, 100, True),
        (51, 255, False),
        (52, 255, True),
        (200, 1000, False),
        (201, 1000, True),
        (4, 4, False),
        (5, 9, True),
        (5, 10, False),
        (45, 45, True),
        (50, 70, True),
    ],
)
def test_mass_event(failing: int, contacts: int, expected: bool) -> None:  # noqa: FBT001
    """More than 50 and more than a fifth at once are a mass event, and so are five that are over half."""
    assert is_mass_event(failing, contacts, SETTINGS) is expected


def crowd(count: int, since: int, *, can_ask: bool = True) -> Group:
    return Group([since] * count, 45, can_ask)


def test_life_of_a_breaker() -> None:
    """It opens, stays open while new failures come, closes after the calm, and the same failures do not reopen it."""
    state = update_breaker(BreakerState(), crowd(45, NOW), SETTINGS, NOW)
    assert state.opened_at == NOW
    state = update_breaker(state, crowd(45, NOW + 30 * SECOND), SETTINGS, NOW + 50 * SECOND)
    assert state.opened_at == NOW
    state = update_breaker(state, crowd(45, NOW + 30 * SECOND), SETTINGS, NOW + 109 * SECOND)
    assert state.opened_at == NOW
    state = update_breaker(state, crowd(45, NOW + 30 * SECOND), SETTINGS, NOW + 110 * SECOND)
    assert state.opened_at == 0
    state = update_breaker(state, crowd(45, NOW + 30 * SECOND), SETTINGS, NOW + 125 * SECOND)
    assert state.opened_at == 0


def test_without_questions_it_stays_open() -> None:
    """Where phones can not be asked, nothing is removed as long as the mass event lasts."""
    state, group = BreakerState(), crowd(45, NOW, can_ask=False)
    for seconds in range(0, 3600, 15):
        state = update_breaker(state, group, SETTINGS, NOW + seconds * SECOND)
        assert state.opened_at == NOW
    calm = Group([], 45, can_ask=False)
    state = update_breaker(state, calm, SETTINGS, NOW + 3700 * SECOND)
    assert state.opened_at == 0


@pytest.mark.parametrize("can_ask", [True, False])
@pytest.mark.parametrize("gap", [15, 30, 45])
def test_single_failures(gap: int, can_ask: bool) -> None:  # noqa: FBT001
    """Single failures, however often they come, do not hold the breaker of a large fleet open."""
    mass, churn, state = [NOW] * 3000, [0] * 5, BreakerState()
    for seconds in range(0, 900, 15):
        now = NOW + seconds * SECOND
        if seconds % gap == 0:
            churn = [*churn[1:], now]
        failures = [*churn, *mass] if seconds < 600 else churn
        state = update_breaker(state, Group(failures, 10_000, can_ask), SETTINGS, now)
        assert bool(state.opened_at) == (seconds < (60 if can_ask else 645)), seconds


def test_mass_in_steps() -> None:
    """It stays open as long as further parts of the group fail, each a mass event by itself."""
    state, failures = BreakerState(), list[int]()
    for step in range(4):
        now = NOW + step * 45 * SECOND
        failures += [now] * 250
        state = update_breaker(state, Group(failures, 1000, can_ask=True), SETTINGS, now)
        assert state.opened_at == NOW
    assert update_breaker(state, Group(failures, 1000, can_ask=True), SETTINGS, now + 59 * SECOND).opened_at
    assert not update_breaker(state, Group(failures, 1000, can_ask=True), SETTINGS, now + 60 * SECOND).opened_at


def test_a_new_mass_event() -> None:
    """Failures that are newer than the last mass event open it again."""
    passed = BreakerState(0, NOW, NOW, NOW)
    assert update_breaker(passed, crowd(45, NOW + 1), SETTINGS, NOW + 15 * SECOND).opened_at


def test_a_clock_that_went_back() -> None:
    """A mass event of the future, before a clock was set back, hides no failure of today."""
    passed = BreakerState(0, NOW, NOW, NOW)
    assert update_breaker(passed, crowd(45, NOW - 3600 * SECOND), SETTINGS, NOW - 3599 * SECOND).opened_at


def test_groups() -> None:
    """A contact fails in its node, its cluster and its network."""
    failing = contact(consecutive_lost=3, lost_since=NOW)
    assert collect_failures([failing]) == {"n": [NOW], "cluster:c": [NOW], "network:192.0.2.0/24": [NOW]}


def test_counts() -> None:
    """A cluster has the contacts of its nodes; a network nobody counted has no breaker."""
    totals, clusters = (
        GroupTotals({"n1": 3, "n2": 4, "far": 9}, {"192.0.2.0/24": 7}),
        {"n1": "c", "n2": "c", "far": "far"},
    )
    assert count_group("cluster:c", totals, clusters) == 7
    assert count_group("n2", totals, clusters) == 4
    assert count_group("network:192.0.2.0/24", totals, clusters) == 7
    assert count_group("network:198.51.100.0/24", totals, clusters) is None


def test_clock_set_back() -> None:
    """A breaker that opened before the clock was set back closes after its calm, not after the size of the step."""
    set_back = NOW - 3600 * SECOND
    state = update_breaker(BreakerState(NOW, NOW, NOW), crowd(0, 0), SETTINGS, set_back)
    assert state.opened_at
    assert update_breaker(state, crowd(0, 0), SETTINGS, set_back + 59 * SECOND).opened_at
    assert not update_breaker(state, crowd(0, 0), SETTINGS, set_back + 60 * SECOND).opened_at
