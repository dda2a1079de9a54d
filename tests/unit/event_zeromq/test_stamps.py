"""The times of event_zeromq are those of the bridge."""

from hypothesis import given
from hypothesis import strategies as st

from companion.bridge.stamps import Stamps as BridgeStamps
from companion.steady_clock import SteadyClock
from tests.unit.event_zeromq.library import SECOND_NS, Clock, Library, Stamps


@given(st.lists(st.tuples(st.sampled_from(["alice", "bob", "carol", "", None]), st.integers(0, 3)), max_size=60))
def test_stamps(library: Library, calls: list[tuple[str | None, int]]) -> None:
    """The same events at the same times get the same stamps from both publishers."""
    now = 1000
    stamps, bridge = Stamps(library), BridgeStamps(lambda: now)
    for aor, passed in calls:
        now += passed
        assert stamps.next(aor, now) == bridge.next(aor)


@given(st.lists(st.tuples(st.integers(0, 5_000), st.integers(-3_000, 3_000)), max_size=20))
def test_clock(library: Library, turns: list[tuple[int, int]]) -> None:
    """The same settings of the machine's clock are ignored and followed by both publishers."""
    wall, steady = 1_000_000, 0
    bridge = SteadyClock(lambda: wall / 1000, lambda: steady / 1000)
    clock = Clock(library, wall * SECOND_NS // 1000, 0)
    for passed, step in turns:
        steady += passed
        wall += passed + step
        assert clock.follow(wall * SECOND_NS // 1000, steady * SECOND_NS // 1000) == bridge.follow()
        assert abs(clock.now_ms(steady * SECOND_NS // 1000) - bridge.now()) <= 1


def test_a_shared_slot(library: Library) -> None:
    """More AORs than the table has slots still get times that rise for each of them."""
    stamps, last = Stamps(library), dict.fromkeys(range(70_000), 0)
    for now in (1000, 1000):
        for number, before in last.items():
            last[number] = stamps.next(f"user{number}", now)
            assert last[number] > before
    assert max(last.values()) < 1100
