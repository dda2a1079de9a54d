"""When a page is advised to send less, and when more again."""

from collections.abc import Iterable

import pytest

from companion.media.advice import Advice, AdviceState, Policy, update_state
from companion.media.report import Item
from tests.unit.media.reports import NOW, happening, sample

POLICY = Policy(min_bps=16_000, max_bps=64_000, loss_percent=5, rtt_ms=400, after=10, recover_after=30)
GOOD, LOSSY, FAR, BETWEEN = (0.0, 30), (0.2, 30), (0.0, 500), (0.03, 30)


def seconds(*runs: tuple[tuple[float | None, float | None], int]) -> list[Item]:
    """Samples, given as runs of ((lost, round trip), how many)."""
    line = [measured for measured, count in runs for _ in range(count)]
    return [sample(n, outgoing_lost=lost, outgoing_rtt_ms=rtt_ms) for n, (lost, rtt_ms) in enumerate(line)]


def after(items: Iterable[Item], state: AdviceState | None = None, now: int = NOW) -> AdviceState:
    return update_state(state or AdviceState(), items, POLICY, now)


LESS, LEAST = Advice(32_000, "loss"), Advice(16_000, "loss")


@pytest.mark.parametrize(
    ("line", "advice"),
    [
        ([(GOOD, 600)], None),
        ([(LOSSY, 9)], None),
        ([(LOSSY, 10)], LESS),
        ([(FAR, 10)], Advice(32_000, "rtt")),
        ([(LOSSY, 20)], LEAST),
        ([(LOSSY, 600)], LEAST),
        ([(LOSSY, 5), (GOOD, 5), (LOSSY, 9)], None),
        ([(LOSSY, 5), (GOOD, 1), (LOSSY, 6)], LESS),
        ([(LOSSY, 5), (BETWEEN, 60), (LOSSY, 5)], LESS),
        ([(LOSSY, 1), (GOOD, 1)] * 60, None),
        ([(LOSSY, 10), (GOOD, 29)], LESS),
        ([(LOSSY, 10), (GOOD, 30)], Advice(48_000, "recovered")),
        ([(LOSSY, 10), (GOOD, 15), (LOSSY, 1), (GOOD, 15)], LESS),
        ([(LOSSY, 10), (BETWEEN, 600)], LESS),
        ([(LOSSY, 10), (GOOD, 60)], Advice(64_000, "recovered")),
        ([(LOSSY, 10), (GOOD, 600)], Advice(64_000, "recovered")),
        ([((None, None), 60)], None),
        ([((None, 500), 10)], Advice(32_000, "rtt")),
        ([(LOSSY, 10), ((None, 30), 60)], LESS),
        ([(LOSSY, 10), ((0.0, None), 60)], LESS),
    ],
)
def test_a_line(line: list[tuple[tuple[float | None, float | None], int]], advice: Advice | None) -> None:
    """Trouble that lasts lowers, calm that lasts raises, one second changes nothing, and between them it stays."""
    assert after(seconds(*line)).latest == advice


@pytest.mark.parametrize("flag", ["gap", "offline", "held"])
def test_what_tells_nothing(flag: str) -> None:
    """Seconds with a gap, offline or on hold say nothing of the line."""
    samples = [sample(n, outgoing_lost=0.5, flags=(flag,)) for n in range(60)]
    assert after(samples) == AdviceState()


def test_the_past() -> None:
    """What a page tells late, of when it was offline, is no reason for advice now."""
    assert after(seconds((LOSSY, 60)), now=NOW + 3_600_000) == AdviceState()


def test_told_until_done() -> None:
    """Advice is in each answer until the page says that it did just that."""
    state = after(seconds((LOSSY, 10)))
    assert state.advice == after([], state).advice == LESS
    assert after([happening(20, "limit", by="page", max_bps=32_000)], state).advice == LESS
    assert after([happening(20, "limit", by="advice", max_bps=16_000)], state).advice == LESS
    done = after([happening(20, "limit", by="advice", max_bps=32_000)], state)
    assert (done.advice, done.latest) == (None, LESS)
    assert after(seconds((LOSSY, 10)), done).advice == LEAST


def test_never_asked() -> None:
    """A page that limits itself unasked, and says it was advised, is not believed anything."""
    assert after([happening(0, "limit", by="advice", max_bps=8000)]) == AdviceState()


def test_in_parts_as_at_once() -> None:
    """It does not matter in how many reports a line is told."""
    line = seconds((LOSSY, 12), (GOOD, 40), (LOSSY, 30))
    state = AdviceState()
    for item in line:
        state = after([item], state)
    assert state == after(line)
