"""Events from the future are refused, those of a bridge that has not yet noticed a step back are not."""

from companion.consumer.future_limit import AHEAD_MS, FOLLOW_SECONDS, FutureLimit

NOW = 1_795_452_109.0
HOUR = 3600.0


class Clocks:
    """The machine's clock, which can be set, and one that only advances; seconds."""

    def __init__(self) -> None:
        self.wall, self.steady = NOW, 50.0

    def advance(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds


def make_limit(clocks: Clocks) -> FutureLimit:
    return FutureLimit(lambda: clocks.wall, lambda: clocks.steady)


def test_no_step() -> None:
    """The limit is a minute ahead."""
    clocks = Clocks()
    limit = make_limit(clocks)
    clocks.advance(100)
    assert limit.latest_ms() == round((NOW + 100) * 1000) + AHEAD_MS


def test_set_back() -> None:
    """For ten seconds the old time counts, too; then only the new one."""
    clocks = Clocks()
    limit = make_limit(clocks)
    clocks.wall -= HOUR
    assert limit.latest_ms() == round(NOW * 1000) + AHEAD_MS
    clocks.advance(FOLLOW_SECONDS - 0.5)
    assert limit.latest_ms() == round((NOW + FOLLOW_SECONDS - 0.5) * 1000) + AHEAD_MS
    clocks.advance(0.5)
    assert limit.latest_ms() == round((NOW - HOUR + FOLLOW_SECONDS) * 1000) + AHEAD_MS


def test_set_forward() -> None:
    """The new time counts at once."""
    clocks = Clocks()
    limit = make_limit(clocks)
    clocks.wall += HOUR
    assert limit.latest_ms() == round((NOW + HOUR) * 1000) + AHEAD_MS
    clocks.wall -= HOUR
    assert limit.latest_ms() == round((NOW + HOUR) * 1000) + AHEAD_MS
