"""The fleet's past, kept in a real Redis."""

import time
from typing import Any

from companion.query.history import load_points, record_summary
from companion.query.reader import Reader
from companion.times import epoch_ms
from companion.usrloc.contact import STATUSES
from tests.integration.conftest import MakeSetup

HOUR_MS = 3_600_000


def summary(online: int, p95: int | None, loss: float | None) -> dict[str, Any]:
    counts = dict.fromkeys(STATUSES, 0) | {"online": online}
    return {"devices": counts, "latency": {"p50_ms": p95, "p95_ms": p95, "p99_ms": p95}, "loss_ratio": loss}


def test_a_minute_is_noted_once(make_setup: MakeSetup) -> None:
    """However many schedulers note a minute, it is there once, and is read as it was."""
    setup = make_setup()
    for _ in range(3):
        record_summary(setup.store, summary(7, 120, 0.25))
    points = Reader(setup.config, setup.store).history(HOUR_MS)["points"]
    assert 1 <= len(points) <= 2, "two when a minute ended meanwhile"
    assert points[0].items() >= {"online": 7, "stale": 0, "p95_ms": 120, "loss_ratio": 0.25}.items()
    assert setup.store.connection.call("PTTL", setup.store.keys.history()) > 0


def test_nothing_known_is_null(make_setup: MakeSetup) -> None:
    """A fleet that nobody has pinged yet has no latency and no loss, not a latency of 0."""
    setup = make_setup()
    record_summary(setup.store, summary(0, None, None))
    (point,) = Reader(setup.config, setup.store).history(HOUR_MS)["points"]
    assert (point["p50_ms"], point["loss_ratio"]) == (None, None)


def test_few_minutes_of_a_long_window(make_setup: MakeSetup) -> None:
    """As long as little is known, each minute is a point; none is before the first known minute."""
    setup = make_setup()
    now = int(time.time()) // 60 * 60_000
    for minute in (now - 120_000, now - 60_000, now):
        entry = ("XADD", setup.store.keys.history(), f"{minute}-0")
        counts = dict.fromkeys((*STATUSES, "p50_ms", "p95_ms", "p99_ms", "loss_ratio"), 1)
        setup.store.connection.call(*entry, *(part for pair in counts.items() for part in pair))
    for window_ms in (24 * HOUR_MS, 7 * 24 * HOUR_MS):
        points = load_points(setup.store, now - window_ms, now + 30_000)
        assert [epoch_ms(point["at"]) for point in points] == [now - 120_000, now - 60_000, now]


def test_a_week_in_few_points(make_setup: MakeSetup) -> None:
    """A long window has at most 500 points: counts are averages, percentiles and loss the highest."""
    setup = make_setup()
    now = int(time.time()) // 60 * 60_000
    fields = [part for status in STATUSES for part in (status, 10)]
    key, latency = setup.store.keys.history(), ("p50_ms", 50, "p99_ms", 100)
    setup.store.connection.pipeline(
        (
            "XADD",
            key,
            f"{now - m * 60_000}-0",
            *fields,
            *latency,
            "p95_ms",
            m % 100,
            "loss_ratio",
            "0.5" if m == 99 else "",
        )
        for m in reversed(range(10_080))
    )
    points = load_points(setup.store, now - 7 * 24 * HOUR_MS, now)
    assert 450 <= len(points) <= 501
    assert {point["online"] for point in points} == {10}
    assert max(point["p95_ms"] for point in points) == 99
    assert [point["loss_ratio"] for point in points].count(0.5) == 1
