"""Test what is made of replies that came together."""

import pytest

from companion.store.connection import ResponseError
from companion.store.reading import Reading, check, make_mapping


def test_readings_beside_each_other() -> None:
    """Each reading gets the replies to its own commands, in whatever order readings are put together."""
    one = Reading([("GET", "a")], lambda replies: replies[0])
    two = Reading([("GET", "b"), ("GET", "c")], tuple)
    both = one.beside(two).then(lambda pair: pair).beside(one)
    assert both.commands == [("GET", "a"), ("GET", "b"), ("GET", "c"), ("GET", "a")]
    assert both.make([1, 2, 3, 4]) == ((1, (2, 3)), 4)


def test_maps_of_both_protocols() -> None:
    """A hash is the same whether the server sends a map (RESP3) or its parts in turn (RESP2)."""
    assert {"a": "1", "b": "2"} == make_mapping({"a": "1", "b": "2"}) == make_mapping(["a", "1", "b", "2"])


def test_errors_among_replies() -> None:
    """What is no reply but an error is raised, not taken for data."""
    with pytest.raises(ResponseError):
        check(ResponseError("WRONGTYPE"))
    with pytest.raises(ResponseError):
        make_mapping(ResponseError("WRONGTYPE"))
