"""How often each call may be told of."""

from companion.http.reports.limits import LIVE_SECONDS, Limits


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_minutes_worth() -> None:
    """A minute's reports may come at once, then each in its time; who has to wait is told how long and not charged."""
    clock = Clock()
    limits = Limits(60, 10, clock)
    assert [limits.wait("a") for _ in range(61)] == [0] * 60 + [1]
    assert limits.wait("b") == 0
    clock.now += 1
    assert [limits.wait("a"), limits.wait("a")] == [0, 1]


def test_large_reports() -> None:
    """A large report counts as several, but never as more than a minute's worth."""
    limits = Limits(10, 10, Clock())
    assert [limits.wait("a", 6), limits.wait("a", 6)] == [0, 12]
    assert [limits.wait("b", 1000), limits.wait("b")] == [0, 6]


def test_bounded() -> None:
    """Only so many calls are known; a new one takes the place of the one told of longest ago."""
    clock = Clock()
    limits = Limits(1, 2, clock)
    assert [limits.wait(call) for call in "abacb"] == [0, 0, 60, 0, 0]
    assert [limits.wait(call) for call in "cb"] == [60, 60]


def test_live() -> None:
    """A call goes on from its first report until it ends, or nothing was heard of it for a while."""
    clock = Clock()
    limits = Limits(60, 10, clock)
    for call in "ab":
        limits.wait(call)
        limits.note_report(call, ended=False)
    assert limits.live() == 2
    limits.note_report("a", ended=True)
    assert limits.live() == 1
    clock.now += LIVE_SECONDS
    assert limits.live() == 0
    limits.note_report("nobody", ended=False)
    assert limits.live() == 0
