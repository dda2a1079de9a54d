"""A flood of like problems makes one line."""

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from companion import log
from companion.log import Episodes


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def lines() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as captured:
        yield captured


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def episodes(clock: Clock, lines: list[Any]) -> Episodes:
    return Episodes(log.get("test"), quiet_seconds=60, clock=clock)


def test_flood_is_one_line(episodes: Episodes, lines: list[Any]) -> None:
    """Of a thousand like problems the first is told, with its fields."""
    for number in range(1000):
        episodes.warn("too much", number=number)
    assert lines == [{"event": "too much", "log_level": "warning", "number": 0}]


def test_long_episode_stays_one(episodes: Episodes, clock: Clock, lines: list[Any]) -> None:
    """An episode lasts as long as its problem comes back within the quiet time, hours if need be."""
    for _ in range(100):
        episodes.warn("too much")
        clock.now += 60
    assert len(lines) == 1


def test_next_episode_counts_the_last(episodes: Episodes, clock: Clock, lines: list[Any]) -> None:
    """After a quiet minute a new line is written; it tells how many the last episode had."""
    for _ in range(3):
        episodes.warn("too much")
    clock.now += 60.1
    episodes.warn("too much")
    assert [line.get("previous_episode") for line in lines] == [None, 3]


def test_problems_do_not_hide_each_other(episodes: Episodes, lines: list[Any]) -> None:
    """Each problem has its own episodes."""
    for problem in ("one", "other", "one"):
        episodes.warn(problem)
    assert [line["event"] for line in lines] == ["one", "other"]


def test_clock_that_starts_at_zero(lines: list[Any]) -> None:
    """The first problem is told even in the first second of a machine's life."""
    Episodes(log.get("test"), clock=lambda: 0.0).warn("early")
    assert [line["event"] for line in lines] == ["early"]


def test_floods_of_libraries(clock: Clock) -> None:
    """What a library logs over and over from one place, for strangers, is told once an episode; all else always."""
    flood = log.FloodFilter(60, clock)

    def is_told(name: str, line: int, error: BaseException | None = None) -> bool:
        exc_info = (type(error), error, None) if error else None
        return flood.filter(logging.LogRecord(name, logging.ERROR, "x.py", line, "hostile", None, exc_info))

    lines = [("uvicorn.error", 1), ("uvicorn.error", 1), ("uvicorn.error", 2), ("companion.x", 3), ("companion.x", 3)]
    assert [is_told(*line) for line in lines] == [True, False, True, True, True]
    assert [is_told("asyncio", 4, error) for error in (OSError(), OSError(), KeyError())] == [True, False, True]
    assert not is_told("uvicorn.error", 5, asyncio.CancelledError())
    clock.now += 60.1
    assert is_told("uvicorn.error", 1)
