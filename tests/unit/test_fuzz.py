"""The fuzzer: each parser takes some random input here, and all of `make fuzz` elsewhere."""

from collections import Counter
from random import Random

import pytest

from tests.fuzz.__main__ import Chunk, run_chunk, run_one
from tests.fuzz.mutation import mutate_bytes, mutate_value
from tests.fuzz.targets import TARGETS, Target


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_random_input(target: Target) -> None:
    """A parser answers whatever it is given, or raises its documented errors."""
    chunk = Chunk(Counter(), Counter(), [])
    for number in range(60):
        run_one(target, Random(number), number, chunk)
    assert chunk.crashes == []


def test_a_crash_is_found() -> None:
    """An error that is not documented is told with the input that made it; a documented one is counted."""
    chunk = Chunk(Counter(), Counter(), [])
    target = Target("division", lambda random: random.randrange(2), lambda number: 1 // number, (KeyError,))
    for number in range(20):
        run_one(target, Random(number), number, chunk)
    assert chunk.answered["division"] + len(chunk.crashes) == 20
    assert "ZeroDivisionError" in chunk.crashes[0]
    assert "division, input" in chunk.crashes[0]
    refusing = target._replace(errors=(ZeroDivisionError,))
    for number in range(20):
        run_one(refusing, Random(number), number, chunk)
    assert chunk.refused["division"] == 20 - chunk.answered["division"] // 2


def test_the_same_again() -> None:
    """The number of an input makes the same input again, so that a crash can be looked at."""
    seed = {"a": [1, {"b": "c"}], "d": None}
    assert [repr(mutate_value(Random(n), seed)) for n in range(50)] == [
        repr(mutate_value(Random(n), seed)) for n in range(50)
    ]
    assert mutate_bytes(Random(7), [b"abc"]) == mutate_bytes(Random(7), [b"abc"])
    one, other = (run_chunk(500, 30, web=False) for _ in range(2))
    assert (one.answered, one.refused) == (other.answered, other.refused)
