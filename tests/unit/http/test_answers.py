"""Answers that many ask for: read once, kept for a moment, and never when they could be wrong."""

import asyncio
from typing import TYPE_CHECKING, cast

import pytest

from companion.http.api import answers as answers_module
from companion.http.api.answers import FRESH_SECONDS, MAX_KEPT, Answers
from companion.text import Json

if TYPE_CHECKING:
    from companion.query.reader import Reader


class Fleet:
    """A fleet of some size whose reads are counted."""

    def __init__(self, *, is_fleet_large: bool = True) -> None:
        self.is_fleet_large = is_fleet_large
        self.reads = 0
        self.now = 100.0

    def answers(self) -> Answers:
        return Answers(cast("Reader", self), clock=lambda: self.now)

    def read(self) -> Json:
        self.reads += 1
        return {"reads": self.reads}

    def fail(self) -> Json:
        self.reads += 1
        raise ConnectionError("Redis is away")


async def test_readers_at_the_same_time_share_a_read() -> None:
    """Fifty readers that ask the same at once cost one read, and all get its answer."""
    fleet = Fleet()
    answers = fleet.answers()
    responses = await asyncio.gather(*(answers.respond("summary", fleet.read) for _ in range(50)))
    assert {bytes(response.body) for response in responses} == {b'{"reads":1}'}


async def test_an_answer_is_kept_for_a_moment_only() -> None:
    """A change shows at the latest FRESH_SECONDS after it happened."""
    fleet = Fleet()
    answers = fleet.answers()
    await answers.respond("summary", fleet.read)
    fleet.now += FRESH_SECONDS
    assert (await answers.respond("summary", fleet.read)).body == b'{"reads":1}'
    fleet.now += 0.01
    assert (await answers.respond("summary", fleet.read)).body == b'{"reads":2}'


async def test_other_questions_have_other_answers() -> None:
    """An answer is only given to its own question."""
    fleet = Fleet()
    answers = fleet.answers()
    assert (await answers.respond("one", fleet.read)).body != (await answers.respond("two", fleet.read)).body


async def test_a_small_fleet_is_read_anew() -> None:
    """Of a small fleet a change shows at once."""
    fleet = Fleet(is_fleet_large=False)
    answers = fleet.answers()
    await answers.respond("summary", fleet.read)
    assert (await answers.respond("summary", fleet.read)).body == b'{"reads":2}'


async def test_a_failed_read_is_told_to_all_and_not_kept() -> None:
    """While Redis is away everybody is told so, and the next one tries again."""
    fleet = Fleet()
    answers = fleet.answers()
    outcomes = await asyncio.gather(*(answers.respond("summary", fleet.fail) for _ in range(3)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ConnectionError] * 3
    assert fleet.reads == 1
    assert (await answers.respond("summary", fleet.read)).body == b'{"reads":2}'


async def test_one_that_leaves_takes_nothing_from_others() -> None:
    """A reader that hangs up does not end the read of those who wait with it."""
    fleet = Fleet()
    answers = fleet.answers()
    first = asyncio.create_task(answers.respond("summary", fleet.read))
    second = asyncio.create_task(answers.respond("summary", fleet.read))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).body == b'{"reads":1}'


async def test_few_answers_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Strangers who ask ever new questions do not fill the memory."""
    monkeypatch.setattr(answers_module, "FRESH_SECONDS", 3600)
    fleet = Fleet()
    answers = fleet.answers()
    for number in range(MAX_KEPT + 10):
        await answers.respond(number, fleet.read)
    await answers.respond(0, fleet.read)
    assert fleet.reads == MAX_KEPT + 11
